import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from recsys.instants import DAY, HOUR, to_micros
from recsys.meta_model import Basket
from recsys.pipeline.evaluation import (
    candidates_and_relevant,
    first_purchases,
    known_users,
    most_pages,
    page_metrics,
    ranked_pages,
)
from recsys.ranking.moments import quarters
from recsys.recommenders.own import bought_before
from recsys.shop.histories import Block
from recsys.testing.closeness import assert_same_order, rounding
from recsys.testing.shops import AS_OF, make_shop, purchase, sale, visit
from tests.helpers.shops import log_odds_one_by_one

METRICS = ("recall@10", "ndcg@10", "hit_rate@10", "mrr")
TERMS = 12 * 20
"""Largest number of terms of a score: events of a history times features of a profile, or features of a page."""


@pytest.fixture(scope="module")
def pages(fitted, meta_model) -> list[dict]:
    return collected(page_metrics(fitted.histories, fitted.shop, fitted.instants, {"meta": meta_model}))


def collected(frame) -> list[dict]:
    rows = frame.orderBy("as_of", "policy", "user_id").toArrow().to_pylist()
    return [row | {"as_of": to_micros(row["as_of"])} for row in rows]


def test_largest_number_of_pages_is_the_number_of_buyers_of_each_day(spark, fitted, pages):
    days = fitted.instants
    buyers = {
        (row["user_id"], as_of)
        for row in fitted.data.event_rows
        for as_of in days
        if row["kind"] == "purchase" and as_of <= row["occurred_at"] < as_of + DAY
    }
    assert most_pages(spark.createDataFrame(fitted.data.events), days) == len(buyers)
    assert len({(row["user_id"], row["as_of"]) for row in pages}) <= len(buyers)


def expected_page(fitted, meta_model, user: str, as_of: int, new_only: bool = False) -> dict[str, dict]:
    """Return the metrics of each policy on a user's page, from the rows of the tables; empty without a page."""
    sales = {row["sale_id"]: row for row in fitted.data.sale_rows}
    purchases = [row for row in fitted.data.event_rows if row["user_id"] == user and row["kind"] == "purchase"]
    today = [row for row in purchases if as_of <= row["occurred_at"] < as_of + DAY]
    left_out = {row["sale_id"] for row in purchases if new_only and row["occurred_at"] < as_of}
    if not today:
        return {}
    moment = min(row["occurred_at"] for row in today)
    known = fitted.known(user, as_of)
    before = {fitted.shop.catalogue.sale_ids[sale] for sale in known.sales[known.purchases]}
    ids = fitted.sale_ids(as_of)
    candidates = [
        column
        for column, each in enumerate(ids)
        if sales[each]["opens_at"] <= moment < sales[each]["closes_at"] and each not in left_out
    ]
    relevant = {column for column in candidates if ids[column] in {row["sale_id"] for row in today}}
    if not relevant:
        return {}
    scorer = fitted.scorer(as_of)
    scores = {name: scorer.score(name, known)[0] for name in scorer.names}
    scores["meta"] = log_odds_one_by_one(scorer, meta_model, known)
    found = {}
    for policy, values in scores.items():
        order = sorted(candidates, key=lambda column: (-float(values[column]), column))
        gaps = np.abs(np.diff(values[order]))
        ranks = sorted(order.index(column) + 1 for column in relevant)
        shown = [rank for rank in ranks if rank <= 10]
        ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(len(ranks), 10) + 1))
        gain = sum(1 / math.log2(rank + 1) for rank in shown) / ideal
        found[policy] = {
            **dict(zip(METRICS, (len(shown) / len(ranks), gain, float(bool(shown)), 1 / ranks[0]), strict=True)),
            "known_events": len(known.sales),
            "shown": [ids[column] for column in order[:10]],
            "bought": [ids[column] for column in sorted(relevant)],
            "has_order": len({float(values[column]) for column in candidates}) > 1,
            "ranks": [order.index(column) + 1 for column in sorted(relevant)],
            **ndcg_by_case(order, relevant, {ids.index(each) for each in before & set(ids)}),
            "has_near_tie": bool(((gaps > 0) & (gaps <= rounding(values, TERMS, dtype=np.float32))).any()),
        }
    return found


