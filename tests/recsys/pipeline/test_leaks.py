from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest

from recsys.errors import LeakError
from recsys.instants import DAY, HOUR, to_micros
from recsys.pipeline.leaks import (
    WORLDS,
    Span,
    Tables,
    altered,
    drawn_users,
    merged,
    movements,
    refuse_leaks,
    unknown_sales,
    windows_that_follow_events,
)
from recsys.tables.night import EVENTS, IMAGE_TAGS, REJECTED_IMAGES, SALES
from tests.helpers.small_shop import AS_OF, at, event, random_rows, sale

MIDNIGHT = to_micros(AS_OF) - 5 * DAY
SPAN = Span(MIDNIGHT, MIDNIGHT + 36 * HOUR, to_micros(AS_OF))
BEFORE, UNTIL = -5 * 24, -5 * 24 + 36
SALE_ROWS, EVENT_ROWS = random_rows(3, users=25, sales=40, events=900)


def tables_of(spark, sales: list, events: list) -> Tables:
    """Return tables of a shop; each sale has a photo that all sales share, one of its own and one that is rejected."""
    tags = [
        (
            row["sale_id"],
            position,
            f"{row['sale_id']}-{position}.jpg",
            f"hash {row['sale_id']}" if position else "shared",
            ["pool", "sea"],
        )
        for row in sales
        for position in range(2)
    ]
    photos = [(*row, [0.5 + number / 1000, 0.1], [0.4 + number / 1000, 0.2]) for number, row in enumerate(tags)]
    rejected = [(row["sale_id"], 2, "x.jpg", "missing", f"detail of {row['sale_id']}") for row in sales]
    rows = [
        (SALES, [{"description": None, **row} for row in sales]),
        (
            EVENTS,
            [{"revenue": None, **row, "recorded_at": row.get("recorded_at", row["occurred_at"])} for row in events],
        ),
        (IMAGE_TAGS, [dict(zip(IMAGE_TAGS.columns, row, strict=True)) for row in photos]),
        (REJECTED_IMAGES, [dict(zip(REJECTED_IMAGES.columns, row, strict=True)) for row in rejected]),
    ]
    return Tables(
        *(
            spark.createDataFrame(
                [tuple(row[name] for name in table.columns) for row in each],
                ", ".join(f"{name} {kind.simpleString()}" for name, kind in table.columns.items()),
            ).cache()
            for table, each in rows
        )
    )


@pytest.fixture(scope="module")
def tables(spark) -> Tables:
    return tables_of(spark, SALE_ROWS, list({_key(row): row for row in EVENT_ROWS}.values()))


def _key(row: dict) -> tuple:
    return tuple(row[name] for name in ("user_id", "sale_id", "kind", "occurred_at"))


@pytest.fixture(scope="module")
def worlds(tables) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """The rows of each table in each world, and of the unaltered tables."""
    return {"as it is": rows_of(tables), **{world: rows_of(altered(tables, world, SPAN, 0)) for world in WORLDS}}


def rows_of(tables: Tables) -> dict[str, list[dict[str, Any]]]:
    return {name: [row.asDict() for row in rows.collect()] for name, rows in tables._asdict().items()}


def counted(rows: list[dict], *columns: str) -> Counter:
    return Counter(repr([row[name] for name in columns or row]) for row in rows)


def is_known(row: dict) -> bool:
    instant = at(BEFORE).replace(tzinfo=None)
    return row["occurred_at"] < instant and row["recorded_at"] < instant


def later_sales(rows: dict[str, list[dict]]) -> set[str]:
    """Return the sales that are not known, found row by row."""
    visited = {row["sale_id"] for row in rows["events"] if is_known(row)}
    return {row["sale_id"] for row in rows["sales"] if row["opens_at"] >= at(UNTIL).replace(tzinfo=None)} - visited


def split(rows: dict[str, list[dict]], table: str, later: set[str]) -> tuple[list[dict], list[dict]]:
    """Return the known rows of a table, and the others."""
    known = [is_known(row) if table == "events" else row["sale_id"] not in later for row in rows[table]]
    return tuple(
        [row for row, one in zip(rows[table], known, strict=True) if one is wanted] for wanted in (True, False)
    )


