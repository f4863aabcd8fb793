from collections.abc import Callable
from dataclasses import dataclass, replace
from math import log
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError
from pyspark.sql import DataFrame, SparkSession

from recsys.config.pipeline import SegmentSettings
from recsys.instants import DAY
from recsys.pipeline.histories import user_histories
from recsys.pipeline.segments import frequent_values, ranked_segments, segment_rankings
from recsys.pipeline.shop import Shop
from recsys.recommenders import RecommenderSettings
from recsys.shop.histories import HistorySettings
from recsys.storage.outputs import Outputs
from recsys.tables.night import SEGMENT_RANKINGS
from recsys.testing.shops import AS_OF, ShopData, make_shop, purchase, random_shop, sale, visit

USERS = "user_id string, attributes map<string,string>"
Attributes = dict[str, dict[str, str | None] | None]


@dataclass(frozen=True)
class SegmentedShop:
    """A shop in a folder, as input of the step."""

    data: ShopData
    shop: Shop
    histories: DataFrame
    spark: SparkSession

    def ranked(self, attributes_of: Attributes, as_of: int = AS_OF, partitions: int = 2, **settings) -> pd.DataFrame:
        users = self.spark.createDataFrame(list(attributes_of.items()), USERS)
        chosen = SegmentSettings(**{"attributes": ("market",), "min_events": 1, **settings})
        return ranked_segments(self.histories.repartition(partitions), users, self.shop, as_of, chosen)

    def popularity(self, events: np.ndarray, as_of: int = AS_OF) -> list[float]:
        """The shop's own fit to decayed events of each sale."""
        fit = self.shop.recommenders[0].fit({"events": events.astype(np.float32)}, self.shop.horizon(as_of))
        return fit.rates.tolist()


@pytest.fixture(scope="module")
def segmented(spark, tmp_path_factory) -> Callable[[ShopData], SegmentedShop]:
    def make(data: ShopData) -> SegmentedShop:
        folder: Path = tmp_path_factory.mktemp("segmented")
        (folder / "sales").mkdir()
        pq.write_table(data.sales, folder / "sales/part.parquet")
        history = HistorySettings(days=45, max_events=12)
        shop = Shop(Outputs(str(folder)), history, RecommenderSettings(), horizon_hours=36)
        histories = user_histories(spark.createDataFrame(data.events), data.catalogue).cache()
        return SegmentedShop(data, shop, histories, spark)

    return make


# Random users: many in one market, few in another, some without any.

ATTRIBUTES: Attributes = {
    f"u{number:02d}": [
        {"market": "FR", "channel": "search"},
        {"market": "FR", "channel": "friend", "age": "40"},
        {"market": "IT"},
        {"channel": "search", "market": None},
        {"market": ""},
        {"age": "30"},
        None,
        {"market": "FR"},
        {"channel": "friend", "market": "IT"},
    ][number % 9]
    for number in range(26)  # the last users have events and no row
}


@pytest.fixture(scope="module")
def random(segmented) -> SegmentedShop:
    return segmented(random_shop(5, n_users=31, n_sales=19, n_events=1500))


