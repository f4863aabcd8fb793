"""Instants as int64 microseconds since 1970-01-01 UTC, the form that numpy, Spark and Arrow share."""

from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated

from pydantic import BeforeValidator

from recsys.errors import ConfigurationError

SECOND = 1_000_000
HOUR = 3600 * SECOND
DAY = 24 * HOUR
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RULE = "must be a date or an instant such as 2026-03-01 or 2026-03-01T02:30:00Z"


def to_micros(instant: datetime) -> int:
    """Return a time-zone-aware instant as microseconds since 1970-01-01 UTC.

    Raises:
        ConfigurationError: If the instant has no time zone.
    """
    if instant.tzinfo is None:
        raise ConfigurationError(f"instant {instant.isoformat()} has no zone: write {instant.isoformat()}Z for UTC")
    return (instant - _EPOCH) // timedelta(microseconds=1)


def parse_instant(text: str) -> int:
    """Return an instant such as 2026-03-01T02:30:00Z, or a date's midnight UTC, as microseconds since 1970-01-01 UTC.

    Raises:
        ConfigurationError: If the text is neither, or the instant has no time zone.
    """
    with suppress(ValueError):
        return to_micros(datetime.combine(date.fromisoformat(text.strip()), time.min, UTC))
    try:
        return to_micros(datetime.fromisoformat(text.strip()))
    except ValueError as error:
        raise ConfigurationError(f"instant '{text}', {_RULE}") from error


def _read_instant(value: object) -> datetime:
    """Return what a configuration file holds as an instant in UTC: YAML reads one without quotes by itself."""
    try:
        if isinstance(value, datetime):
            return from_micros(to_micros(value))
        if isinstance(value, str | date):
            return from_micros(parse_instant(str(value)))
    except ConfigurationError as error:
        raise ValueError(str(error)) from error
    raise ValueError(_RULE)


Instant = Annotated[datetime, BeforeValidator(_read_instant)]
"""A field of settings: an instant with a zone or a date, with or without quotes; in UTC."""


def from_micros(micros: int) -> datetime:
    """Return microseconds since 1970-01-01 UTC as a time-zone-aware instant in UTC."""
    return _EPOCH + timedelta(microseconds=int(micros))


def compact(micros: int) -> str:
    """Return an instant as a folder name, such as 20260301T000000Z."""
    return f"{from_micros(micros):%Y%m%dT%H%M%SZ}"


def dates(start: int, end: int) -> list[date]:
    """Return the UTC dates of [start, end), in microseconds, ascending; none where end <= start."""
    return [from_micros(day * DAY).date() for day in range(start // DAY, -(-end // DAY))] if start < end else []


def midnights(first: int, last: int) -> list[int]:
    """Return the instants from first to last, both included, in steps of 24 hours."""
    return list(range(first, last + 1, DAY))
