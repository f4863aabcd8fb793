from datetime import UTC, date, datetime, timedelta, timezone

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.errors import ConfigurationError
from recsys.instants import (
    DAY,
    EARLIEST,
    HOUR,
    LATEST,
    compact,
    dates,
    from_micros,
    midnights,
    parse_instant,
    to_micros,
)

MARCH_1 = 20_513 * DAY  # 56 years of 365 days, 14 leap days, January and February: 20440 + 14 + 59


def test_date_is_its_midnight_utc() -> None:
    assert parse_instant("2026-03-01") == MARCH_1


@pytest.mark.parametrize(
    "text",
    [
        "2026-03-01T02:30:00Z",
        "2026-03-01T02:30:00+00:00",
        "2026-03-01T03:30:00+01:00",
        "2026-02-28T21:30-05:00",
        " 2026-03-01 02:30Z",
    ],
)
def test_instant_is_read_in_its_zone(text: str) -> None:
    assert parse_instant(text) == MARCH_1 + 2 * HOUR + HOUR // 2


@pytest.mark.parametrize("text", ["", "today", "2026-3-1", "2026-02-30", "2026-03-01T25:00:00Z"])
def test_text_that_is_no_instant_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigurationError, match=f"instant '{text}', must be a date or an instant such as 2026-03-01"):
        parse_instant(text)


def test_instant_without_a_zone_is_refused_and_the_error_says_what_to_write() -> None:
    with pytest.raises(ConfigurationError, match="2026-03-01T02:30:00 has no zone: write 2026-03-01T02:30:00Z"):
        parse_instant("2026-03-01T02:30:00")
    with pytest.raises(ConfigurationError, match="has no zone"):
        to_micros(datetime(2026, 3, 1))


@pytest.mark.parametrize(
    "text", ["1989-12-31", "2200-01-01", "9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+14:00", "1970-01-01"]
)
def test_instant_outside_of_the_range_of_the_product_is_refused(text: str) -> None:
    with pytest.raises(
        ConfigurationError, match=f"instant {text[:10]}.*, must be from 1990-01-01 to before 2200-01-01"
    ):
        parse_instant(text)


def test_range_fits_into_nanoseconds_and_has_room_for_a_horizon() -> None:
    assert parse_instant("1990-01-01") == EARLIEST
    assert parse_instant("2199-12-31T23:59:59Z") < LATEST
    assert pd.Timestamp(from_micros(LATEST) + timedelta(days=365)).value // 1000 == LATEST + 365 * DAY


def test_microseconds_are_kept_exactly() -> None:
    last = datetime(2026, 2, 28, 23, 59, 59, 999_999, tzinfo=UTC)
    assert to_micros(last) == MARCH_1 - 1
    assert from_micros(MARCH_1 - 1) == last


def test_zone_does_not_change_the_instant() -> None:
    assert to_micros(datetime(2026, 3, 1, 1, tzinfo=timezone(timedelta(hours=1)))) == MARCH_1


@given(st.datetimes(min_value=datetime(1900, 1, 1), timezones=st.just(UTC)))
def test_instant_comes_back_from_micros(instant: datetime) -> None:
    assert from_micros(to_micros(instant)) == instant


def test_compact_name_has_no_separators() -> None:
    assert compact(MARCH_1 + 2 * HOUR) == "20260301T020000Z"


def test_midnights_include_both_ends() -> None:
    assert midnights(MARCH_1, MARCH_1 + 2 * DAY) == [MARCH_1, MARCH_1 + DAY, MARCH_1 + 2 * DAY]
    assert midnights(MARCH_1, MARCH_1) == [MARCH_1]
    assert midnights(MARCH_1, MARCH_1 - DAY) == []


@pytest.mark.parametrize(
    ("start", "end", "days"),
    [
        (0, DAY, [1]),
        (0, DAY + 1, [1, 2]),
        (HOUR, DAY + HOUR, [1, 2]),  # a day that begins at no midnight
        (DAY - 1, DAY, [1]),
        (0, 3 * DAY, [1, 2, 3]),
        (DAY, DAY, []),
        (HOUR, HOUR, []),
        (2 * DAY, DAY, []),
    ],
)
def test_dates_of_a_half_open_window(start: int, end: int, days: list[int]) -> None:
    assert dates(MARCH_1 + start, MARCH_1 + end) == [date(2026, 3, day) for day in days]
