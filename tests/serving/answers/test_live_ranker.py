from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from recommendations.v1 import recommendations_pb2 as pb

from recsys.instants import DAY, HOUR, SECOND
from recsys.meta_model.basket import Basket
from recsys.meta_model.boosted import BoostedModel
from recsys.meta_model.logistic import LogisticModel
from recsys.ranking.moments import Moments, quarters
from recsys.ranking.ranker import Scored
from recsys.recommenders.popularity import Popularity
from recsys.shop.histories import Histories
from recsys.shop.live_counts import LiveCounts
from recsys.testing.shops import AS_OF, HISTORY, make_shop, visit
from serving.answers.live_ranker import LiveRanker
from serving.answers.pages import Pick
from tests.helpers.asking import answered, shown
from tests.helpers.counted_events import counted_once, live_counts
from tests.helpers.live_shop import NOW, LiveShop
from tests.helpers.ranked_shop import RankedShop
from tests.helpers.shops import CALIBRATION, history_of


@pytest.fixture
def live(ranked_shop, tmp_path) -> LiveShop:
    return LiveShop(ranked_shop, tmp_path)


def test_live_features_are_those_of_a_night_fitted_to_all_events_and_those_of_training(ranked_shop, live):
    night, rng = ranked_shop, np.random.default_rng(4)
    scorer, catalogue = night.ranker.scorer, night.data.catalogue
    users = night.data.block.user_ids.to_pylist()
    drawn = rng.integers(10 * HOUR, size=300).tolist()
    kinds, sale_ids = ["visit", "purchase"], catalogue.sale_ids
    rows = [
        visit(str(rng.choice(users)), str(rng.choice(sale_ids)), at / DAY, kind=str(rng.choice(kinds))) for at in drawn
    ]

    def is_open(row: dict) -> bool:
        sale = catalogue.position[row["sale_id"]]
        return catalogue.opens_at[sale] <= row["occurred_at"] < catalogue.closes_at[sale]

    while_open = {(row["user_id"], row["sale_id"]) for row in rows if is_open(row)}
    assert 50 < sum(is_open(row) for row in rows) < 250
    # A later event takes the place of an earlier one, also if only the earlier one occurred while the sale was open.
    rows = [row for row in rows if is_open(row) or (row["user_id"], row["sale_id"]) not in while_open]
    of_users = defaultdict(list)
    for row in rows:
        of_users[row["user_id"]].append((row["sale_id"], row["kind"] == "purchase", row["occurred_at"]))
    live.counts = live_counts(counted_once(of_users))
    before = [row for row in night.data.event_rows if row["occurred_at"] < AS_OF and row["recorded_at"] < AS_OF]
    block = make_shop(night.data.sale_rows, before + rows).block
    known = block.as_of(NOW + SECOND, HISTORY)
    horizon = replace(scorer.horizon, as_of=NOW)
    now = live.top_sales.chooser.live.at(NOW).scorer.features(Histories.of_unknown_user(AS_OF, len(catalogue)))
    shared = [number for number, each in enumerate(scorer.recommenders) if not each.is_personal]
    assert len(shared) == 5
    for number in shared:
        recommender = scorer.recommenders[number]
        scores = recommender.fit(recommender.count(replace(known, as_of=NOW), horizon), horizon).score(known)[:1]
        values = np.log(1 + recommender.scale * scores) if recommender.scale else scores
        assert_allclose(now[number], values - values.mean(), rtol=1e-4, atol=1e-5, err_msg=recommender.name)

    nobody = scorer.features(Histories.of_unknown_user(AS_OF, len(catalogue)))
    models = list(scorer.models)
    for number, each in enumerate(scorer.recommenders):
        if isinstance(each, Popularity):
            models[number] = replace(models[number], **each.count_later(block, scorer.horizon))
    trained = Moments(replace(scorer, models=models)).update_pages(nobody, quarters(np.array([NOW]), AS_OF))
    assert_allclose(now, trained, rtol=1e-4, atol=1e-5)
    assert np.abs(trained - nobody).max() > 0.5


def test_without_an_event_the_page_at_the_instant_of_the_night_is_that_of_the_night(ranked_shop, live):
    for user_id in ranked_shop.users[:8]:
        night, now = (answered(each, AS_OF, user_id, n=10) for each in (live.of_night, live.top_sales))
        assert_allclose([sale.score for sale in now.sales], [sale.score for sale in night.sales], rtol=2e-5, atol=5e-5)


