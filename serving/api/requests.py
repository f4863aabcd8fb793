"""Validates requests: a value that breaks a rule is refused with an error that names the rule."""

import re
from collections.abc import Container, Mapping, Sequence
from typing import Any, NamedTuple

from google.protobuf.timestamp_pb2 import Timestamp
from recommendations.v1 import recommendations_pb2 as pb

from recsys.config.serving import LimitSettings
from recsys.errors import ConfigurationError
from recsys.ids import trimmed
from recsys.instants import EARLIEST, SECOND, format_instant, from_micros
from recsys.logs.records import MAX_REVENUE, RecordedEvent
from serving.answers.pages import HOME, SIMILAR, AttributeFilter, PageRequest, Visit

DEFAULT_N = 10
_REQUEST_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
_EXPLAINED_COST = 10.0
_SIMILARITY_COST = 2.0
_AHEAD = 60 * SECOND
_LIVE = "live"
_RANKINGS = (_LIVE, "snapshot")
_NO_ATTRIBUTES: Mapping[str, str] = {}
_KINDS = {pb.EVENT_KIND_VISIT: "visit", pb.EVENT_KIND_PURCHASE: "purchase"}


def page_request(request: pb.GetTopSalesRequest, default_policy: str, limits: LimitSettings) -> PageRequest:
    """Validate a request for a page.

    Raises:
        ConfigurationError: If a value breaks a rule; names both.
    """
    user_id, policy, surface = request.user_id, request.policy, request.surface
    if len(user_id) + len(policy) + len(surface) > limits.max_text_bytes // 4:  # otherwise none of them can be too long
        for name, text in (("user_id", user_id), ("policy", policy), ("surface", surface)):
            _check_text(name, text, limits.max_text_bytes)
    if request.request_id and not _REQUEST_ID.fullmatch(request.request_id):
        raise ConfigurationError(
            f"request_id == {_quote_start(request.request_id)}, must be 1 to 64 characters of 0-9 A-Z a-z _ -"
        )
    if request.without_rules or request.ranking:
        _check_preview(request)
    attributes = request.attributes
    return PageRequest(
        trimmed(user_id),
        policy or default_policy,
        _checked_n(request.n, limits.max_n),
        surface or HOME,
        _checked_attributes(attributes, limits) if attributes else _NO_ATTRIBUTES,
        [Visit(sale_id) for sale_id in _checked_ids("session_sale_ids", request.session_sale_ids, 100, limits)],
        _checked_ids("allowed_sale_ids", request.allowed_sale_ids, limits.max_sale_ids, limits),
        _checked_ids("denied_sale_ids", request.denied_sale_ids, limits.max_sale_ids, limits),
        request.explain,
        _micros(request.answer_time) if request.HasField("answer_time") else None,
        _checked_filters(request.filters, limits) if request.filters else (),
        language=_check_text("language", request.language, limits.max_text_bytes) if request.language else "",
    )


def previewed(request: PageRequest, message: pb.GetTopSalesRequest) -> PageRequest:
    """Return the request of a preview as it was asked for, whatever an experiment assigns."""
    if message.without_rules:
        request = request._replace(follows_rules=False)
    return request._replace(is_live=message.ranking == _LIVE) if message.ranking else request


def similar_request(request: pb.GetSimilarSalesRequest, default_policy: str, limits: LimitSettings) -> PageRequest:
    """Validate a request for sales that resemble one; see `page_request`."""
    sale_id, page = check_sale_id(request.sale_id, limits), page_request(request.page, default_policy, limits)
    surface = request.page.surface or SIMILAR
    return page._replace(like=sale_id, surface=surface, session=(), denied=[*page.denied, sale_id])