def test_fixture_has_known_and_unknown_events_and_sales_and_late_records(worlds):
    rows = worlds["as it is"]
    known, unknown = split(rows, "events", set())
    assert min(len(known), len(unknown)) > 100
    late = [row for row in unknown if row["occurred_at"] < at(BEFORE).replace(tzinfo=None)]
    assert len(late) > 3
    assert 5 < len(later_sales(rows)) < len(rows["sales"]) - 5


@pytest.mark.parametrize("table", Tables._fields)
@pytest.mark.parametrize("world", WORLDS)
def test_known_rows_are_unchanged_in_every_world(worlds, world, table):
    later = later_sales(worlds["as it is"])
    known, _ = split(worlds["as it is"], table, later)
    found, _ = split(worlds[world], table, later)
    assert counted(found) == counted(known)


@pytest.mark.parametrize("table", Tables._fields)
def test_deleted_rows_are_all_unknown_rows(worlds, table):
    assert split(worlds["deleted"], table, later_sales(worlds["as it is"]))[1] == []


@pytest.mark.parametrize("world", ["changed", "shuffled"])
@pytest.mark.parametrize("table", Tables._fields)
def test_other_worlds_have_the_same_number_of_rows(worlds, world, table):
    assert len(worlds[world][table]) == len(worlds["as it is"][table])


@pytest.mark.parametrize(
    ("table", "groups"),
    [
        ("events", [("user_id",), ("sale_id",), ("kind",), ("occurred_at", "recorded_at")]),
        (
            "sales",
            [("sale_id",), ("opens_at", "closes_at"), ("title", "description"), ("price",), ("attributes",)],
        ),
        ("image_tags", [("sale_id", "position", "image_uri"), ("image_hash", "tags", "probabilities", "weights")]),
    ],
)
def test_shuffled_rows_have_the_same_values_in_other_rows(worlds, table, groups):
    later = later_sales(worlds["as it is"])
    _, before = split(worlds["as it is"], table, later)
    _, after = split(worlds["shuffled"], table, later)
    for group in groups:
        assert counted(after, *group) == counted(before, *group)
    for one, other in pairwise(groups):
        assert counted(after, *one, *other) != counted(before, *one, *other)


def test_changed_event_has_the_other_kind_and_one_of_eight_pairs_of_times(worlds):
    _, before = split(worlds["as it is"], "events", set())
    _, after = split(worlds["changed"], "events", set())
    kinds, changed = (Counter(row["kind"] for row in rows) for rows in (before, after))
    assert (changed["visit"], changed["purchase"]) == (kinds["purchase"], kinds["visit"])
    instant = at(BEFORE).replace(tzinfo=None)
    sides = Counter(
        tuple(int(np.sign((row[name] - instant).total_seconds())) for name in ("occurred_at", "recorded_at"))
        for row in after
    )
    assert set(sides) == {(one, other) for one in (-1, 0, 1) for other in (-1, 0, 1)} - {(-1, -1)}
    assert min(sides.values()) > 10
    assert not counted(after) & counted(before)


def test_changed_sale_has_another_title_price_attributes_and_times_and_opens_no_earlier(worlds):
    later = later_sales(worlds["as it is"])
    before, after = (
        {row["sale_id"]: row for row in split(worlds[world], "sales", later)[1]} for world in ("as it is", "changed")
    )
    assert before.keys() == after.keys() == later
    for sale_id, row in after.items():
        assert row["opens_at"] >= at(UNTIL).replace(tzinfo=None)
        assert row["closes_at"] > row["opens_at"]
        assert row["price"] > 0
        for column in ("title", "price", "attributes", "closes_at"):
            assert row[column] != before[sale_id][column]


def test_changed_photo_has_tags_and_content_that_no_known_photo_has(worlds):
    later = later_sales(worlds["as it is"])
    known, _ = split(worlds["changed"], "image_tags", later)
    _, changed = split(worlds["changed"], "image_tags", later)
    assert not {tag for row in known for tag in row["tags"]} & {tag for row in changed for tag in row["tags"]}
    assert not {row["image_hash"] for row in known} & {row["image_hash"] for row in changed}
    assert all(row["probabilities"][0] == pytest.approx(0.1) for row in changed)
    assert all(row["weights"][0] == pytest.approx(0.2) for row in changed)


def test_world_depends_only_on_the_seed(tables, worlds):
    again, other = (rows_of(altered(tables, "shuffled", SPAN, seed))["events"] for seed in (0, 1))
    assert counted(again) == counted(worlds["shuffled"]["events"]) != counted(other)