def test_sale_that_sells_climbs_on_every_page(ranked_shop, live):
    user_id = ranked_shop.users[0]
    last = shown(answered(live.top_sales, NOW, user_id, policy="popularity", n=100))[-1]
    before = {user: live.rank(last, user, policy="popularity") for user in (user_id, "stranger", "")}
    live.buy(last, 500, NOW - HOUR)
    assert {live.rank(last, user, policy="popularity") for user in before} == {0}
    assert min(before.values()) > 5


def test_events_of_sales_that_the_night_does_not_know_change_no_page(ranked_shop, live):
    user_id = ranked_shop.users[0]
    before = shown(answered(live.top_sales, NOW, user_id, n=100))
    live.buy("unknown", 1000, NOW - HOUR)
    assert shown(answered(live.top_sales, NOW, user_id, n=100)) == before


def test_while_nothing_is_counted_pages_are_those_of_the_night(ranked_shop, live):
    user_id, sale_id = ranked_shop.users[0], shown(answered(live.of_night, NOW, ranked_shop.users[0]))[3]
    night = answered(live.of_night, NOW, user_id, n=10)
    for counts in (LiveCounts(), live_counts([(sale_id, False, AS_OF - HOUR)])):  # none at all, none since the night
        live.counts = counts
        now = answered(live.top_sales, NOW, user_id, n=10)
        assert shown(now) == shown(night)
        assert_allclose([sale.score for sale in now.sales], [sale.score for sale in night.sales], rtol=2e-5, atol=5e-5)
    live.buy(sale_id, 1, NOW - HOUR)
    scores = [sale.score for sale in answered(live.top_sales, NOW, user_id, n=10).sales]
    assert np.abs(np.subtract(scores, [sale.score for sale in night.sales])).max() > 1e-3


def test_one_ranker_serves_the_pages_of_a_second(ranked_shop, live):
    ranker = live.top_sales.chooser.live
    live.buy(ranked_shop.data.catalogue.sale_ids[0], 1, NOW - HOUR)
    first = ranker.at(NOW)
    assert ranker.at(NOW + SECOND - 1) is first
    assert ranker.at(NOW + SECOND) is not first
    assert ranker.shared("popularity", NOW + SECOND) is ranker.shared("popularity", NOW + 2 * SECOND - 1)
    second = ranker.at(NOW + SECOND)
    live.counts = LiveCounts()
    assert ranker.at(NOW + SECOND) is not second


def test_clock_that_steps_back_behind_the_night_ranks_as_of_the_night(ranked_shop, live):
    nobody = Histories.of_unknown_user(AS_OF, len(ranked_shop.data.catalogue))
    of_night, before = (live.top_sales.chooser.live.at(at).scorer.features(nobody) for at in (AS_OF, AS_OF - HOUR))
    assert_array_equal(before, of_night)


def kept_of(scored: Scored, policy: str = "meta") -> list[Pick]:
    """Return a user's whole ranking as if the night had kept all of it, without rounding."""
    best, scores = scored.best(policy)
    return [(sale, score, 0, sale % 3) for sale, score in zip(best[0].tolist(), scores[0].tolist(), strict=True)]


def with_counts(rng: np.random.Generator, night: RankedShop) -> LiveCounts:
    """Return the counts of 300 events of random sales since the night."""
    sale_ids, drawn = night.data.catalogue.sale_ids, rng.integers(10 * HOUR, size=300)
    return live_counts([(str(rng.choice(sale_ids)), bool(at % 3), AS_OF + int(at)) for at in drawn])


@pytest.mark.parametrize(
    ("calibration", "basket", "tolerance"),
    [(None, None, 1e-5), (CALIBRATION, None, 1e-5), (None, Basket(0.2, 0.0), 2e-3)],  # baskets are right to 0.1 %
)
def test_whole_ranking_that_is_moved_to_the_present_equals_the_live_one(ranked_shop, calibration, basket, tolerance):
    meta_model = replace(ranked_shop.ranker.meta_model, calibration=calibration, basket=basket)
    assert meta_model.repeat is not None
    night = replace(ranked_shop.ranker, meta_model=meta_model)
    counts = with_counts(np.random.default_rng(6), ranked_shop)
    live = LiveRanker(night, ranked_shop.data.catalogue, lambda: counts)
    n_bought, n_moved = 0, 0
    for row in range(len(ranked_shop.data.block.user_ids)):
        history = history_of(ranked_shop.data, row)
        scored = night.scored(history)
        bought = {int(column) for column in scored.repeat[1]}
        kept = kept_of(scored)
        found, expected = list(live.moved("meta", kept, bought, NOW)), kept_of(live.at(NOW).scored(history))
        assert_allclose([pick[1] for pick in found], [pick[1] for pick in expected], rtol=tolerance, atol=tolerance)
        by_sale = {pick[0]: pick[1] for pick in expected}
        assert_allclose([by_sale[pick[0]] for pick in found], sorted(by_sale.values())[::-1], atol=2 * tolerance)
        assert {(pick[0], *pick[2:]) for pick in found} == {(pick[0], *pick[2:]) for pick in kept}
        n_bought, n_moved = (
            n_bought + len(bought),
            n_moved + ([pick[0] for pick in found] != [pick[0] for pick in kept]),
        )
    assert n_bought > 10
    assert n_moved > 10


