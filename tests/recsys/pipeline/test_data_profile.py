import pandas as pd
import pytest

from recsys.instants import HOUR
from recsys.pipeline.data_profile import profile_frames
from recsys.tables.night import EVENTS, SALE_IMAGES, SALES
from tests.helpers.profiles import frames_of
from tests.helpers.small_shop import Row, at, event, random_rows, sale

PHOTOS = {"s01": ["one.jpg", "two.jpg"], "s02": ["three.jpg"]}


def measured(spark, sales: list[Row], events: list[Row], soon: int):
    images = [(name, uri, place) for name, uris in PHOTOS.items() for place, uri in reversed([*enumerate(uris)])]
    rows = (
        (SALES, [{**dict.fromkeys(SALES.columns), **row} for row in sales]),
        (SALE_IMAGES, [dict(zip(SALE_IMAGES.columns, row, strict=True)) for row in images]),
        (EVENTS, [{**dict.fromkeys(EVENTS.columns), **row} for row in events]),
    )
    tables = (
        spark.createDataFrame([tuple(row[c] for c in table.columns) for row in found], table.schema)
        for table, found in rows
    )
    return profile_frames(*tables, soon)


@pytest.mark.parametrize("soon", [5 * HOUR, 72 * HOUR])
def test_aggregates_of_random_shops_are_those_of_loops_over_rows(spark, soon):
    sales, events = random_rows(3, users=15, events=500)
    sales.append(sale("nobody's"))
    events = [*events, event("u00", "s01", -20, "purchase"), event("u00", "s01", -15, "purchase")]  # at the limit
    copies = {(row["user_id"], row["sale_id"], row["kind"], row["occurred_at"]): row for row in events}
    found, expected = (
        measured(spark, sales, list(copies.values()), soon),
        frames_of(sales, list(copies.values()), PHOTOS, soon),
    )
    for name in ("hours", "users", "sales"):
        one, other = getattr(found, name), getattr(expected, name)
        pd.testing.assert_frame_equal(one, other[one.columns], check_dtype=False)
        assert set(one.columns) == set(other.columns)
    assert found.repeats == expected.repeats
    assert found.repeats.soon > 0
    assert len(found.times_of_day) == 3


def test_events_at_midnight_in_summer_and_winter_have_two_times_of_day(spark):
    winter, summer = (
        event("u1", "s1", hours, occurred_at=instant) for hours, instant in ((0, at(-1)), (0, at(-24 * 200 - 2)))
    )
    found = measured(spark, [sale("s1")], [winter, summer, {**winter, "user_id": "u2"}], HOUR)
    assert found.times_of_day == ("22:00:00", "23:00:00")
