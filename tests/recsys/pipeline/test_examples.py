from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest

from recsys.instants import DAY, HOUR, MINUTE, QUARTER
from recsys.meta_model import MetaModelSettings
from recsys.pipeline.examples import BUCKETS, buckets_within, most_examples, sample_page, training_examples
from recsys.storage.outputs import Outputs
from recsys.testing.closeness import assert_close
from recsys.testing.shops import AS_OF, ShopData, instant, make_shop, purchase, random_shop, sale, visit

SETTINGS = MetaModelSettings(negatives=3, seed=5, moments="midnight")
LIVE = SETTINGS.model_copy(update={"moments": "session"})
COLUMNS = ["as_of", "user_id", "sale_id", "bought", "sampling_rate", "repeat", "position"]
TERMS = 12 * 20
"""Largest number of terms of a score: events of a history times features of a profile, or features of a page."""


@pytest.fixture(scope="module")
def examples(fitted) -> list[dict]:
    return collected(training_examples(fitted.histories, fitted.shop, fitted.instants, SETTINGS))


def collected(frame) -> list[dict]:
    return [row.asDict() for row in frame.orderBy("as_of", "user_id", "sale_id").collect()]


class Day:
    """The sales that a user bought in the 24 hours from an instant, and the other candidates, from the tables."""

    def __init__(self, data: ShopData, user: str, as_of: int) -> None:
        sales = {row["sale_id"]: row for row in data.sale_rows}
        own = [row for row in data.event_rows if row["user_id"] == user and row["kind"] == "purchase"]
        today = [row for row in own if as_of <= row["occurred_at"] < as_of + DAY]
        everything = {row["sale_id"] for row in today}
        self.bought: set[str] = set()
        self.candidates: list[set[str]] = []
        for row in today:
            moment = row["occurred_at"]
            is_open = {sale_id for sale_id, each in sales.items() if each["opens_at"] <= moment < each["closes_at"]}
            if row["sale_id"] in is_open:
                self.bought.add(row["sale_id"])
                self.candidates.append(is_open - everything)

    @property
    def available(self) -> set[str]:
        return set().union(*self.candidates)


def test_positives_are_purchases_of_open_sales_and_negatives_open_sales_not_bought_that_day(fitted, examples):
    found = defaultdict(lambda: {True: set(), False: set()})
    for row in examples:
        assert row["sale_id"] not in found[row["as_of"], row["user_id"]][row["bought"]]
        found[row["as_of"], row["user_id"]][row["bought"]].add(row["sale_id"])
    users_with_examples = 0
    for as_of in fitted.instants:
        for user in fitted.users:
            day = Day(fitted.data, user, as_of)
            drawn = found[as_of, user][False]
            assert found[as_of, user][True] == day.bought
            assert drawn <= day.available
            sizes = [min(SETTINGS.negatives, len(candidates)) for candidates in day.candidates]
            assert max(sizes, default=0) <= len(drawn) <= sum(sizes)
            users_with_examples += bool(day.bought)
    assert users_with_examples > 10
    assert set(found) >= {(as_of, user) for as_of in fitted.instants for user in fitted.users if found[as_of, user]}


def test_sampling_rate_is_the_share_of_the_users_candidates_that_was_sampled(fitted, examples):
    drawn = defaultdict(int)
    for row in examples:
        drawn[row["as_of"], row["user_id"]] += not row["bought"]
    for row in examples:
        available = len(Day(fitted.data, row["user_id"], row["as_of"]).available)
        expected = 1.0 if row["bought"] else drawn[row["as_of"], row["user_id"]] / available
        assert row["sampling_rate"] == pytest.approx(expected)
        assert 0 < row["sampling_rate"] <= 1


