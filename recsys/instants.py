"""Instants as int64 microseconds since 1970 UTC: the form in which arrays, Spark and Arrow agree."""

from datetime import UTC, date, datetime, timedelta

from recsys.errors import ConfigurationError

SECOND = 1_000_000
HOUR = 3600 * SECOND
DAY = 24 * HOUR
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_micros(instant: datetime) -> int:
    """Return an aware instant as microseconds since 1970 UTC.

    Raises:
        ConfigurationError: If the instant has no zone.
    """
    if instant.tzinfo is None:
        raise ConfigurationError(f"instant {instant.isoformat()} has no zone: write {instant.isoformat()}Z for UTC")
    return (instant - _EPOCH) // timedelta(microseconds=1)


def parse_instant(text: str) -> int:
    """Read a date, its midnight UTC, or an instant with a zone, such as 2026-03-01 or 2026-03-01T02:30:00Z.

    Raises:
        ConfigurationError: If it is neither.
    """
    try:
        instant = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigurationError(
            f"instant '{text}', must be a date or an instant such as 2026-03-01 or 2026-03-01T02:30:00Z"
        ) from error
    return to_micros(instant.replace(tzinfo=UTC) if len(text) == len("2026-03-01") else instant)


def from_micros(micros: int) -> datetime:
    """Return microseconds since 1970 as an aware UTC instant."""
    return _EPOCH + timedelta(microseconds=int(micros))


def compact(micros: int) -> str:
    """Return an instant as a name for folders, such as 20260301T000000Z."""
    return f"{from_micros(micros):%Y%m%dT%H%M%SZ}"


def dates(start: int, end: int) -> list[date]:
    """Return each UTC date that an instant of [start, end) has, ascending; microseconds, none where end <= start."""
    return [from_micros(day * DAY).date() for day in range(start // DAY, -(-end // DAY))] if start < end else []


def midnights(first: int, last: int) -> list[int]:
    """Return each instant from first to last, both included, in steps of a day."""
    return list(range(first, last + 1, DAY))