def test_rows_are_shuffled_in_parts_without_loss(tables, worlds, monkeypatch):
    monkeypatch.setattr("recsys.pipeline.leaks.PART_ROWS", 100)
    found = rows_of(altered(tables, "shuffled", SPAN, 0))["events"]
    assert len(found) == len(worlds["shuffled"]["events"])
    assert counted(found, "user_id") == counted(worlds["shuffled"]["events"], "user_id")


def test_sale_visited_before_it_opens_is_known_and_one_that_opens_at_the_horizons_end_is_not(spark):
    sales = [
        sale("in", UNTIL - 1 / 3600),  # opens a second before the horizon's end
        sale("at end", UNTIL),
        sale("visited", UNTIL + 10),
        sale("visited too late", UNTIL + 10),
        sale("recorded too late", UNTIL + 10),
        sale("never visited", UNTIL + 20),
    ]
    events = [
        event("u", "visited", BEFORE - 1 / 3600),
        event("u", "visited too late", BEFORE),
        event("v", "recorded too late", BEFORE - 3, recorded_at=at(BEFORE)),
    ]
    found = unknown_sales(tables_of(spark, sales, events), SPAN).collect()
    assert {row["sale_id"] for row in found} == {"at end", "visited too late", "recorded too late", "never visited"}


def test_sampled_users_have_known_and_unknown_events(spark):
    events = [
        *(event(f"both {number}", "a", hours) for number in range(6) for hours in (BEFORE - 1, BEFORE)),
        event("before", "a", BEFORE - 1),
        event("after", "a", BEFORE + 1),
        event("recorded late", "a", BEFORE - 2, recorded_at=at(BEFORE)),  # alone this is not known
        event("clock ahead", "a", BEFORE, recorded_at=at(BEFORE - 1)),  # nor is this
        event("clock ahead", "a", BEFORE + 1),
        event("both, one late", "a", BEFORE - 2),
        event("both, one late", "a", BEFORE - 1, recorded_at=at(BEFORE)),
    ]
    rows = tables_of(spark, [sale("a", -300)], events).events
    everybody = {"both, one late", *(f"both {number}" for number in range(6))}
    assert set(drawn_users(rows, MIDNIGHT, 100, 0)) == everybody
    draws = [tuple(drawn_users(rows, MIDNIGHT, 3, seed)) for seed in (0, 0, 1, 2, 3)]
    assert draws[0] == draws[1]
    assert len(set(draws)) > 1
    assert all(len(set(draw)) == 3 and set(draw) <= everybody for draw in draws)


# Comparison.

BEFORE_VALUES = pd.DataFrame([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]], ["u", "v"], ["a", "b", "c"], np.float32)


def moved(after: pd.DataFrame) -> dict[str, Any]:
    return movements({"popularity": BEFORE_VALUES}, {"popularity": after}, MIDNIGHT)["popularity"]


def test_values_in_another_order_are_compared_by_user_and_sale():
    shuffled = BEFORE_VALUES.loc[["v", "u"], ["c", "a", "b"]]
    assert moved(shuffled) == {"compared": 6, "moved": 0, "largest": 0.0, "example": None}


def test_changed_values_are_counted_and_the_largest_difference_is_the_example():
    after = BEFORE_VALUES.copy()
    after.loc["v", "a"], after.loc["u", "c"] = 2.5, 3.5
    after.loc["u", "b"] += np.float32(9e-6)  # rounding
    assert moved(after) == {
        "compared": 6,
        "moved": 2,
        "largest": 1.5,
        "example": {"as_of": "2026-02-24T00:00:00Z", "user_id": "u", "sale_id": "c", "before": 2.0, "after": 3.5},
    }


def test_missing_user_sale_or_feature_counts_as_changed():
    assert moved(BEFORE_VALUES.loc[["u"]])["moved"] == 3
    without = moved(BEFORE_VALUES[["a", "c"]])
    assert (without["moved"], without["largest"]) == (2, 0.0)
    assert without["example"] == {
        "as_of": "2026-02-24T00:00:00Z",
        "user_id": "u",
        "sale_id": "b",
        "before": 1.0,
        "after": None,
    }
    assert movements({"popularity": BEFORE_VALUES}, {}, MIDNIGHT)["popularity"]["moved"] == 6


