"""Counting visits and sale-days: small cases by hand, random ones against loops over days."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession

from recsys.errors import EmptyInputError
from recsys.instants import to_micros
from recsys.pipeline.attractiveness import sale_months

START = datetime(2026, 1, 30, tzinfo=UTC)
DAYS = 6  # 30 January to 4 February
SALES = "sale_id string, opens_at timestamp, closes_at timestamp, attributes map<string,string>"
EVENTS = "sale_id string, kind string, occurred_at timestamp"


def at(days: float) -> datetime:
    """An instant some days after START; 2 is midnight of 1 February."""
    return START + timedelta(days=days)


def sale(sale_id: str, opens: float, closes: float, **attributes: str | None) -> tuple:
    return sale_id, at(opens), at(closes), attributes


def visit(sale_id: str, days: float, kind: str = "visit") -> tuple:
    return sale_id, kind, at(days)


def counted(
    spark: SparkSession,
    sales: Iterable[tuple],
    events: Iterable[tuple],
    tagged: Iterable[str] | None = None,
    first: datetime = START,
    until: datetime = START + timedelta(days=DAYS),
) -> list[dict[str, Any]]:
    sales = list(sales)
    tagged = [row[0] for row in sales] if tagged is None else tagged
    features = spark.createDataFrame(
        [(sale_id, "tag", "beach") for sale_id in tagged], "sale_id string, f string, g string"
    )
    frame = sale_months(
        spark.createDataFrame(list(events), EVENTS),
        spark.createDataFrame(sales, SALES),
        features,
        to_micros(first),
        to_micros(until),
    )
    return sorted((row.asDict() for row in frame.collect()), key=lambda row: (row["sale_id"], row["month"]))


def counts(rows: list[dict[str, Any]]) -> dict[tuple[str, str], tuple[int, int]]:
    return {(row["sale_id"], row["month"]): (row["visits"], row["sale_days"]) for row in rows}


ALWAYS = sale("always", -100, 100)


def every_day(sale_id: str = "always") -> list[tuple]:
    return [visit(sale_id, day + 0.5) for day in range(DAYS)]


MICROSECOND = 1 / 86_400e6


WINDOWS = {
    (1, 2): [2],  # midnight to midnight is one day
    (1, 2 + MICROSECOND): [2, 3],  # a microsecond into the next is two
    (2 - MICROSECOND, 2): [2],
    (1 - MICROSECOND, 2): [1, 2],
    (1.2, 1.3): [2],
    (-9, 0): [0],  # closes at the midnight with which the first day begins
    (-9, -MICROSECOND): [0],
    (-9, -1): [],  # was not open on the day before the first
    (5, 9): [],  # opens on the last day
    (5 - MICROSECOND, 9): [5],
    (-99, 99): [0, 1, 2, 3, 4, 5],
}


WITHOUT_PLACE: dict[str, Any] = {"a": {}, "b": {"country": "", "category": ""}, "c": {"country": None}, "d": None}


@pytest.fixture(scope="module")
def rows(spark) -> dict[str, list[dict[str, Any]]]:
    """The rows of each sale of several cases, which do not meet: the shop has a visit and an open sale on each day."""
    sales = [
        ALWAYS,
        sale("s", 0.25, 2.75, country="Italy", category="sea"),
        sale("opens late", 5.25, 9),
        *(sale(str(window), *window) for window in WINDOWS),
        *((sale_id, at(-9), at(9), attributes) for sale_id, attributes in WITHOUT_PLACE.items()),
    ]
    events = [*every_day(), *(visit("s", days) for days in (0.5, 1.5, 2.5, 2.6)), visit("opens late", 5.5)]
    found = defaultdict(list)
    for row in counted(spark, sales, events, tagged=[*(row[0] for row in sales), "always", "always"]):
        found[row["sale_id"]].append(row)
    return found


def test_visits_and_days_before_which_a_sale_was_open_are_counted_by_month(rows):
    # Open on 30, 31 January and 1 February, so on offer before 31 January, 1 and 2 February.
    assert rows["s"] == [
        {"sale_id": "s", "month": "2026-01", "country": "Italy", "category": "sea", "visits": 2, "sale_days": 1},
        {"sale_id": "s", "month": "2026-02", "country": "Italy", "category": "sea", "visits": 2, "sale_days": 2},
    ]


def test_sale_with_many_tags_counts_once(rows):
    assert counts(rows["always"]) == {("always", "2026-01"): (2, 2), ("always", "2026-02"): (4, 4)}


def test_sale_is_on_offer_before_a_day_if_it_was_open_at_any_instant_of_the_day_before(rows):
    for window, days in WINDOWS.items():
        name, found = str(window), counts(rows[str(window)])
        january = sum(day < 2 for day in days)
        assert found.get((name, "2026-01"), (0, 0)) == (0, january), window
        assert found.get((name, "2026-02"), (0, 0)) == (0, len(days) - january), window


def test_visit_on_the_day_a_sale_opens_counts(rows):
    assert counts(rows["opens late"]) == {("opens late", "2026-02"): (1, 0)}


def test_missing_country_and_category_are_named_none(rows):
    for sale_id in WITHOUT_PLACE:
        assert [(row["country"], row["category"]) for row in rows[sale_id]] == [("(none)", "(none)")] * 2


def test_visit_at_midnight_belongs_to_the_day_and_month_that_begin(spark):
    found = counts(counted(spark, [ALWAYS], [visit("always", 2 - MICROSECOND), visit("always", 2)]))
    assert found == {("always", "2026-01"): (1, 1), ("always", "2026-02"): (1, 1)}


def test_visits_from_first_until_before_until_count(spark):
    events = [visit("always", days) for days in (1 - MICROSECOND, 1, 2.5, 3 - MICROSECOND, 3)]
    found = counts(counted(spark, [ALWAYS], events, first=at(1), until=at(3)))
    assert found == {("always", "2026-01"): (1, 1), ("always", "2026-02"): (2, 1)}


def test_purchases_and_sales_without_tagged_photos_count_nowhere(spark):
    events = [visit("always", 0.5), visit("always", 0.6, "purchase"), visit("plain", 0.5), visit("plain", 4.5)]
    rows = counted(spark, [ALWAYS, sale("plain", -100, 100)], events, tagged=["always", "gone"])
    # 3 February is a day with a visit of `plain` alone: no share of the visits, so no sale-day.
    assert counts(rows) == {("always", "2026-01"): (1, 1)}


def test_day_before_which_nothing_was_on_offer_counts_nowhere(spark):
    events = [visit("s", 1.5), visit("s", 2.5)]  # the shop opens on 31 January: no share of the sales on the 30th
    assert counts(counted(spark, [sale("s", 1, 4)], events)) == {("s", "2026-02"): (1, 1)}


def test_without_visits_there_is_no_row(spark):
    assert counted(spark, [ALWAYS], []) == []


def test_window_without_a_day_is_refused(spark):
    with pytest.raises(
        EmptyInputError, match="2026-01-30 00:00 until 2026-01-30 00:00 UTC, needs at least one day: choose an earlier"
    ):
        counted(spark, [ALWAYS], [], until=START)


def by_loops(sales: list[tuple], events: list[tuple], tagged: set[str]) -> dict[tuple[str, str], tuple[int, int]]:
    """The definition, a day at a time."""
    visits, offers = Counter(), Counter()
    for day in range(DAYS):
        todays = [s for s, kind, when in events if s in tagged and kind == "visit" and at(day) <= when < at(day + 1)]
        before = [s for s, opens, closes, _ in sales if s in tagged and opens < at(day) and closes > at(day - 1)]
        if todays and before:
            month = date.strftime(at(day), "%Y-%m")
            visits.update((s, month) for s in todays)
            offers.update((s, month) for s in before)
    return {key: (visits[key], offers[key]) for key in visits | offers}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_counts_are_those_of_a_loop_over_days(spark, seed):
    rng = np.random.default_rng(seed)
    quarters = rng.integers(-12, 4 * DAYS, 20)  # many opens, closes and visits fall on a midnight
    sales = [
        sale(f"s{number}", opens / 4, (opens + rng.integers(1, 16)) / 4, country=str(rng.choice(["Italy", ""])))
        for number, opens in enumerate(quarters)
    ]
    events = [
        visit(
            f"s{rng.integers(20)}", rng.integers(-8, 4 * DAYS + 8) / 4, str(rng.choice(["visit", "visit", "purchase"]))
        )
        for _ in range(10 * seed)
    ]
    tagged = {f"s{number}" for number in range(20) if rng.random() < 0.7}
    assert counts(counted(spark, sales, events, tagged)) == by_loops(sales, events, tagged)