def test_examples_do_not_depend_on_partitions_or_other_instants(fitted, examples):
    for partitions, instants in ((1, fitted.instants), (5, fitted.instants[1:])):
        frame = training_examples(fitted.histories.repartition(partitions), fitted.shop, instants, SETTINGS)
        found, expected = collected(frame), [row for row in examples if row["as_of"] in instants]
        assert [[row[name] for name in COLUMNS] for row in found] == [
            [row[name] for name in COLUMNS] for row in expected
        ]
        for name in set(expected[0]).difference(COLUMNS):
            of_expected = np.array([row[name] for row in expected], np.float32)
            scale = max(1, np.abs(of_expected).max())  # a feature is log(1 + gain * score), or the score itself
            assert_close([row[name] for row in found], of_expected, terms=TERMS, scale=scale, about=name)


def test_largest_number_of_examples_counts_purchases_of_the_days_and_distinct_sales_shown_to_buyers(spark):
    rows = [
        ("a", "s1", "purchase", 0),  # 1 + 3 negatives
        ("a", "s2", "purchase", 2 * DAY - 1),  # 4 on another day
        ("a", "s3", "visit", 5),
        ("b", "s1", "purchase", -1),  # before the first day
        ("b", "s1", "purchase", 2 * DAY),  # after the last day
        ("b", "s2", "purchase", DAY),  # 4
    ]
    schema = "user_id string, sale_id string, kind string, moment long"
    events = spark.createDataFrame(rows, schema).selectExpr("*", f"timestamp_micros({AS_OF} + moment) as occurred_at")
    pages = [
        ("a", 7, ["s1", "s8", "s9"]),
        ("a", 9, ["s9", "s7"]),  # with the page before: 4 sales
        ("a", -1, ["s1"]),
        ("b", 7, ["s1"]),  # not on the day of the purchase
        ("c", 7, ["s1"]),  # no buyer
    ]
    shown = spark.createDataFrame(pages, "user_id string, moment long, sale_ids array<string>")
    exposures = shown.selectExpr("*", f"timestamp_micros({AS_OF} + moment) as exposed_at")
    days = [AS_OF, AS_OF + DAY]
    assert sorted(most_examples(events, days, SETTINGS).values()) == [4, 8]
    assert sorted(most_examples(events, days, SETTINGS, exposures).values()) == [4, 12]


@pytest.mark.parametrize(
    ("most", "bound", "buckets"),
    [({}, 0, BUCKETS), ({0: 3, 2: 4}, 7, BUCKETS), ({0: 3, 2: 4}, 6, 2), ({0: 3, 2: 4}, 3, 2), ({0: 3, 2: 4}, 2, 0)],
)
def test_buckets_are_as_many_as_the_bound_allows(most, bound, buckets):
    assert buckets_within(most, bound) == buckets


def test_another_seed_draws_other_sales_for_the_same_purchases(fitted, examples):
    changed = SETTINGS.model_copy(update={"seed": 6})
    others = collected(training_examples(fitted.histories, fitted.shop, fitted.instants, changed))
    bought, not_bought = (
        [
            {(row["as_of"], row["user_id"], row["sale_id"]) for row in rows if row["bought"] == is_bought}
            for rows in (examples, others)
        ]
        for is_bought in (True, False)
    )
    assert bought[0] == bought[1]
    assert not_bought[0] != not_bought[1]


def test_features_equal_those_of_the_user_scored_alone(fitted, examples):
    assert len(examples) > 60
    for row in examples:
        features = fitted.features(row["user_id"], row["as_of"])
        column = fitted.sale_ids(row["as_of"]).index(row["sale_id"])
        assert set(row) == {*COLUMNS, *features}
        known = fitted.known(row["user_id"], row["as_of"])
        bought = {fitted.data.catalogue.sale_ids[sale] for sale in known.sales[known.purchases]}
        assert row["repeat"] == (row["sale_id"] in bought)
        for name, values in features.items():
            assert row[name] == pytest.approx(float(values[column]), rel=1e-4, abs=1e-5), name


def test_some_examples_are_repeat_purchases_and_some_are_not(examples):
    kinds = {(row["repeat"], row["bought"]) for row in examples}
    assert kinds == {(repeat, bought) for repeat in (False, True) for bought in (False, True)}


