"""Visits and purchases of a sale by the hour, beside a count by hand."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from console.reading.sale_events import MOST_HOURS, events_by_hour
from recsys.snapshot.format import SnapshotSale
from recsys.storage.outputs import Outputs

NIGHT = datetime(2026, 3, 2, tzinfo=UTC)
OPENS = datetime(2026, 3, 1, 6, 45, tzinfo=UTC)


def at(hour: int, minute: int = 0, day: int = 1) -> datetime:
    return datetime(2026, 3, day, hour, minute, tzinfo=UTC)


@pytest.fixture
def outputs(tmp_path: Path) -> Outputs:
    """Events of two days."""
    rows = [
        ("s1", "visit", at(6, 50)),
        ("s1", "visit", at(6, 59)),
        ("s1", "purchase", at(7)),
        ("s2", "visit", at(7)),  # another sale
        ("s1", "visit", at(23, 59)),
        ("s1", "visit", at(5)),  # before it opened
        ("s1", "visit", at(1, day=2)),  # after the night
    ]
    folder = tmp_path / "events"
    folder.mkdir()
    for day in (1, 2):
        some = [row for row in rows if row[2].day == day]
        names = ("sale_id", "kind", "occurred_at")
        columns = dict(zip(names, map(list, zip(*some, strict=True)), strict=True))
        times = pa.array(columns["occurred_at"], pa.timestamp("us", "UTC"))
        table = pa.table({**columns, "occurred_at": times, "user_id": ["u"] * len(some)})
        pq.write_table(table, folder / f"part-2026030{day}-{day}.parquet")
    return Outputs(str(tmp_path))


def test_events_are_counted_by_the_hour_from_the_opening_to_the_night(outputs: Outputs) -> None:
    hours = events_by_hour(outputs, SnapshotSale("s1", "", OPENS, NIGHT + timedelta(days=1)), NIGHT)
    assert len(hours) == 18
    assert (hours[0].start, hours[-1].start) == (at(6), at(23))
    assert [(hour.start.hour, *hour[1:]) for hour in hours if any(hour[1:])] == [(6, 2, 0), (7, 0, 1), (23, 1, 0)]


def test_closed_sale_ends_at_its_closing_and_a_long_one_is_cut(outputs: Outputs) -> None:
    closed = events_by_hour(outputs, SnapshotSale("s1", "", OPENS, at(8)), NIGHT)
    assert [hour.start.hour for hour in closed] == [6, 7]
    long = events_by_hour(outputs, SnapshotSale("s1", "", OPENS - timedelta(days=90), NIGHT), NIGHT)
    assert len(long) == MOST_HOURS
    assert (sum(hour.visits for hour in long), long[-1].start) == (4, at(23))


def test_sale_of_tomorrow_and_night_without_events_have_no_hours(outputs: Outputs, tmp_path: Path) -> None:
    assert events_by_hour(outputs, SnapshotSale("s1", "", NIGHT, NIGHT + timedelta(days=1)), NIGHT) == []
    sale = SnapshotSale("s1", "", OPENS, NIGHT)
    assert events_by_hour(Outputs(str(tmp_path / "none")), sale, NIGHT) == []