def test_movements_of_several_instants_are_added_with_the_example_of_the_largest():
    none = {"compared": 6, "moved": 0, "largest": 2e-6, "example": None}
    one, other = ({"compared": 5, "moved": 2, "largest": size, "example": {"before": size}} for size in (0.5, 0.7))
    assert merged([none, none]) == {**none, "compared": 12}
    assert merged([one, none, other]) == {"compared": 16, "moved": 4, "largest": 0.7, "example": {"before": 0.7}}


def test_leak_is_an_error_with_each_feature_its_worlds_and_an_example():
    example = {"as_of": "2026-02-24T00:00:00Z", "user_id": "u", "sale_id": "c", "before": 2.0, "after": 3.5}
    rows = [
        {"feature": "popularity", "world": "changed", "moved": 1, "largest": 1.5, "example": example},
        {"feature": "popularity", "world": "deleted", "moved": 1, "largest": 0.5, "example": {**example, "after": 2.5}},
        {"feature": "activity", "world": "changed", "moved": 0, "largest": 0.0, "example": None},
        {
            "feature": "price_gap",
            "world": "shuffled",
            "moved": 1,
            "largest": 0.0,
            "example": {**example, "after": None},
        },
    ]
    with pytest.raises(LeakError) as raised:
        refuse_leaks({"features": rows})
    assert str(raised.value).startswith("2 features with data that is not known at as_of, must be 0: popularity where")
    assert "that data is changed, deleted, for example for user u and sale c" in str(raised.value)
    assert "2 became 3.5; price_gap where that data is shuffled" in str(raised.value)
    assert "2 became missing: correct their use" in str(raised.value)
    assert "activity" not in str(raised.value)
    refuse_leaks({"features": rows[2:3]})


@pytest.mark.parametrize(
    ("before", "after", "moved"),
    [
        (-9.18539, -9.18542, 0),  # the last digits of float32
        (-9.18539, -9.18559, 1),
        (0.5, 0.500009, 0),
        (0.5, 0.50003, 1),
    ],
)
def test_tolerance_is_relative_for_values_above_1(before: float, after: float, moved: int) -> None:
    old, new = (pd.DataFrame([[value, 0.25]], index=["u"], columns=["a", "b"]) for value in (before, after))
    found = movements({"taste_text": old}, {"taste_text": new}, MIDNIGHT)["taste_text"]
    assert (found["compared"], found["moved"]) == (2, moved)


def warnings_of(spark, sales: list, events: list) -> list[str]:
    tables = tables_of(spark, sales, events)
    return windows_that_follow_events(tables.sales, tables.events, to_micros(AS_OF))


def test_windows_that_are_computed_from_events_are_named(spark):
    visits = [event(f"u{n % 7}", f"s{n % 9}", -100 - n * n) for n in range(40)]
    hours = {f"s{n}": [-100 - each * each for each in range(40) if each % 9 == n] for n in range(9)}
    bought = [event("u1", sale_id, max(some) - 0.5, "purchase") for sale_id, some in hours.items()]
    shop = [*visits, *bought]
    plan = [sale(sale_id, min(some) - 2 - n, max(some) + 3 + n) for n, (sale_id, some) in enumerate(hours.items())]
    assert warnings_of(spark, plan, shop) == []
    after_last = [sale(sale_id, min(some) - 2 - n, max(some) + 24) for n, (sale_id, some) in enumerate(hours.items())]
    (warning,) = warnings_of(spark, after_last, shop)
    assert warning.startswith("closes_at is the last event of the sale + 1 day for 9 of 9 closed sales")
    assert "'hours_left'" in warning
    after_purchase = [sale(sale_id, min(some), max(some) + 1) for sale_id, some in hours.items()]
    first, last = warnings_of(spark, after_purchase, shop)
    assert first.startswith("opens_at is the first event of the sale for 9 of 9 closed sales")
    assert last.startswith("closes_at is the last event of the sale + 1 h for 9 of 9 closed sales")


def test_sale_that_is_still_open_says_nothing_of_its_window(spark):
    visits = [event("u1", f"s{n}", -2 - n) for n in range(6)]
    assert warnings_of(spark, [sale(f"s{n}", -100 - n, 22 - n) for n in range(6)], visits) == []
