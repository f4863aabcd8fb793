"""The service's two logs, one JSON line per record: each page that it served, each event that the website reported.

Keys are the columns of `recsys/tables/logs.py`. Instants are integers, microseconds since 1970 UTC: Spark reads
them exactly, and no text format has to be agreed on.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

EXPOSURES = "exposures"
RECORDED_EVENTS = "recorded_events"
"""The names of the two logs: of their folders, and the first part of their files' names."""

Shown = tuple[int, float | None, *tuple[Any, ...]]
"""The index of a sale in a list of ids and its score, None where it fills up the page; what follows is not logged."""

Texts = list[str] | tuple[str, ...]


ASSIGNED, OVERRIDE, HOLDOUT, FALLBACK, KILL = "assigned", "override", "holdout", "fallback", "kill"
"""Why a page was served from a variant of an experiment, or was not although its user was assigned to one."""


class Assignment(NamedTuple):
    """The variant of an experiment that a page was served from, and why."""

    experiment: str
    phase: int
    variant: str
    bucket: int | None
    reason: str
    """`assigned`, `override`, `holdout`, `fallback` or `kill`."""
    configuration_sha: str


_NO_ASSIGNMENT = (None,) * len(Assignment._fields)


class Exposure(NamedTuple):
    """One served page; made for each request, and read only when it is encoded."""

    exposed_at: int
    """Microseconds since 1970 UTC, by the clock of the service."""
    request_id: str
    user_id: str
    """The unit of experiments; empty for an anonymous visit."""
    surface: str
    policy: str
    """The policy that ordered the page, after any fallback."""
    model_version: str
    snapshot: str
    fallback_level: str
    n: int
    """Number of sales that the caller asked for."""
    shown: Sequence[Shown]
    """The sales of the page, best first."""
    sale_ids: Sequence[str]
    """The list of ids that `shown` holds indices into; it is never changed."""
    attributes: dict[str, str] = {}
    """The request's attributes, which the targeting of experiments reads."""
    session_sale_ids: Texts = ()
    """The sales of the running session that the page was ordered by."""
    rules: Texts = ()
    """The rules that changed the page."""
    assignment: Assignment | None = None
    propensities: list[float] | None = None
    """The propensity of each sale, the probability that it was drawn for its position; None if nothing is drawn."""
    overlap_at_10: float | None = None
    """Share of the first 10 positions at which another variant's page has the same sale, for the variant that differs
    most: 1 means that all variants show the same 10 sales in the same order."""
    teams: Texts | None = None
    """The variant that contributed each sale, where two policies are interleaved; else None."""


MAX_REVENUE = 1e12
"""Largest revenue of an event, in any currency; sums over users of its square and cube stay finite."""


class RecordedEvent(NamedTuple):
    """A visit or purchase that the website reported to the service."""

    user_id: str
    sale_id: str
    kind: str
    """`visit` or `purchase`."""
    occurred_at: int
    """Microseconds since 1970 UTC."""
    recorded_at: int
    """When it was reported to the service, microseconds since 1970 UTC."""
    revenue: float | None = None
    attribution_token: str = ""
    """The request_id of the page that led to it; empty where none is known."""
    event_id: str = ""
    """The same for each delivery of the event; if empty, a digest of user_id, sale_id, kind and occurred_at is used."""


def event_id(experiment: str | None, phase: int | None, unit: str, request_id: str) -> str:
    """Return the id of an exposure, the same for each delivery; experiment and phase are None if it has none."""
    return _digest(experiment or "", "" if phase is None else phase, unit, request_id)


def encode_exposure(exposure: Exposure) -> bytes:
    """Return an exposure as one JSON line."""
    line: dict[str, Any] = dict(zip(Exposure._fields, exposure, strict=True))
    shown, ids = line.pop("shown"), exposure.sale_ids
    line["sale_ids"] = [ids[sale[0]] for sale in shown]
    line["scores"] = [sale[1] for sale in shown]
    line |= zip(Assignment._fields, line.pop("assignment") or _NO_ASSIGNMENT, strict=True)
    line["event_id"] = event_id(line["experiment"], line["phase"], exposure.user_id, exposure.request_id)
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def encode_event(event: RecordedEvent) -> bytes:
    """Return a recorded event as one JSON line."""
    line = event._asdict()
    line["event_id"] = event.event_id or _digest(event.user_id, event.sale_id, event.kind, event.occurred_at)
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def _digest(*parts: str | int) -> str:
    return hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()[:32]