def test_moved_scores_of_one_level_stay_in_the_order_of_the_night(ranked_shop):
    """Two sales whose log-odds move alike stay in order: the one that the night ranks first wins the tie."""
    meta_model = ranked_shop.ranker.meta_model
    unmoved = replace(meta_model, coefficients=[0.0] * len(meta_model.features), repeat=None)
    live = LiveRanker(replace(ranked_shop.ranker, meta_model=unmoved), ranked_shop.data.catalogue, LiveCounts)
    kept = [(5, -1.0, 1, 0), (2, -1.0, 2, 0), (7, -2.0, 3, 0), (0, -2.0, 4, 0)]
    found = list(live.moved("meta", kept, (), NOW))
    assert [pick[0] for pick in found] == [5, 2, 7, 0]
    assert_allclose([pick[1] for pick in found], [-1, -1, -2, -2], rtol=1e-6)


def test_kept_ranking_of_trees_and_of_a_recommender_stays(ranked_shop):
    names, zeros = ranked_shop.ranker.scorer.names, [0.0] * len(ranked_shop.ranker.scorer.names)
    trees = BoostedModel(names, zeros, zeros, names, zeros, "", [], 0.0)
    counts = with_counts(np.random.default_rng(6), ranked_shop)
    live = LiveRanker(replace(ranked_shop.ranker, meta_model=trees), ranked_shop.data.catalogue, lambda: counts)
    kept = [(5, -1.0, 1, 0), (2, -2.0, 2, 0)]
    assert [list(live.moved(policy, kept, (), NOW)) for policy in ("meta", "collaborative")] == [kept, kept]


def test_what_has_changed_for_all_users_is_computed_once_a_second(ranked_shop, monkeypatch):
    counts, calls = LiveCounts(), []
    live = LiveRanker(ranked_shop.ranker, ranked_shop.data.catalogue, lambda: counts)
    effects = LogisticModel.effects
    monkeypatch.setattr(LogisticModel, "effects", lambda *given: calls.append(1) or effects(*given))
    for later in (0, 1, SECOND - 1, SECOND, SECOND + 1):
        list(live.moved("meta", [(5, -1.0, 1, 0)], (), NOW + later))
    assert len(calls) == 2


def test_near_its_deadline_a_page_is_the_live_one_as_far_as_the_night_kept_it(ranked_shop, tmp_path):
    live = LiveShop(ranked_shop, tmp_path, top_k=100)
    live.counts = with_counts(np.random.default_rng(6), ranked_shop)
    differ = 0
    for user_id in ranked_shop.users:
        page = answered(live.top_sales, NOW, user_id, n=100)
        urgent, night = (
            answered(each, NOW, user_id, n=100, is_urgent=True) for each in (live.top_sales, live.of_night)
        )
        scores = {sale.sale_id: sale.score for sale in page.sales}
        assert_allclose(
            [sale.score for sale in urgent.sales], [scores[sale_id] for sale_id in shown(urgent)], atol=1e-3
        )
        assert_allclose([scores[each] for each in shown(urgent)], list(scores.values()), atol=1e-3)  # steps of 16 bits
        assert shown(answered(live.by_snapshot, NOW, user_id, n=100, is_urgent=True)) == shown(night)
        differ += shown(urgent) != shown(night)
    assert differ > 10
    collaborative = [
        shown(answered(each, NOW, ranked_shop.users[0], policy="collaborative", is_urgent=True))
        for each in (live.top_sales, live.of_night)
    ]
    assert collaborative[0] == collaborative[1]


def test_live_page_says_why_it_shows_each_sale(ranked_shop, live):
    page = answered(live.top_sales, NOW, ranked_shop.users[0])
    assert page.fallback_level == pb.FALLBACK_LEVEL_NONE
    assert all(sale.reason for sale in page.sales)
