"""What every recommender promises, as tests: ours pass them, and so must a shop's own."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from recsys.ranking.scorer import pack, unpack
from recsys.recommenders import Model, Recommender, Statistics
from recsys.recommenders.further import Evidence, Further
from recsys.shop.histories import Histories
from recsys.testing.closeness import assert_close
from recsys.testing.shops import AS_OF, HISTORY, ShopData, make_shop, purchase, random_shop, sale, visit

SHOP = random_shop(7, n_users=31, n_sales=17, n_events=500)
"""With users without events, sales without prices or attributes, and events that are late, old, doubled or to come."""

RecommenderOf = Callable[[ShopData], Recommender]
"""Returns the recommender of a shop."""


def fitted(recommender_of: RecommenderOf, shop: ShopData) -> Model:
    """Return the recommender fitted to all users of a shop."""
    recommender, horizon = recommender_of(shop), shop.horizon()
    return recommender.fit(recommender.count(shop.histories(), horizon), horizon)


def scores(recommender_of: RecommenderOf, shop: ShopData, histories: Histories | None = None) -> NDArray[np.float32]:
    """Return the scores of some users, all by default, by a model fitted to all."""
    histories = shop.histories() if histories is None else histories
    found = fitted(recommender_of, shop).score(histories)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert found.shape == (len(histories), len(shop.horizon()))
    return found


class RecommenderContract:
    """The tests of a recommender. For one of your own:

    class TestSameBrand(RecommenderContract):
        evidence = SameBrand(half_life_days=30)
    """

    evidence: Evidence

    @pytest.fixture
    def recommender_of(self) -> RecommenderOf:
        """Return the function that makes the recommender of a shop."""
        return lambda shop: Further(self.evidence, shop.catalogue)

    def test_scores_are_finite_float32(self, recommender_of: RecommenderOf) -> None:
        assert scores(recommender_of, SHOP).shape == (31, len(SHOP.horizon()))

    def test_scores_are_relative_where_they_differ_between_sales(self, recommender_of: RecommenderOf) -> None:
        """Scores that differ between sales are relative and others are not."""
        recommender, found = recommender_of(SHOP), fitted(recommender_of, SHOP).score(SHOP.histories())
        assert recommender.is_relative == (np.ptp(found, axis=1) > 0).any()

    def test_scores_are_not_negative_where_the_feature_is_a_logarithm(self, recommender_of: RecommenderOf) -> None:
        if recommender_of(SHOP).scale:
            assert (scores(recommender_of, SHOP) >= 0).all()

    def test_user_without_events_gets_finite_scores(self, recommender_of: RecommenderOf) -> None:
        nobody = Histories.of_unknown_user(AS_OF, len(SHOP.catalogue))
        assert scores(recommender_of, SHOP, nobody).shape == (1, len(SHOP.horizon()))

    def test_no_users_get_no_scores(self, recommender_of: RecommenderOf) -> None:
        nobody = SHOP.block.take(np.empty(0, np.int64)).as_of(AS_OF, HISTORY)
        assert scores(recommender_of, SHOP, nobody).shape == (0, len(SHOP.horizon()))

    def test_shop_without_events_has_finite_scores(self, recommender_of: RecommenderOf) -> None:
        shop = make_shop([sale("a", price=5, country="FR"), sale("b")], [], users=["u", "v", "w"])
        assert scores(recommender_of, shop).shape == (3, 2)

    def test_statistics_of_groups_of_users_add_up(self, recommender_of: RecommenderOf) -> None:
        recommender, horizon = recommender_of(SHOP), SHOP.horizon()

        def count(rows: NDArray[np.int64]) -> Statistics:
            return recommender.count(SHOP.block.take(rows).as_of(AS_OF, HISTORY), horizon)

        whole, one, other = count(np.arange(31)), count(np.arange(0, 31, 3)), count(np.flatnonzero(np.arange(31) % 3))
        assert whole.keys() == one.keys() == other.keys()
        for statistic, values in whole.items():
            assert values.dtype == np.float32
            assert_close(one[statistic] + other[statistic], values, terms=len(SHOP.event_rows), about=statistic)

    def test_fit_leaves_the_statistics_as_they_are(self, recommender_of: RecommenderOf) -> None:
        recommender, horizon = recommender_of(SHOP), SHOP.horizon()
        statistics = recommender.count(SHOP.histories(), horizon)
        before = {statistic: values.copy() for statistic, values in statistics.items()}
        recommender.fit(statistics, horizon)
        for statistic, values in before.items():
            assert_array_equal(statistics[statistic], values)

    def test_saved_and_loaded_model_gives_the_same_scores(self, recommender_of: RecommenderOf) -> None:
        model = fitted(recommender_of, SHOP)
        loaded = recommender_of(SHOP).load(unpack(pack(model.arrays())), SHOP.horizon())
        assert_array_equal(loaded.score(SHOP.histories()), model.score(SHOP.histories()))

    def test_service_scores_the_same_without_texts_and_attributes(self, recommender_of: RecommenderOf) -> None:
        model, none = fitted(recommender_of, SHOP), list[str]()
        bare = replace(SHOP, catalogue=replace(SHOP.catalogue, texts=none, titles=none, attributes=[]))
        served = recommender_of(bare).load(unpack(pack(model.served_arrays())), SHOP.horizon())
        assert_allclose(served.score(SHOP.histories()), model.score(SHOP.histories()), rtol=1e-5, atol=1e-6)

    def test_user_scores_the_same_alone_and_in_a_block(self, recommender_of: RecommenderOf) -> None:
        model, shape = fitted(recommender_of, SHOP), (31, len(SHOP.horizon()))
        together = np.broadcast_to(model.score(SHOP.histories()), shape)
        for user in range(31):
            alone = SHOP.block.take(np.array([user])).as_of(AS_OF, HISTORY)
            found = np.broadcast_to(model.score(alone), (1, shape[1]))[0]
            assert_close(found, together[user], terms=len(SHOP.event_rows))

    def test_scores_differ_between_users_if_the_recommender_is_personal(self, recommender_of: RecommenderOf) -> None:
        users = np.unique(scores(recommender_of, SHOP), axis=0)
        assert (len(users) > 1) == recommender_of(SHOP).is_personal

    def test_same_input_gives_the_same_answer(self, recommender_of: RecommenderOf) -> None:
        model = fitted(recommender_of, SHOP)
        first = model.score(SHOP.histories()).copy()
        assert_array_equal(model.score(SHOP.histories()), first)
        assert_array_equal(fitted(recommender_of, SHOP).score(SHOP.histories()), first)

    def test_events_of_the_future_change_nothing(self, recommender_of: RecommenderOf) -> None:
        future = [
            visit("u00", "s01", 0),  # at as_of
            purchase("u00", "s02", 0.2),
            visit("u03", "s03", -1, recorded=0),  # recorded at as_of
            purchase("u03", "s04", -2, recorded=1),
            visit("x", "s05", 0.1),  # a new user
        ]
        past = [row for row in SHOP.event_rows if row["occurred_at"] < AS_OF and row["recorded_at"] < AS_OF]
        users = [*SHOP.block.user_ids.to_pylist(), "x"]
        without = make_shop(SHOP.sale_rows, past, users)
        with_them = make_shop(SHOP.sale_rows, SHOP.event_rows + future, users)
        assert len(with_them.block.sales) > len(without.block.sales)
        assert_array_equal(scores(recommender_of, with_them), scores(recommender_of, without))

    def test_sale_that_has_not_opened_has_a_finite_score(self, recommender_of: RecommenderOf) -> None:
        shop = make_shop(
            [sale("a", country="FR"), sale("b", -3, 2), sale("tomorrow", 0.5, 4, country="FR", price=99)],
            [visit("u", "a", -0.5), visit("u", "b", -0.4), visit("v", "b", -2)],
        )
        assert scores(recommender_of, shop).shape == (2, 3)

    def test_sales_without_price_text_and_attributes_have_finite_scores(self, recommender_of: RecommenderOf) -> None:
        """Sales without price description and attributes have finite scores."""
        shop = make_shop(
            [sale("a"), sale("b"), sale("c", title="Alps")],
            [visit("u", "a", -0.5), purchase("v", "b", -0.4)],
        )
        assert scores(recommender_of, shop).shape == (2, 3)

    def test_sale_without_price_text_and_attributes_has_a_finite_score(self, recommender_of: RecommenderOf) -> None:
        """Sale without price description and attributes among others has a finite score."""
        shop = make_shop(
            [sale("a"), sale("b", title="Alps", description="by night", price=80, country="FR"), sale("c", price=0.01)],
            [visit("u", "a", -0.5), purchase("v", "b", -0.4), visit("u", "b", -0.3)],
        )
        assert scores(recommender_of, shop).shape == (2, 3)

    def test_horizon_of_a_single_sale_has_a_finite_score(self, recommender_of: RecommenderOf) -> None:
        shop = make_shop([sale("a", title="Alps", price=80)], [visit("u", "a", -0.5), visit("v", "a", -0.4)])
        assert scores(recommender_of, shop).shape == (2, 1)

    def test_order_of_the_rows_does_not_matter(self, recommender_of: RecommenderOf) -> None:
        shuffled = make_shop(SHOP.sale_rows[::-1], SHOP.event_rows[::-1], SHOP.block.user_ids.to_pylist())
        assert_array_equal(scores(recommender_of, shuffled), scores(recommender_of, SHOP))
