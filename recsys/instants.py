"""Instants as int64 microseconds since 1970-01-01 UTC, the form that numpy, Spark and Arrow share."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated

from pydantic import BeforeValidator

from recsys.errors import ConfigurationError

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
QUARTER = HOUR // 4
DAY = 24 * HOUR
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RULE = "must be a date or an instant such as 2026-03-01 or 2026-03-01T02:30:00Z"
EARLIEST = (datetime(1990, 1, 1, tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
LATEST = (datetime(2200, 1, 1, tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
"""The range of all instants of the product, [EARLIEST, LATEST); only a sale's closing may be LATEST: it never closes.

Every later stage can hold them: nanoseconds in int64 (pandas, and pyarrow where it reads Spark's INT96) end in 1677 and
2262, Python's datetime in 1 and 9999, Spark's Parquet changes its calendar in 1582. An instant before 1990 is one that
was read in a wrong unit, or the zero of a clock.
"""


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
        ConfigurationError: If the text is neither, the instant has no time zone, or it is outside [EARLIEST, LATEST).
    """
    try:
        instant = datetime.combine(date.fromisoformat(text.strip()), time.min, UTC)
    except ValueError:  # more than a date
        try:
            instant = datetime.fromisoformat(text.strip())
        except ValueError as error:
            raise ConfigurationError(f"instant '{text}', {_RULE}") from error
    return to_micros_in_range(instant)


def to_micros_in_range(instant: datetime) -> int:
    """Return an instant in [EARLIEST, LATEST) as microseconds since 1970-01-01 UTC.

    Raises:
        ConfigurationError: If it is outside of the range, or has no time zone.
    """
    micros = to_micros(instant)
    if not EARLIEST <= micros < LATEST:
        raise ConfigurationError(
            f"instant {instant.isoformat()}, must be from {from_micros(EARLIEST):%Y-%m-%d} to before "
            f"{from_micros(LATEST):%Y-%m-%d}"
        )
    return micros


def format_instant(instant: int) -> str:
    """Return an instant as people read it, or its seconds where no calendar has it."""
    try:
        return f"{from_micros(instant):%Y-%m-%d %H:%M:%S} UTC"
    except (OverflowError, ValueError):
        return f"{instant // SECOND} s"


def _read_instant(value: object) -> datetime:
    """Return what a configuration file holds as an instant in UTC: YAML reads one without quotes by itself."""
    try:
        if isinstance(value, datetime):
            return from_micros(to_micros_in_range(value))
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