def test_candidates_are_sampled_uniformly(fitted):
    sales = [sale(f"s{number}") for number in range(8)]
    data = make_shop(sales, [purchase("u", "s3", 0.5)])
    shop = FakeShop(data)
    rounds = 2_000
    drawn = np.zeros(8)
    for seed in range(rounds):
        drawn += sample_page(data.block, shop, AS_OF, SETTINGS.model_copy(update={"seed": seed}))[1][0]
    expected = rounds * 3 / 7
    others = np.delete(drawn, 3)
    assert drawn[3] == 0
    assert np.abs(others - expected).max() < 5 * np.sqrt(rounds * 3 / 7 * 4 / 7)


def test_samples_of_users_are_independent(fitted):
    data = make_shop([sale(f"s{number}") for number in range(8)], [purchase(f"u{n}", "s3", 0.5) for n in range(200)])
    drawn = sample_page(data.block, FakeShop(data), AS_OF, SETTINGS)[1]
    assert len({row.tobytes() for row in drawn}) > 30  # of 35 ways to choose 3 of 7


def test_the_moment_of_an_example_is_the_beginning_of_the_session_of_its_purchase():
    minute = 1 / (24 * 60)
    sales = [sale("a"), sale("b"), sale("c"), sale("early", closes=0.3), sale("late", opens=0.5)]
    events = [
        *[visit("u", "b", 0.2 + number * 20 * minute) for number in range(3)],
        purchase("u", "a", 0.2 + 60 * minute),  # in one session with the visits
        *[visit("u", "a", 0.2 + 90 * minute), purchase("u", "b", 0.6), purchase("u", "a", 0.7)],
    ]
    data = make_shop(sales, events)
    settings = MetaModelSettings(negatives=5)
    bought, drawn, _, moments = sample_page(data.block, FakeShop(data), AS_OF, settings)
    ids = [data.catalogue.sale_ids[sale] for sale in data.horizon().sales]
    found = dict(zip(ids, moments[0].tolist(), strict=True))
    assert {each for each, is_one in zip(ids, (bought | drawn)[0], strict=True) if is_one} == set(ids)
    assert found["a"] == instant(0.2)  # bought twice: the first time counts
    assert found["c"] == found["early"] == instant(0.2)  # drawn for that purchase
    assert found["b"] == found["late"] == instant(0.6)


def test_shared_features_are_as_of_the_session_and_all_others_as_of_midnight(fitted, examples):
    live = collected(training_examples(fitted.histories, fitted.shop, fitted.instants, LIVE))
    personal = [each.name for each in fitted.shop.recommenders if each.is_personal]
    shared = [each.name for each in fitted.shop.recommenders if not each.is_personal]
    assert [[row[name] for name in COLUMNS + personal] for row in live] == [
        [row[name] for name in COLUMNS + personal] for row in examples
    ]
    sessions, sales = _sessions(fitted.data), {row["sale_id"]: row for row in fitted.data.sale_rows}
    differ = 0
    for row, before in zip(live, examples, strict=True):
        if not row["bought"]:
            continue
        bought_at = min(
            each["occurred_at"]
            for each in fitted.data.event_rows
            if (each["user_id"], each["sale_id"], each["kind"]) == (row["user_id"], row["sale_id"], "purchase")
            and row["as_of"] <= each["occurred_at"] < row["as_of"] + DAY
            and sales[row["sale_id"]]["opens_at"] <= each["occurred_at"] < sales[row["sale_id"]]["closes_at"]
        )
        scorer, as_of = fitted.shop.scorer(row["as_of"]), row["as_of"]
        quarter = max(sessions[row["user_id"], bought_at] - as_of, 0) // QUARTER
        column = fitted.sale_ids(as_of).index(row["sale_id"])
        opened = fitted.data.catalogue.opens_at[scorer.horizon.sales]
        hours = np.log1p(np.maximum(as_of + quarter * QUARTER - opened, 0) / HOUR)
        assert row["hours_open"] == pytest.approx(hours[column] - hours.mean(), abs=1e-5)
        differ += any(abs(row[name] - before[name]) > 1e-3 for name in shared if name.startswith("popularity"))
    assert differ > 10


