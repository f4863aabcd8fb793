"""Sales that resemble a sale: by how much a visit of it raises their scores."""

import numpy as np
import pytest
from recommendations.v1 import recommendations_pb2 as pb

from recsys.config.serving import PageSettings
from recsys.instants import HOUR, to_micros
from recsys.snapshot.format import Snapshot
from serving.answers.top_sales import TopSales
from tests.helpers.asking import answered, shown
from tests.helpers.ranked_shop import RankedShop
from tests.helpers.ruled_pages import ruled


@pytest.fixture(scope="module")
def served(tmp_path_factory, ranked_shop) -> tuple[TopSales, RankedShop, int]:
    root = tmp_path_factory.mktemp("served")
    in_order_of_scores = PageSettings(just_bought_hours=None)
    top_sales = TopSales.of(Snapshot.open(root / ranked_shop.write(root)), settings=in_order_of_scores)
    return top_sales, ranked_shop, to_micros(top_sales.snapshot.as_of) + 2 * HOUR


def raised(shop: RankedShop, sale_id: str, policy: str) -> dict[str, float]:
    """By how much a visit raises the score of each sale, by the night's ranker, for a stranger."""
    data, horizon = shop.data, shop.ranker.scorer.horizon
    nobody = type(data.histories()).of_unknown_user(horizon.as_of, len(data.catalogue))
    visitor = nobody.with_session(np.array([data.catalogue.position[sale_id]], np.int32), np.array([False]))
    before, after = (shop.ranker.scored(each).scores(policy)[0] for each in (nobody, visitor))
    ids = [data.catalogue.sale_ids[sale] for sale in horizon.sales]
    return dict(zip(ids, (after - before).tolist(), strict=True))


def open_ids(top_sales: TopSales, now: int) -> set[str]:
    is_open = top_sales.open_sales(now).is_open
    return {sale_id for sale_id, opened in zip(top_sales.sale_ids, is_open, strict=True) if opened}


@pytest.mark.parametrize("policy", ["meta", "collaborative"])
def test_sales_come_in_the_order_in_which_a_visit_raises_their_scores(served, policy):
    top_sales, shop, now = served
    for sale_id in shop.data.catalogue.sale_ids[::5]:
        similarity = raised(shop, sale_id, policy)
        page = answered(top_sales, now, n=8, policy=policy, like=sale_id, denied=[sale_id])
        assert page.fallback_level == pb.FALLBACK_LEVEL_NONE
        found = [similarity[each] for each in shown(page)]
        best = sorted((similarity[each] for each in open_ids(top_sales, now) - {sale_id}), reverse=True)
        np.testing.assert_allclose(found, best[:8], atol=1e-5)
        assert not page.uses_session


def test_sale_that_has_closed_has_similar_ones_that_are_open(served):
    top_sales, shop, now = served
    closed = next(
        sale_id
        for sale_id, closes in zip(shop.data.catalogue.sale_ids, shop.data.catalogue.closes_at, strict=True)
        if closes < to_micros(top_sales.snapshot.as_of) and max(raised(shop, sale_id, "meta").values()) > 0
    )
    page = answered(top_sales, now, like=closed)
    assert page.fallback_level == pb.FALLBACK_LEVEL_NONE
    assert set(shown(page)) <= open_ids(top_sales, now)
    assert len(page.sales) == 10


def test_for_a_user_the_most_similar_sales_are_in_the_users_order(served):
    top_sales, shop, now = served
    sale_id, user = shop.data.catalogue.sale_ids[0], shop.users[0]
    page = answered(top_sales, now, user, n=3, like=sale_id, denied=[sale_id])
    scores = [sale.score for sale in page.sales]
    assert scores == sorted(scores, reverse=True)
    similarity = raised(shop, sale_id, "meta")
    most = sorted(similarity, key=lambda each: -similarity[each])[:9]
    candidates = [each for each in most if each in open_ids(top_sales, now) - {sale_id}]
    by_user = shop.scores(user, [(sale_id, False)])
    position = {each: number for number, each in enumerate(top_sales.sale_ids)}
    assert shown(page)[: len(candidates)] == sorted(candidates, key=lambda each: -by_user[position[each]])[:3]
    anybody = answered(top_sales, now, n=3, like=sale_id, denied=[sale_id])
    assert shown(anybody) != shown(page)


def test_unknown_sale_and_near_deadline_give_popular_sales_and_say_why(served):
    top_sales, shop, now = served
    popular = shown(answered(top_sales, now))
    unknown = answered(top_sales, now, like="no such sale")
    assert shown(unknown) == popular
    assert unknown.fallback_reason.startswith("The snapshot does not know the sale that others are to resemble.")
    assert shown(answered(top_sales, now, shop.users[0], like="no such sale")) == popular
    late = answered(top_sales, now, like=shop.data.catalogue.sale_ids[0], is_urgent=True)
    assert shown(late) == popular
    assert "deadline was near" in late.fallback_reason


def test_rules_apply_to_similar_sales(served):
    top_sales, shop, now = served
    sale_id = shop.data.catalogue.sale_ids[0]
    first = shown(answered(top_sales, now, like=sale_id, denied=[sale_id]))[0]
    changed = ruled(top_sales, {"kind": "filter", "match": {"sale_id": first}})
    assert first not in shown(answered(changed, now, like=sale_id, denied=[sale_id]))
