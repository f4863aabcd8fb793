"""Checks what callers send: every value that breaks a rule is refused with its rule."""

import re
from collections.abc import Mapping, Sequence

from recommendations.v1 import recommendations_pb2 as pb

from recsys.errors import ConfigurationError
from recsys.exposures import RecordedEvent
from recsys.instants import SECOND
from recsys.serving_settings import LimitSettings
from serving.answers.pages import HOME, PageRequest, Visit

DEFAULT_N = 10
_REQUEST_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
_AHEAD = 60 * SECOND
_KINDS = {pb.EVENT_KIND_VISIT: "visit", pb.EVENT_KIND_PURCHASE: "purchase"}


def page_request(request: pb.GetTopSalesRequest, default_policy: str, limits: LimitSettings) -> PageRequest:
    """Check a request for a page.

    Raises:
        ConfigurationError: Naming the value and the rule that it breaks.
    """
    given = {field.name: value for field, value in request.ListFields()}  # what is absent takes no time
    session = list(given.get("session_sale_ids", ()))
    allowed, denied = list(given.get("allowed_sale_ids", ())), list(given.get("denied_sale_ids", ()))
    attributes = dict(given.get("attributes", ()))
    _check_ids("session_sale_ids", session, 100, limits.max_text_bytes)
    _check_ids("allowed_sale_ids", allowed, limits.max_sale_ids, limits.max_text_bytes)
    _check_ids("denied_sale_ids", denied, limits.max_sale_ids, limits.max_text_bytes)
    _check_attributes(attributes, limits)
    for name in ("user_id", "policy", "surface"):
        if name in given:
            _check_text(name, given[name], limits.max_text_bytes)
    request_id = given.get("request_id")
    if request_id and not _REQUEST_ID.fullmatch(request_id):
        raise ConfigurationError(f"request_id == {_shown(request_id)}, must be 1 to 64 of 0-9 A-Z a-z _ -")
    return PageRequest(
        user_id=given.get("user_id", ""),
        policy=given.get("policy") or default_policy,
        n=_checked_n(given.get("n", 0), limits.max_n),
        surface=given.get("surface") or HOME,
        attributes=attributes,
        session=[Visit(sale_id) for sale_id in session],
        allowed=allowed,
        denied=denied,
        explain=given.get("explain", False),
    )


def recorded_events(request: pb.RecordEventsRequest, now: int, limits: LimitSettings) -> list[RecordedEvent]:
    """Check events.

    Raises:
        ConfigurationError: Naming the event, the value and the rule that it breaks.
    """
    check_count("events", len(request.events), limits.max_batch)
    return [_event(event, f"events[{number}].", now, limits) for number, event in enumerate(request.events)]


def check_count(name: str, count: int, most: int) -> None:
    """Check the length of a list that must not be empty."""
    if not 1 <= count <= most:
        raise ConfigurationError(f"{name} has {count} entries, must have 1..{most}")


def check_sale_id(sale_id: str, limits: LimitSettings) -> str:
    """Check the id of a sale."""
    if not sale_id:
        raise ConfigurationError("sale_id == '', must be a sale")
    return _check_text("sale_id", sale_id, limits.max_text_bytes)


def _event(event: pb.Event, name: str, now: int, limits: LimitSettings) -> RecordedEvent:
    for field in ("user_id", "sale_id", "attribution_token"):
        _check_text(name + field, getattr(event, field), limits.max_text_bytes)
    for field in ("user_id", "sale_id"):
        if not getattr(event, field):
            raise ConfigurationError(f"{name}{field} == '', must not be empty")
    if event.kind not in _KINDS:
        raise ConfigurationError(f"{name}kind == {event.kind}, must be EVENT_KIND_VISIT or EVENT_KIND_PURCHASE")
    revenue = event.revenue if event.HasField("revenue") else None
    if revenue is not None and not 0 <= revenue < float("inf"):
        raise ConfigurationError(f"{name}revenue == {revenue}, must be a number of at least 0")
    return RecordedEvent(
        user_id=event.user_id,
        sale_id=event.sale_id,
        kind=_KINDS[event.kind],
        occurred_at=_occurred_at(event, name, now),
        recorded_at=now,
        revenue=revenue,
        attribution_token=event.attribution_token,
    )


def _occurred_at(event: pb.Event, name: str, now: int) -> int:
    if not event.HasField("occur_time"):
        return now
    occurred_at = event.occur_time.seconds * SECOND + event.occur_time.nanos // 1000
    if not 0 <= occurred_at <= now + _AHEAD:
        seconds = event.occur_time.seconds
        raise ConfigurationError(f"{name}occur_time == {seconds} s, must be from 1970 until a minute after the present")
    return occurred_at


def _checked_n(n: int, most: int) -> int:
    if not 0 <= n <= most:
        raise ConfigurationError(f"n == {n}, must be in 1..{most}, or 0 for {DEFAULT_N}")
    return n or DEFAULT_N


def _check_ids(name: str, ids: Sequence[str], most: int, max_bytes: int) -> None:
    if len(ids) > most:
        raise ConfigurationError(f"{name} has {len(ids)} entries, must have at most {most}")
    if 4 * max(map(len, ids), default=0) > max_bytes:  # a character takes at most four bytes
        for sale_id in ids:
            _check_text(name, sale_id, max_bytes)


def _check_attributes(attributes: Mapping[str, str], limits: LimitSettings) -> None:
    if len(attributes) > limits.max_attributes:
        raise ConfigurationError(f"attributes has {len(attributes)} entries, must have at most {limits.max_attributes}")
    for name, value in attributes.items():
        _check_text("attributes", name, limits.max_text_bytes)
        _check_text(f"attributes[{_shown(name)}]", value, limits.max_text_bytes)


def _check_text(name: str, text: str, most: int) -> str:
    if 4 * len(text) <= most:  # a character takes at most four bytes
        return text
    length = len(text.encode("utf-8", "surrogatepass"))
    if length > most:
        raise ConfigurationError(f"{name} == {_shown(text)} has {length} bytes, must have at most {most}")
    return text


def _shown(text: str) -> str:
    return repr(text if len(text) <= 20 else text[:20] + "…")