def _sessions(data: ShopData) -> dict[tuple[str, int], int]:
    """Return when the session of each user's events began, by user and time."""
    found: dict[tuple[str, int], int] = {}
    last: dict[str, int] = {}
    for row in sorted(data.event_rows, key=lambda row: row["occurred_at"]):
        user, moment = row["user_id"], row["occurred_at"]
        before = last.get(user)
        continues = before is not None and moment - before < 30 * MINUTE
        found[user, moment] = found[user, before] if continues else moment
        last[user] = moment
    return found


class FakeShop:
    """The part of a shop that sampling needs, without a folder."""

    def __init__(self, data: ShopData) -> None:
        self.catalogue = data.catalogue
        self.horizon = lambda as_of: data.catalogue.horizon(as_of, 36)


def page(sales: list[dict], events: list[dict], negatives: int = 5) -> tuple[list[str], list[str], float]:
    """Return the sales bought and sampled of the only user, and the user's sampling rate."""
    data = make_shop(sales, events)
    settings = MetaModelSettings(negatives=negatives)
    bought, drawn, rates, _ = sample_page(data.block, FakeShop(data), AS_OF, settings)
    ids = np.array([data.catalogue.sale_ids[sale] for sale in data.horizon().sales])
    return list(ids[bought[0]]), list(ids[drawn[0]]), float(rates[0])


def test_only_sales_open_at_the_time_of_the_purchase_are_sampled():
    sales = [
        sale("bought"),
        sale("closes then", closes=0.5),
        sale("closes after", closes=0.500001),
        sale("opens then", opens=0.5),
        sale("opens after", opens=0.500001),
    ]
    assert page(sales, [purchase("u", "bought", 0.5)]) == (["bought"], ["closes after", "opens then"], 1.0)


def test_purchase_before_its_sale_opens_or_at_its_close_is_not_an_example():
    sales = [sale("early", opens=0.6), sale("late", closes=0.4), sale("open")]
    assert page(sales, [purchase("u", "early", 0.5), purchase("u", "late", 0.4)]) == ([], [], 0.0)


def test_purchase_at_as_of_is_an_example_and_one_24_hours_later_is_not():
    sales = [sale("a", closes=3), sale("b", closes=3)]
    assert page(sales, [purchase("u", "a", 0)])[0] == ["a"]
    assert page(sales, [purchase("u", "a", 1)])[0] == []


def test_sale_bought_later_that_day_is_not_sampled_for_an_earlier_purchase():
    sales = [sale("a"), sale("b"), sale("c")]
    events = [purchase("u", "a", 0.1), purchase("u", "b", 0.9)]
    assert page(sales, events) == (["a", "b"], ["c"], 1.0)


def test_sale_bought_twice_is_one_example():
    assert page([sale("a"), sale("b")], [purchase("u", "a", 0.1), purchase("u", "a", 0.2)]) == (["a"], ["b"], 1.0)


def test_only_open_sale_leaves_no_negative():
    assert page([sale("a")], [purchase("u", "a", 0.1)]) == (["a"], [], 0.0)


# Features use no future data.


def hidden(row: dict, as_of: int) -> bool:
    return row["occurred_at"] >= as_of or row["recorded_at"] >= as_of