def summed(random: SegmentedShop, users: list[str], as_of: int) -> tuple[int, np.ndarray]:
    """Count the events of some users one by one, and add up those that popularity counts."""
    count, weights, catalogue = 0, np.zeros(len(random.data.catalogue)), random.data.catalogue
    for row, user in enumerate(random.data.block.user_ids.to_pylist()):
        if user not in users:
            continue
        known = random.data.block.take(np.array([row])).as_of(as_of, random.shop.history)
        last_of_day: dict[tuple, tuple] = {}
        for position, bought, occurred_at in zip(known.sales, known.purchases, known.occurred_at, strict=True):
            count += 1
            if catalogue.opens_at[position] <= occurred_at < catalogue.closes_at[position]:
                day = (position, occurred_at // DAY)
                last_of_day[day] = max(last_of_day.get(day, ()), (bought, occurred_at))
        for (position, _), (bought, occurred_at) in last_of_day.items():
            weights[position] += (5 if bought else 1) * 2 ** (-(as_of - occurred_at) / DAY / 2)
    return count, weights


@pytest.mark.parametrize(("partitions", "as_of"), [(1, AS_OF), (3, AS_OF - 2 * DAY)])
def test_rankings_equal_those_of_loops_over_users(random, partitions, as_of):
    found = random.ranked(ATTRIBUTES, as_of, partitions, attributes=("channel", "market"), prior_events=7, top_k=11)
    assert list(zip(found["attribute"], found["value"], strict=True)) == [
        ("channel", "search"),  # in the order configured, the value of most users first
        ("channel", "friend"),
        ("market", "FR"),
        ("market", "IT"),
    ]
    _, in_shop = summed(random, random.data.block.user_ids.to_pylist(), as_of)
    for row in found.itertuples():
        users = [user for user, own in ATTRIBUTES.items() if own and own.get(row.attribute) == row.value]
        count, weights = summed(random, users, as_of)
        assert row.events == count > 20
        rates = random.popularity(weights + 7 * in_shop / in_shop.sum(), as_of)
        assert len(set(row.sales)) == len(row.sales) == min(11, len(rates))
        assert row.scores.tolist() == pytest.approx(sorted(rates, reverse=True)[:11], rel=1e-4)
        assert row.scores.tolist() == pytest.approx([rates[position] for position in row.sales], rel=1e-4)


def test_segment_of_all_users_is_ranked_like_the_shop_with_any_prior(random):
    everybody: Attributes = {user: {"market": "FR"} for user in random.data.block.user_ids.to_pylist()}
    _, in_shop = summed(random, list(everybody), AS_OF)
    rates = random.popularity(in_shop)
    order = sorted(range(len(rates)), key=lambda number: (-rates[number], number))
    for prior_events in (0, 30):
        (row,) = random.ranked(everybody, prior_events=prior_events).itertuples()
        assert row.sales.tolist() == order
        assert row.scores.tolist() == pytest.approx([rates[number] for number in order], rel=1e-4)


def test_larger_prior_shrinks_a_segment_towards_the_shop(random):
    _, in_shop = summed(random, random.data.block.user_ids.to_pylist(), AS_OF)
    shop_rates = np.array(random.popularity(in_shop))
    distances = []
    for prior_events in (0, 100, 1e9):
        row = next(random.ranked(ATTRIBUTES, prior_events=prior_events).itertuples())
        distances.append(np.abs(row.scores - shop_rates[row.sales]).sum())
    assert distances == sorted(distances, reverse=True)
    assert distances[0] > 0.5
    assert distances[-1] == pytest.approx(0, abs=1e-3)


def test_users_without_an_event_change_no_ranking(random):
    with_strangers = ATTRIBUTES | {f"stranger {number}": {"market": "IT"} for number in range(3)}
    pd.testing.assert_frame_equal(random.ranked(with_strangers), random.ranked(ATTRIBUTES), rtol=1e-6)


def test_events_not_known_at_as_of_change_nothing(random, segmented):
    known = [row for row in random.data.event_rows if row["occurred_at"] < AS_OF and row["recorded_at"] < AS_OF]
    sale_ids, users = random.data.catalogue.sale_ids, list(ATTRIBUTES)
    later = [
        row
        for number in range(40)
        for row in (
            purchase(users[number % len(users)], sale_ids[number % 7], 0),
            visit(users[number % len(users)], sale_ids[number % 5], 0.1 + number),
            visit(users[number % len(users)], sale_ids[number % 3], -1, recorded=0),
        )
    ]
    before = segmented(make_shop(random.data.sale_rows, known)).ranked(ATTRIBUTES)
    after = segmented(make_shop(random.data.sale_rows, known + later)).ranked(ATTRIBUTES)
    assert len(before) == 2
    pd.testing.assert_frame_equal(after, before, rtol=1e-6)


# Shops small enough to compute by hand.

TWO_SALES = [sale("a", -4, 1), sale("b", -4, 1)]
VISITS = [visit("anne", "a", -2), visit("anne", "a", -4), *[visit(f"other {n}", "b", -2) for n in range(6)]]
ANNE: Attributes = {"anne": {"market": "FR"}}


@pytest.mark.parametrize(
    ("prior_events", "events", "order"),
    [
        (0, [3 / 4, 0], [0, 1]),  # two visits, of weight 1/2 after two days and 1/4 after four
        (1, [3 / 4 + 1 * 1 / 5, 0 + 1 * 4 / 5], [0, 1]),  # a fifth of the shop's weight is of a: 3/4 of 3/4 + 6/2
        (4, [3 / 4 + 4 * 1 / 5, 0 + 4 * 4 / 5], [1, 0]),
    ],
)
def test_events_are_shrunk_towards_the_shares_of_the_shop(segmented, prior_events, events, order):
    (row,) = segmented(make_shop(TWO_SALES, VISITS)).ranked(ANNE, prior_events=prior_events).itertuples()
    days = 2 / log(2) * (1 - 1 / 4)  # each was open for four days, decayed like events
    rate = sum(events) / (days + days + 0.5)
    scores = [(own + 0.5 * rate) / (days + 0.5) / rate for own in events]
    assert (row.attribute, row.value, row.events) == ("market", "FR", 2)
    assert row.sales.tolist() == order
    assert row.scores.tolist() == pytest.approx([scores[number] for number in order], rel=1e-5)


def test_sale_that_opens_tomorrow_is_ranked_by_the_segments_rates_of_its_attributes(segmented):
    sales = [sale("a", category="ski"), sale("b", category="spa"), sale("c", 0.5, 2, category="spa")]
    events = [visit(f"u{n}", "a", -0.5) for n in range(30)] + [purchase("anne", "b", -0.5)]
    shop = segmented(make_shop(sales, [*events, visit("anne", "a", -0.6)]))
    everybody: Attributes = {f"u{n}": {"market": "IT"} for n in range(30)}
    french, italian = (shop.ranked(users, prior_events=1).iloc[0] for users in (ANNE, everybody))
    assert french["sales"].tolist() == [1, 2, 0]
    assert italian["sales"].tolist()[0] == 0


def test_ties_are_broken_by_sale_id_and_the_length_is_limited(segmented):
    sales = [sale(f"s{number:02d}", -2, 1) for number in reversed(range(14))]
    shop = segmented(make_shop(sales, [visit("anne", "s05", -1), visit("ben", "s08", -1)]))
    row = shop.ranked({"anne": {"market": "FR"}, "ben": {"market": "FR"}}, top_k=10).iloc[0]
    assert row["sales"].tolist() == [5, 8, 0, 1, 2, 3, 4, 6, 7, 9]
    assert len(row["scores"]) == len(row["reasons"]) == 10


def test_segment_with_the_minimum_number_of_events_is_ranked_and_one_with_fewer_is_left_out(segmented):
    shop = segmented(make_shop(TWO_SALES, VISITS))
    markets: Attributes = {"anne": {"market": "FR"}, **{f"other {n}": {"market": "IT"} for n in range(6)}}
    ranked = {least: shop.ranked(markets, min_events=least)["value"].tolist() for least in (2, 3)}
    assert ranked == {2: ["IT", "FR"], 3: ["IT"]}


def test_events_of_weight_zero_give_a_ranking_without_preference(segmented):
    shop = segmented(make_shop(TWO_SALES, [purchase("anne", "b", -44)]))
    weightless = RecommenderSettings.model_validate({"popularity": {"purchase_weight": 0.0}})
    silent = replace(shop, shop=replace(shop.shop, recommender_settings=weightless))
    row = silent.ranked(ANNE).iloc[0]
    assert row["sales"].tolist() == [0, 1]
    assert row["scores"][0] == row["scores"][1]


# Which values are segments.


def values(spark, attributes_of: Attributes, **settings) -> dict[str, list[str]]:
    chosen = SegmentSettings(**{"attributes": ("market", "channel"), **settings})
    return frequent_values(spark.createDataFrame(list(attributes_of.items()), USERS), chosen)


def test_values_with_the_most_users_are_used_ties_by_value(spark):
    markets = ["IT", "FR", "FR", "DE", "IT", "ES"]
    users: Attributes = {f"u{number}": {"market": market} for number, market in enumerate(markets)}
    users["u0"] = {"market": "IT", "channel": "search"}
    assert values(spark, users, max_values=1) == {"market": ["FR"], "channel": ["search"]}
    assert values(spark, users, max_values=3) == {"market": ["FR", "IT", "DE"], "channel": ["search"]}
    assert values(spark, users, max_values=4) == {"market": ["FR", "IT", "DE", "ES"], "channel": ["search"]}


def test_absent_attributes_and_empty_values_are_not_segments(spark):
    users: Attributes = {"u1": {"market": "", "age": "30"}, "u2": {"market": None}, "u3": None, "u4": {}}
    assert values(spark, users) == {}
    assert values(spark, {"u1": {"market": "FR"}}, attributes=("country", "market")) == {"market": ["FR"]}


@pytest.mark.parametrize(
    ("attributes_of", "settings"),
    [
        (ANNE, {"attributes": ()}),
        (ANNE, {"attributes": ("country",)}),
        ({}, {}),  # a shop without table users
        ({"anne": None}, {}),
        ({"stranger": {"market": "FR"}}, {}),
    ],
)
def test_shop_without_segments_has_an_empty_table(segmented, tmp_path, attributes_of, settings):
    rows = segmented(make_shop(TWO_SALES, VISITS)).ranked(attributes_of, **settings)
    SEGMENT_RANKINGS.write_rows(rows, tmp_path)
    assert segment_rankings(tmp_path) == {}


def test_table_is_read_as_rankings_by_attribute_and_value(spark, random, tmp_path):
    rows = random.ranked(ATTRIBUTES, attributes=("market", "channel"))
    SEGMENT_RANKINGS.write_rows(rows, tmp_path)
    assert SEGMENT_RANKINGS.read(spark, tmp_path).count() == 4
    found = segment_rankings(tmp_path)
    assert {attribute: list(rankings) for attribute, rankings in found.items()} == {
        "market": ["FR", "IT"],
        "channel": ["search", "friend"],
    }
    names = [each.name for each in random.shop.recommenders]
    for row in rows.itertuples():
        ranking = found[row.attribute][row.value]
        assert ranking.sales.tolist() == row.sales.tolist()
        np.testing.assert_array_equal(ranking.scores, row.scores)
        assert {names[code] for code in ranking.reasons} == {"popularity"}
        assert (ranking.scores.dtype, ranking.reasons.dtype) == (np.float32, np.uint8)
        assert ranking.covers.tolist() == [0] * len(row.sales)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"attributes": ["market", "channel", "market"]}, "must name each attribute once"),
        ({"attributes": [False]}, "valid string"),  # YAML reads NO as false
        ({"attributes": [""]}, "at least 1 character"),
        ({"attributes": "market"}, "valid tuple"),
        ({"top_k": 9}, "greater than or equal to 10"),
        ({"min_events": 0}, "greater than or equal to 1"),
        ({"max_values": 0}, "greater than or equal to 1"),
        ({"prior_events": -1.0}, "greater than or equal to 0"),
        ({"prior": 1.0}, "unknown key"),
    ],
)
def test_invalid_settings_are_refused(settings, problem):
    with pytest.raises(ValidationError, match=problem):
        SegmentSettings.model_validate(settings)
