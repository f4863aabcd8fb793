from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from recommendations.v1 import recommendations_pb2 as pb

from recsys.instants import DAY, HOUR, SECOND
from recsys.shop.histories import Histories
from recsys.shop.live_counts import LiveCounts
from tests.helpers.asking import answered, shown
from tests.helpers.counted_events import counted_once, live_counts
from tests.helpers.live_shop import NOW, LiveShop
from tests.helpers.shops import AS_OF, HISTORY, make_shop, visit


@pytest.fixture
def live(ranked_shop, tmp_path) -> LiveShop:
    return LiveShop(ranked_shop, tmp_path)


def test_live_features_are_those_of_a_night_fitted_at_that_instant_to_all_events(ranked_shop, live):
    night, rng = ranked_shop, np.random.default_rng(4)
    scorer, catalogue = night.ranker.scorer, night.data.catalogue
    users = night.data.block.user_ids.to_pylist()
    is_open = (catalogue.opens_at <= AS_OF) & (catalogue.closes_at > NOW)
    open_ids = [catalogue.sale_ids[sale] for sale in np.flatnonzero(is_open)]
    drawn = rng.integers(10 * HOUR, size=200).tolist()
    rows = [
        visit(str(rng.choice(users)), str(rng.choice(open_ids)), at / DAY, kind=str(rng.choice(["visit", "purchase"])))
        for at in drawn
    ]
    of_users = defaultdict(list)
    for row in rows:
        of_users[row["user_id"]].append((row["sale_id"], row["kind"] == "purchase", row["occurred_at"]))
    live.counts = live_counts(counted_once(of_users))
    before = [row for row in night.data.event_rows if row["occurred_at"] < AS_OF and row["recorded_at"] < AS_OF]
    known = make_shop(night.data.sale_rows, before + rows).block.as_of(NOW + SECOND, HISTORY)
    horizon = replace(scorer.horizon, as_of=NOW)
    now = live.top_sales.chooser.live.at(NOW).scorer.features(Histories.of_unknown_user(AS_OF, len(catalogue)))
    shared = [number for number, each in enumerate(scorer.recommenders) if not each.is_personal]
    assert len(shared) == 5
    for number in shared:
        recommender = scorer.recommenders[number]
        scores = recommender.fit(recommender.count(replace(known, as_of=NOW), horizon), horizon).score(known)[:1]
        values = np.log(1 + recommender.scale * scores) if recommender.scale else scores
        assert_allclose(now[number], values - values.mean(), rtol=1e-4, atol=1e-5, err_msg=recommender.name)


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


def test_one_ranker_serves_the_pages_of_a_second(live):
    ranker = live.top_sales.chooser.live
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


def test_near_its_deadline_a_page_is_the_one_that_the_night_kept(ranked_shop, live):
    for user_id in ranked_shop.users[:5]:
        urgent = answered(live.top_sales, NOW, user_id, is_urgent=True)
        assert shown(urgent) == shown(answered(live.of_night, NOW, user_id, is_urgent=True))


def test_live_page_says_why_it_shows_each_sale(ranked_shop, live):
    page = answered(live.top_sales, NOW, ranked_shop.users[0])
    assert page.fallback_level == pb.FALLBACK_LEVEL_NONE
    assert all(sale.reason for sale in page.sales)