def ndcg_by_case(order: list[int], relevant: set[int], before: set[int]) -> dict[str, float | None]:
    """Return the ndcg@10 of a page without the sales bought before, and of a page of these only."""
    found = {}
    for name, page in (
        ("new_ndcg@10", [column for column in order if column not in before]),
        ("repeat_ndcg@10", [column for column in order if column in before]),
    ):
        gains = [1 / math.log2(rank + 1) for rank, column in enumerate(page[:10], 1) if column in relevant]
        ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(len(relevant & set(page)), 10) + 1))
        found[name] = sum(gains) / ideal if ideal else None
    return found


def test_predicted_purchases_are_the_sums_of_the_probabilities_and_of_recommenders_unknown(fitted, meta_model, pages):
    basket = replace(meta_model, basket=Basket(math.log(1.5), 0.0))
    rows = collected(
        page_metrics(fitted.histories, fitted.shop, fitted.instants, {"plain": meta_model, "meta": basket})
    )
    by_policy = {policy: [row for row in rows if row["policy"] == policy] for policy in ("plain", "meta", "popularity")}
    assert {row["predicted"] for row in by_policy["popularity"]} == {None}
    n_open = open_at_first_purchase(fitted)
    for plain, meta in zip(by_policy["plain"], by_policy["meta"], strict=True):
        assert plain["shift"] == 0
        assert 0 < plain["predicted@10"] <= plain["predicted"]
        n = n_open[meta["as_of"], meta["user_id"]]
        assert meta["predicted"] == pytest.approx(min(1.5, 0.99 * n), rel=2e-3)
        assert meta["predicted@10"] == pytest.approx(meta["predicted"], rel=1e-6) or n > 10
        assert [plain[name] for name in ("ndcg@10", "shown")] == [meta[name] for name in ("ndcg@10", "shown")]


def open_at_first_purchase(fitted) -> dict[tuple[int, str], int]:
    """Return the number of sales open at the first purchase of each user and day."""
    sales, found = fitted.data.sale_rows, {}
    for as_of in fitted.instants:
        for row in sorted(fitted.data.event_rows, key=lambda row: row["occurred_at"], reverse=True):
            if row["kind"] == "purchase" and as_of <= row["occurred_at"] < as_of + DAY:
                is_open = [each["opens_at"] <= row["occurred_at"] < each["closes_at"] for each in sales]
                found[as_of, row["user_id"]] = sum(is_open)
    return found


@pytest.mark.parametrize("new_only", [False, True])
def test_metrics_equal_those_of_each_page_ranked_in_plain_python(fitted, meta_model, new_only):
    pages = collected(
        page_metrics(fitted.histories, fitted.shop, fitted.instants, {"meta": meta_model}, new_only=new_only)
    )
    found = {(row["as_of"], row["user_id"], row["policy"]): row for row in pages}
    assert len(found) == len(pages)
    expected = {
        (as_of, user, policy): metrics
        for as_of in fitted.instants
        for user in fitted.users
        for policy, metrics in expected_page(fitted, meta_model, user, as_of, new_only).items()
    }
    assert found.keys() == expected.keys()
    assert len({key[:2] for key in expected}) > 8
    assert max(len(row["ranks"]) for row in pages) > 1
    clear = {key: metrics for key, metrics in expected.items() if not metrics.pop("has_near_tie")}
    assert len(clear) > 0.9 * len(expected)  # on the others, rounding decides the ranks
    for key, metrics in clear.items():
        for name, value in metrics.items():
            exact = value is None or isinstance(value, list | bool)
            assert found[key][name] == (value if exact else pytest.approx(value)), (key, name)
    ordered = {row["policy"] for row in pages if row["has_order"]}
    of_all_sales = {"own_purchases", "own_recency", "own_habit"} if new_only else set()  # nothing was bought before
    assert {row["policy"] for row in pages} - ordered == {"activity", *of_all_sales}