def page_instant(answer_time: int | None, now: int, horizon_end: int) -> int:
    """Return the instant that a page is for, in microseconds since 1970 UTC.

    Args:
        answer_time: The requested instant; None for the present.
        now: The present. Instants up to a minute before it, by the clock of the caller, stand for it.
        horizon_end: The instant from which, included, the snapshot may lack open sales.

    Raises:
        ConfigurationError: If the instant is in the past, or the snapshot does not reach it.
    """
    if answer_time is None:
        return now
    if not now - _AHEAD <= answer_time < horizon_end:
        until = f"the end of the snapshot's horizon, {format_instant(horizon_end)} (excluded)"
        rule = (
            f"must be from the present, {format_instant(now)}, to {until}: ask for a later instant after the next night"
        )
        raise ConfigurationError(f"answer_time == {format_instant(answer_time)}, {rule}")
    return max(now, answer_time)


class CheckedEvents(NamedTuple):
    """The events of a request: those that follow the rules, and those that do not."""

    accepted: list[RecordedEvent]
    refused: list[pb.RefusedEvent]
    of_unknown_sales: int
    """Number of the refused events whose only fault is that the snapshot does not know their sale."""


def checked_events(
    request: pb.RecordEventsRequest,
    now: int,
    limits: LimitSettings,
    known_sales: Container[str] | None = None,
    behind: int = 0,
) -> CheckedEvents:
    """Validate the events of a request, each by itself.

    Args:
        request: Visits and purchases.
        now: Microseconds since 1970 UTC.
        limits: The service's limits.
        known_sales: The ids of the sales that events may refer to; None for any.
        behind: How far `now` is behind the clock of the system, in microseconds: a service that replays the past takes
            the instants of callers, whose clocks do not, for instants of the replay.

    Raises:
        ConfigurationError: If the request has too few or too many events.
    """
    check_count("events", len(request.events), limits.max_batch)
    accepted, refused, unknown = [], [], 0
    for index, event in enumerate(request.events):
        try:
            checked = _event(event, f"events[{index}].", now, behind, limits)
        except ConfigurationError as error:
            refused.append(pb.RefusedEvent(index=index, reason=str(error)))
            continue
        if known_sales is None or checked.sale_id in known_sales:
            accepted.append(checked)
        else:
            reason = f"events[{index}].sale_id == {_quote_start(event.sale_id)}, must be a sale that the snapshot knows"
            refused.append(pb.RefusedEvent(index=index, reason=reason))
            unknown += 1
    return CheckedEvents(accepted, refused, unknown)


def check_count(name: str, count: int, most: int) -> None:
    """Check that a list has 1 to `most` entries."""
    if not 1 <= count <= most:
        raise ConfigurationError(f"{name} has {count} entries, must have 1..{most}")


def cost_of(request: Any) -> float:
    """Return the cost of a request in pages without reasons: the unit in which callers are limited."""
    if isinstance(request, pb.GetTopSalesRequest):
        return _EXPLAINED_COST if request.explain else 1.0
    if isinstance(request, pb.GetSimilarSalesRequest):
        return _SIMILARITY_COST + cost_of(request.page)
    return sum(map(cost_of, request.requests)) if isinstance(request, pb.BatchGetTopSalesRequest) else 1.0


def check_sale_id(sale_id: str, limits: LimitSettings) -> str:
    """Check and return the id of a sale, trimmed."""
    sale_id = trimmed(sale_id)
    if not sale_id:
        raise ConfigurationError("sale_id == '', must be a sale id")
    return _check_text("sale_id", sale_id, limits.max_text_bytes)


def _event(event: pb.Event, name: str, now: int, behind: int, limits: LimitSettings) -> RecordedEvent:
    for field in ("user_id", "sale_id", "attribution_token", "event_id"):
        _check_text(name + field, getattr(event, field), limits.max_text_bytes)
    for field in ("user_id", "sale_id"):
        if not trimmed(getattr(event, field)):
            raise ConfigurationError(f"{name}{field} == '', must not be empty")
    if event.kind not in _KINDS:
        raise ConfigurationError(f"{name}kind == {event.kind}, must be EVENT_KIND_VISIT or EVENT_KIND_PURCHASE")
    revenue = event.revenue if event.HasField("revenue") else None
    if revenue is not None and not 0 <= revenue <= MAX_REVENUE:
        raise ConfigurationError(f"{name}revenue == {revenue}, must be a number in 0..{MAX_REVENUE:g}")
    return RecordedEvent(
        user_id=trimmed(event.user_id),
        sale_id=trimmed(event.sale_id),
        kind=_KINDS[event.kind],
        occurred_at=_occurred_at(event, name, now, behind),
        recorded_at=now,
        revenue=revenue,
        attribution_token=event.attribution_token,
        event_id=event.event_id,
    )


