import pandas as pd
import pyarrow as pa

from recsys.data_profile.frames import ProfileFrames
from recsys.pipeline.data_profile import profile_frames
from recsys.tables.night import EVENTS, SALE_IMAGES, SALES
from tests.helpers.profiles import frames_of
from tests.helpers.small_shop import Row, event, random_rows, raw_table, sale

PHOTOS = {"s01": ["one.jpg", "two.jpg"], "s02": ["three.jpg"]}


def measured(spark, sales: list[Row], events: list[Row], hours: float) -> ProfileFrames:
    images = [(name, uri, place) for name, uris in PHOTOS.items() for place, uri in reversed([*enumerate(uris)])]
    tables = (
        (SALES, raw_table("sales", sales)),
        (SALE_IMAGES, pa.table(dict(zip(SALE_IMAGES.columns, zip(*images, strict=True), strict=True)))),
        (EVENTS, raw_table("events", events)),
    )
    return profile_frames(*(spark.createDataFrame(rows, table.schema) for table, rows in tables), hours)


def test_aggregates_of_a_random_shop_are_those_of_loops_over_rows(spark):
    sales, events = random_rows(3, users=15, events=500)
    sales += [sale("nobody's"), sale("late", -50, attributes={"country": "France"})]
    events = [*events, event("u00", "s01", -20, "purchase"), event("u00", "s01", -15, "purchase")]  # at the limit
    events.append(event("u00", "late", -51))
    events = list({(row["user_id"], row["sale_id"], row["kind"], row["occurred_at"]): row for row in events}.values())
    found, expected = measured(spark, sales, events, 5), frames_of(sales, events, PHOTOS, 5)
    for name in ("hours", "users", "sales"):
        one, other = getattr(found, name), getattr(expected, name)
        pd.testing.assert_frame_equal(one, other[one.columns], check_dtype=False)
        assert set(one.columns) == set(other.columns)
    assert found.repeats == expected.repeats
    assert found.repeats.soon > 0
    assert len(found.times_of_day) == 3