def test_live_pages_rank_by_the_features_of_their_moment(fitted, meta_model):
    frame = page_metrics(fitted.histories, fitted.shop, fitted.instants, {"meta": meta_model}, lag=HOUR)
    rows = [row for row in collected(frame) if row["policy"] in ("live_meta", "live_popularity", "meta", "popularity")]
    assert Counter(row["policy"] for row in rows) == dict.fromkeys(
        ("live_meta", "live_popularity", "meta", "popularity"), len(rows) // 4
    )
    pages = {(row["as_of"], row["user_id"], row["policy"]): row for row in rows}
    differ = 0
    for as_of, user, policy in pages:
        if policy != "live_meta":
            continue
        row = pages[as_of, user, policy]
        purchases = fitted.data.block.take(np.array([fitted.users.index(user)]))
        _, events = purchases.purchases_between(as_of, as_of + DAY)
        assert to_micros(row["first_purchase_at"]) == purchases.occurred_at[events[0]]
        session = purchases.session_starts()[events[:1]]
        scorer, moments = fitted.shop.scorer(as_of), quarters(session - HOUR, as_of)
        features = scorer.features(fitted.known(user, as_of))
        live = fitted.shop.moments(as_of).update_pages(features, moments)
        repeat = bought_before(fitted.known(user, as_of), scorer.horizon)
        for name, scores in (
            ("live_meta", meta_model.log_odds(live, repeat)[0]),
            ("live_popularity", live[scorer.names.index("popularity"), 0]),
        ):
            found, ids = pages[as_of, user, name], fitted.sale_ids(as_of)
            places = [ids.index(sale_id) for sale_id in found["shown"]]
            assert_same_order(scores, places, sorted(places, key=lambda each: -scores[each]), within=1e-4)
        differ += row["shown"] != pages[as_of, user, "meta"]["shown"]
        assert row["predicted"] > 0
    assert differ > 3


def test_all_policies_are_measured_on_the_same_pages(fitted, pages):
    by_policy: dict[str, set] = {}
    for row in pages:
        by_policy.setdefault(row["policy"], set()).add((row["as_of"], row["user_id"]))
    assert set(by_policy) == {"meta", *(recommender.name for recommender in fitted.shop.recommenders)}
    assert len({frozenset(users) for users in by_policy.values()}) == 1


def test_sampled_users_depend_only_on_the_seed(fitted, meta_model, pages):
    def sampled(share: float, seed: int, partitions: int) -> set[tuple[int, str]]:
        frame = page_metrics(
            fitted.histories.repartition(partitions), fitted.shop, fitted.instants, {"meta": meta_model}, share, seed
        )
        return {(row["as_of"], row["user_id"]) for row in collected(frame)}

    everybody = {(row["as_of"], row["user_id"]) for row in pages}
    some = sampled(0.5, 1, 1)
    assert some == sampled(0.5, 1, 4)
    assert some < everybody
    assert some != sampled(0.5, 2, 1)
    assert len(some) > 0.2 * len(everybody)


def test_first_purchase_is_the_earliest_of_the_day():
    block: Block = make_shop(
        [sale("a"), sale("b")],
        [
            purchase("u", "a", -0.001),  # the day before
            visit("u", "b", 0.1),
            purchase("u", "b", 0.7),
            purchase("u", "a", 0.4),
            purchase("v", "a", 0),
            purchase("v", "b", 0.2),
        ],
    ).block
    assert first_purchases(block, AS_OF).tolist() == [AS_OF + round(0.4 * DAY), AS_OF]