def with_another_future(data: ShopData, as_of: int, seed: int) -> ShopData:
    """Delete, change and add events that occurred or were recorded at or after an instant."""
    rng = np.random.default_rng(seed)
    ids = data.catalogue.sale_ids
    events = []
    for row in data.event_rows:
        if not hidden(row, as_of):
            events.append(row)
        elif rng.random() < 0.6:
            change = {"sale_id": str(rng.choice(ids)), "kind": str(rng.choice(["visit", "purchase"]))}
            events.append({**row, **change} if rng.random() < 0.7 else row)
    day = (as_of - AS_OF) / DAY
    for number in range(200):
        user = f"u{rng.integers(0, 40):02d}"
        occurred, recorded = (day, day) if number % 3 else (day - rng.exponential(5), day)
        add = purchase if number % 2 else visit
        events.append(add(user, str(rng.choice(ids)), occurred + number % 3 * 1e-4, recorded))
    users = sorted({row["user_id"] for row in events} | set(data.block.user_ids.to_pylist()))
    return make_shop(data.sale_rows, events, users)


@pytest.mark.parametrize("seed", range(4))
def test_changing_adding_or_deleting_an_event_at_or_after_as_of_changes_no_feature(fitted, seed):
    for as_of in fitted.instants:
        other = with_another_future(fitted.data, as_of, seed)
        assert sum(hidden(row, as_of) for row in fitted.data.event_rows) > 20
        shop = replace(fitted.shop, outputs=Outputs(fitted.shop.outputs.folder, (("future", f"{seed} {as_of}"),)))
        horizon = shop.horizon(as_of)
        features = []
        for data in (fitted.data, other):
            known = data.block.take(np.array([data.block.user_ids.to_pylist().index(user) for user in fitted.users]))
            everybody = data.block.as_of(as_of, shop.history)
            for recommender in shop.recommenders:
                model = recommender.fit(recommender.count(everybody, horizon), horizon)
                features.append(model.score(known.as_of(as_of, shop.history)))
        half = len(features) // 2
        for before, after, recommender in zip(features[:half], features[half:], shop.recommenders, strict=True):
            np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-7, err_msg=recommender.name)


def test_future_changes_no_feature_of_unchanged_examples(fitted, fitted_shop, examples):
    as_of = fitted.instants[1]
    events = []
    for row in fitted.data.event_rows:
        if row["kind"] == "purchase" or not hidden(row, as_of):
            events.append(row)  # purchases make the examples
    events += [visit(f"u{n % 31:02d}", "s05", 0 - 1 + n * 1e-3) for n in range(90)]
    events += [visit(f"u{n % 31:02d}", "s07", -3, recorded=-1) for n in range(90)]
    other = fitted_shop(make_shop(fitted.data.sale_rows, events, fitted.users))
    changed = collected(training_examples(other.histories, other.shop, [as_of], SETTINGS))
    before = [row for row in examples if row["as_of"] == as_of]
    assert [[row[name] for name in COLUMNS] for row in changed] == [[row[name] for name in COLUMNS] for row in before]
    for row, old in zip(changed, before, strict=True):
        for name in set(row).difference(COLUMNS):
            assert row[name] == pytest.approx(old[name], rel=1e-4, abs=1e-5), name


def test_changing_a_known_event_does_change_features(fitted):
    """Without this, the tests above would pass for features that use no event at all."""
    as_of = fitted.instants[-1]
    changed = make_shop(fitted.data.sale_rows, fitted.data.event_rows[::2], fitted.users)
    known = changed.block.as_of(as_of, fitted.shop.history)
    differ = []
    horizon = fitted.shop.horizon(as_of)
    for recommender, model in zip(fitted.shop.recommenders, fitted.scorer(as_of).models, strict=True):
        other = recommender.fit(recommender.count(known, horizon), horizon)
        old = model.score(fitted.data.block.as_of(as_of, fitted.shop.history))
        differ.append(not np.allclose(other.score(known), old))
    names = [recommender.name for recommender in fitted.shop.recommenders]
    unchanged = {name for name, is_other in zip(names, differ, strict=True) if not is_other}
    assert unchanged == {"hours_open", "hours_left"}


def test_instants_of_the_small_shops_are_those_of_the_examples():
    assert instant(0) == AS_OF
    assert random_shop(1).horizon().as_of == AS_OF
