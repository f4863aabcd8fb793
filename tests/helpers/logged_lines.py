"""Lines of the service's logs."""

from typing import Any

from recsys.instants import HOUR, parse_instant
from recsys.logs.records import Exposure, RecordedEvent, encode_event, encode_exposure

MARCH_1 = parse_instant("2026-03-01")


def exposure(request: str, hours: float = 0.0, user: str = "ann", **others: Any) -> bytes:
    """Return the line of a page of three sales, served some hours after 1 March."""
    at = MARCH_1 + int(hours * HOUR)
    shown = [(2, 0.5), (0, 0.25), (1, None)]
    return encode_exposure(
        Exposure(at, request, user, "home", "meta", "3", "20260301T000000Z-1a", "NONE", 10, shown, "abc", **others)
    )


def visit(user: str, hours: float, recorded: float, **others: Any) -> bytes:
    instants = [MARCH_1 + int(each * HOUR) for each in (hours, recorded)]
    return encode_event(RecordedEvent(user, "s1", "visit", *instants, **others))