def test_first_purchase_of_a_closed_sale_sets_the_time_of_the_page_but_is_not_relevant(fitted_shop, meta_model, fitted):
    sales = [sale("closed", -3, 0.1), sale("open", -3, 2), sale("other", -3, 2)]
    data = make_shop(
        [*sales, *fitted.data.sale_rows[:5]],
        [
            visit("u", "open", -0.5),
            purchase("u", "closed", 0.5),
            purchase("u", "open", 0.6),
            purchase("nobody", "closed", 0.5),  # none of the sales open then: no page
        ],
    )
    shop = fitted_shop(data)
    rows = collected(page_metrics(shop.histories, shop.shop, [AS_OF], {"meta": meta_model}))
    assert {row["user_id"] for row in rows} == {"u"}
    own_visits = next(row for row in rows if row["policy"] == "own_visits")
    assert [own_visits[name] for name in METRICS] == [1, 1, 1, 1]


def test_sale_bought_before_is_neither_ranked_nor_relevant_on_a_page_of_new_ones(fitted_shop, meta_model, fitted):
    sales = [sale("again", -60, 2), sale("late", -3, 2), sale("new", -3, 2), *fitted.data.sale_rows[:5]]
    data = make_shop(
        sales,
        [
            purchase("u", "again", -50),  # before the window of histories
            purchase("u", "again", 0.3),
            visit("u", "new", -0.5),  # a visit is no purchase
            purchase("u", "new", 0.3),
            purchase("v", "late", -0.001),
            purchase("v", "late", 0.4),  # nothing new: no page
            purchase("w", "late", 0),  # at the instant itself: new
        ],
    )
    shop = fitted_shop(data)
    block = data.block
    candidates, relevant = candidates_and_relevant(block, shop.shop, AS_OF, new_only=True)
    ids = np.array(shop.sale_ids(AS_OF))
    assert [set(ids[row]) for row in relevant] == [{"new"}, set(), {"late"}]
    everything = candidates_and_relevant(block, shop.shop, AS_OF)[0]
    assert [set(ids[row]) for row in everything & ~candidates] == [{"again"}, {"late"}, set()]
    rows = collected(page_metrics(shop.histories, shop.shop, [AS_OF], {"meta": meta_model}, new_only=True))
    assert {row["user_id"] for row in rows} == {"u", "w"}


def test_day_without_a_purchase_has_no_page(fitted, meta_model):
    later = AS_OF + 20 * DAY
    assert np.all(fitted.data.block.occurred_at < later)
    assert collected(page_metrics(fitted.histories, fitted.shop, [later], {"meta": meta_model})) == []


def test_known_users_are_those_with_the_sale_in_their_history(fitted):
    rows = known_users(fitted.histories, fitted.shop, fitted.instants).toArrow().to_pylist()
    found = {(to_micros(row["as_of"]), row["sale_id"]): row["users"] for row in rows}
    assert len(found) == len(rows)
    expected: Counter = Counter()
    for as_of in fitted.instants:
        for user in fitted.users:
            known = fitted.known(user, as_of).sales
            expected.update({(as_of, fitted.data.catalogue.sale_ids[sale]) for sale in known})
    assert found == expected
    assert max(found.values()) > 3


def test_pages_can_be_ranked_by_any_scores(fitted):
    shop = fitted.shop

    def by_position(block: Block, as_of: int) -> dict[str, np.ndarray]:
        n_sales = len(shop.horizon(as_of))
        return {"last": np.broadcast_to(np.arange(n_sales), (len(block), n_sales))}

    rows = collected(ranked_pages(fitted.histories, fitted.shop, fitted.instants, by_position))
    assert len(rows) > 8
    for row in rows:
        assert row["policy"] == "last"
        assert row["shown"] == sorted(row["shown"], reverse=True)
        assert row["ranks"] == sorted(row["ranks"], reverse=True)
