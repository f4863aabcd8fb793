from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import functions as f

from recsys.erasure.logs_and_tables import hash_of
from recsys.instants import to_micros
from recsys.pipeline import event_days, validation
from recsys.pipeline.event_days import Written, day_name, day_number, write_days
from recsys.tables.event_parts import day_of_part, parts_of_days
from recsys.tables.parts import read_arrow, write_list
from tests.helpers.small_shop import AS_OF, at, event, raw_table, sale


@pytest.fixture
def write(spark, tmp_path):
    """Flag and write events of sale s1; return what was written, the events, and the rejected rows."""
    sales = validation.flag_sales(spark.createDataFrame(raw_table("sales", [sale("s1", -900, 900)])), to_micros(AS_OF))
    windows = spark.createDataFrame(validation.sale_windows(sales).toArrow())

    def written(rows: list, days: list[str] | None = None) -> tuple[Written, list[dict], list[dict]]:
        events = spark.createDataFrame(raw_table("events", rows)).withColumn("file", f.lit(0).cast("long"))
        flagged = validation.flag_events(events, windows, to_micros(AS_OF), to_micros(at(2)))
        tables = tmp_path / "events", tmp_path / "rejected"
        found = write_days(flagged, None, *tables, {0: "a"}, ["a"], days, 2)
        for table, parts in zip(tables, (found.parts, found.rejected), strict=True):
            write_list(table, parts)
        return found, _rows(tables[0], found.parts), _rows(tables[1], found.rejected)

    return written


def _rows(table: Path, parts: list) -> list[dict]:
    return read_arrow(table).to_pylist() if parts else []


def test_first_recorded_copy_of_an_event_is_used_and_the_others_are_set_aside(write):
    written, events, rejected = write(
        [
            event("u1", "s1", -5, recorded_at=at(-3), revenue=7.0),
            event("u1", "s1", -5, recorded_at=at(-4), revenue=None),
            event("u1", "s1", -5, recorded_at=at(-1), revenue=9.0),
            event("u1", "s1", -5, "purchase", recorded_at=at(-4)),  # of another kind: another event
            event("u1", "s1", -6, recorded_at=at(-4)),
        ]
    )
    used = {(row["kind"], row["occurred_at"]): row for row in events}
    assert len(used) == 3
    copy = used["visit", at(-5)]
    assert (copy["recorded_at"], copy["revenue"]) == (at(-4), 9.0)
    assert sorted(row["revenue"] for row in rejected) == [7.0, 9.0]
    assert {row["rule"] for row in rejected} == {"event_unique"}
    assert written.days == {"20260228": (3, 2, to_micros(at(-5)), {hash_of("u1"): 3})}


def test_each_day_has_a_part_and_every_day_of_files_is_counted(write):
    rows = [event("u1", "s1", -1), event("u2", "s1", -30), event("", "s1", -30), event("u3", "s9", -50)]
    rows += [event("u1", "s1", 1), event("u1", "s1", 3), event("null", "s1", -2)]
    written, events, rejected = write(rows)
    assert sorted(day_of_part(part.name) for part in written.parts) == ["20260227", "20260228"]
    assert len(events) == 3
    found = written.raw_days["a"]
    assert (found.rows, found.days, found.sales) == (7, ["20260227", "20260228"], ["s1", "s9"])
    counted = {"user_id_present": 1, "sale_known": 1, "known_as_of": 1, "event_in_the_past": 1, "user_id_meant": 1}
    assert found.broken == counted
    assert (found.future, found.not_yet) == (to_micros(at(3)), to_micros(at(1)))
    # Rows that are used despite a rule are there as examples; those that are not known yet are not.
    assert sorted(row["rule"] for row in rejected) == [
        *("event_in_the_past", "sale_known", "user_id_meant", "user_id_present")
    ]


def test_same_rows_in_another_order_give_the_same_bytes(write):
    rng = np.random.default_rng(3)
    rows = [event(f"u{rng.integers(9)}", "s1", -float(rng.integers(1, 99))) for _ in range(200)]
    digests = [
        sorted((day_of_part(part.name), part.sha256) for part in write(shuffled)[0].parts)
        for shuffled in (rows, [rows[number] for number in rng.permutation(len(rows))])
    ]
    assert digests[0] == digests[1]


def test_row_groups_do_not_change_what_is_written(write, monkeypatch):
    rows = [event(f"u{number % 7}", "s1", -1 - number % 11) for number in range(90)]
    _, events, rejected = write(rows)
    monkeypatch.setattr(event_days, "_ROW_GROUP", 5)
    again = write(rows)
    assert again[1] == events
    assert len(again[2]) == len(rejected) == 90 - 77


def test_days_have_numbers_and_names():
    assert day_name(0) == "19700101"
    assert day_number(day_name(20_512)) == 20_512


def test_parts_of_days_are_those_of_every_date_that_24_hours_touch(write, tmp_path):
    write([event("u1", "s1", -hours) for hours in (1, 25, 49, 73)])  # 28, 27, 26 and 25 February
    for instants, days in {
        (to_micros(at(-48)),): ["20260227"],
        (to_micros(at(-60)),): ["20260226", "20260227"],
        (to_micros(at(-96)), to_micros(at(-24))): ["20260225", "20260228"],
        (to_micros(at(0)),): [],
    }.items():
        assert [day_of_part(name) for name in parts_of_days(tmp_path / "events", instants)] == days