def _occurred_at(event: pb.Event, name: str, now: int, behind: int) -> int:
    if not event.HasField("occur_time"):
        return now
    occurred_at = _micros(event.occur_time)
    if occurred_at > now + _AHEAD:
        occurred_at -= behind
    if not EARLIEST <= occurred_at <= now + _AHEAD:
        raise ConfigurationError(
            f"{name}occur_time == {format_instant(_micros(event.occur_time))}, must be from "
            f"{from_micros(EARLIEST):%Y-%m-%d} until one minute after the present, {format_instant(now)}"
        )
    return occurred_at


def _micros(time: Timestamp) -> int:
    return time.seconds * SECOND + time.nanos // 1000


def _checked_filters(filters: Sequence[pb.AttributeFilter], limits: LimitSettings) -> list[AttributeFilter]:
    if len(filters) > limits.max_attributes:
        raise ConfigurationError(f"filters has {len(filters)} entries, must have at most {limits.max_attributes}")
    for each in filters:
        _check_text("filters.attribute", each.attribute, limits.max_text_bytes)
        check_count("filters.values", len(each.values), limits.max_sale_ids)
        _checked_ids("filters.values", each.values, limits.max_sale_ids, limits)
    return [AttributeFilter(each.attribute, frozenset(each.values), each.exclude) for each in filters]


def _check_preview(request: pb.GetTopSalesRequest) -> None:
    if not request.preview:
        name, value = ("ranking", repr(request.ranking)) if request.ranking else ("without_rules", "true")
        raise ConfigurationError(f"{name} == {value[:40]}, must be absent unless preview == true")
    if request.ranking and request.ranking not in _RANKINGS:
        raise ConfigurationError(
            f"ranking == {_quote_start(request.ranking)}, must be {' or '.join(_RANKINGS)}, or empty"
        )


def _checked_n(n: int, most: int) -> int:
    if not 0 <= n <= most:
        raise ConfigurationError(f"n == {n}, must be in 1..{most}, or 0 for {DEFAULT_N}")
    return n or DEFAULT_N


def _checked_ids(name: str, ids: Sequence[str], most: int, limits: LimitSettings) -> list[str]:
    checked = [trimmed(sale_id) for sale_id in ids]
    if not checked:
        return checked
    if len(checked) > most:
        raise ConfigurationError(f"{name} has {len(checked)} entries, must have at most {most}")
    if 4 * max(map(len, ids)) > limits.max_text_bytes:  # a character takes at most four bytes
        for sale_id in ids:
            _check_text(name, sale_id, limits.max_text_bytes)
    return checked


def _checked_attributes(attributes: Mapping[str, str], limits: LimitSettings) -> dict[str, str]:
    if len(attributes) > limits.max_attributes:
        raise ConfigurationError(f"attributes has {len(attributes)} entries, must have at most {limits.max_attributes}")
    for name, value in attributes.items():
        _check_text("attributes", name, limits.max_text_bytes)
        _check_text(f"attributes[{_quote_start(name)}]", value, limits.max_text_bytes)
    return dict(attributes)


def _check_text(name: str, text: str, most: int) -> str:
    if 4 * len(text) <= most:  # a character takes at most four bytes
        return text
    length = len(text.encode("utf-8", "surrogatepass"))
    if length > most:
        raise ConfigurationError(f"{name} == {_quote_start(text)} has {length} bytes, must have at most {most}")
    return text


def _quote_start(text: str) -> str:
    """Quote a text, or its first 20 characters."""
    return repr(text if len(text) <= 20 else text[:20] + "…")
