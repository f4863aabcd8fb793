"""The contract of all recommenders in use."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from recsys.ranking.scorer import pack, unpack
from recsys.recommenders import OVER_PHOTOS, Model, Recommender, RecommenderSettings, Statistics, recommenders
from recsys.shop.histories import Histories
from tests.helpers.closeness import assert_close
from tests.helpers.shops import AS_OF, HISTORY, ShopData, make_shop, purchase, random_shop, sale, visit, with_photos
from tests.helpers.towers import random_towers

SETTINGS = RecommenderSettings()
SHOP = with_photos(random_shop(7, n_users=31, n_sales=17, n_events=500))
TOWERS = random_towers(SHOP.catalogue)
NAMES = [recommender.name for recommender in recommenders(SETTINGS, SHOP.catalogue, TOWERS)]


def recommender_of(shop: ShopData, name: str) -> Recommender:
    return next(each for each in recommenders(SETTINGS, with_photos(shop).catalogue, TOWERS) if each.name == name)


def fitted(shop: ShopData, name: str) -> Model:
    recommender, horizon = recommender_of(shop, name), shop.horizon()
    return recommender.fit(recommender.count(shop.histories(), horizon), horizon)


def scores(shop: ShopData, name: str, histories: Histories | None = None) -> NDArray[np.float32]:
    """Return the scores of some users by a model fitted to all."""
    histories = shop.histories() if histories is None else histories
    found = fitted(shop, name).score(histories)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert found.shape == (len(histories), len(shop.horizon()))
    return found


def test_every_recommender_has_a_name_of_its_own() -> None:
    assert len(set(NAMES)) == len(NAMES)
    families = {"content_metadata", "content_text", "content_images"}
    assert {"popularity", "collaborative", "own_visits", *families} <= set(NAMES)


def test_shop_without_photos_has_no_recommenders_over_photos() -> None:
    without = random_shop(7, n_users=31, n_sales=17, n_events=500)
    names = [recommender.name for recommender in recommenders(SETTINGS, without.catalogue, TOWERS)]
    assert names == [name for name in NAMES if name not in OVER_PHOTOS]


def test_recommenders_can_be_left_out() -> None:
    settings = RecommenderSettings(without=("collaborative", "activity"))
    left = [recommender.name for recommender in recommenders(settings, SHOP.catalogue, TOWERS)]
    assert left == [name for name in NAMES if name not in ("collaborative", "activity")]


@pytest.mark.parametrize("name", NAMES)
class TestEveryRecommender:
    def test_scores_are_finite_float32(self, name: str) -> None:
        assert scores(SHOP, name).shape == (31, len(SHOP.horizon()))

    def test_scores_that_differ_between_sales_are_relative_and_others_are_not(self, name: str) -> None:
        recommender, found = recommender_of(SHOP, name), fitted(SHOP, name).score(SHOP.histories())
        assert recommender.is_relative == (np.ptp(found, axis=1) > 0).any()

    def test_scores_are_not_negative_where_the_feature_is_a_logarithm(self, name: str) -> None:
        if recommender_of(SHOP, name).scale:
            assert (scores(SHOP, name) >= 0).all()

    def test_user_without_events_gets_finite_scores(self, name: str) -> None:
        nobody = Histories.of_unknown_user(AS_OF, len(SHOP.catalogue))
        assert scores(SHOP, name, nobody).shape == (1, len(SHOP.horizon()))

    def test_no_users_get_no_scores(self, name: str) -> None:
        nobody = SHOP.block.take(np.empty(0, np.int64)).as_of(AS_OF, HISTORY)
        assert scores(SHOP, name, nobody).shape == (0, len(SHOP.horizon()))

    def test_shop_without_events_has_finite_scores(self, name: str) -> None:
        shop = make_shop([sale("a", price=5, country="FR"), sale("b")], [], users=["u", "v", "w"])
        assert scores(shop, name).shape == (3, 2)

    def test_statistics_of_groups_of_users_add_up(self, name: str) -> None:
        recommender, horizon = recommender_of(SHOP, name), SHOP.horizon()

        def count(rows: NDArray[np.int64]) -> Statistics:
            return recommender.count(SHOP.block.take(rows).as_of(AS_OF, HISTORY), horizon)

        whole, one, other = count(np.arange(31)), count(np.arange(0, 31, 3)), count(np.flatnonzero(np.arange(31) % 3))
        assert whole.keys() == one.keys() == other.keys()
        for statistic, values in whole.items():
            assert values.dtype == np.float32
            assert_close(one[statistic] + other[statistic], values, terms=len(SHOP.event_rows), about=statistic)

    def test_fit_leaves_the_statistics_as_they_are(self, name: str) -> None:
        recommender, horizon = recommender_of(SHOP, name), SHOP.horizon()
        statistics = recommender.count(SHOP.histories(), horizon)
        before = {statistic: values.copy() for statistic, values in statistics.items()}
        recommender.fit(statistics, horizon)
        for statistic, values in before.items():
            assert_array_equal(statistics[statistic], values)

    def test_saved_and_loaded_model_gives_the_same_scores(self, name: str) -> None:
        model = fitted(SHOP, name)
        loaded = recommender_of(SHOP, name).load(unpack(pack(model.arrays())), SHOP.horizon())
        assert_array_equal(loaded.score(SHOP.histories()), model.score(SHOP.histories()))

    def test_user_scores_the_same_alone_and_in_a_block(self, name: str) -> None:
        model, shape = fitted(SHOP, name), (31, len(SHOP.horizon()))
        together = np.broadcast_to(model.score(SHOP.histories()), shape)
        for user in range(31):
            alone = SHOP.block.take(np.array([user])).as_of(AS_OF, HISTORY)
            found = np.broadcast_to(model.score(alone), (1, shape[1]))[0]
            assert_close(found, together[user], terms=len(SHOP.event_rows))

    def test_scores_differ_between_users_if_the_recommender_is_personal(self, name: str) -> None:
        users = np.unique(scores(SHOP, name), axis=0)
        assert (len(users) > 1) == recommender_of(SHOP, name).is_personal

    def test_same_input_gives_the_same_answer(self, name: str) -> None:
        model = fitted(SHOP, name)
        first = model.score(SHOP.histories()).copy()
        assert_array_equal(model.score(SHOP.histories()), first)
        assert_array_equal(fitted(SHOP, name).score(SHOP.histories()), first)

    def test_events_of_the_future_change_nothing(self, name: str) -> None:
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
        assert_array_equal(scores(with_them, name), scores(without, name))

    def test_sale_that_has_not_opened_has_a_finite_score(self, name: str) -> None:
        shop = make_shop(
            [sale("a", country="FR"), sale("b", -3, 2), sale("tomorrow", 0.5, 4, country="FR", price=99)],
            [visit("u", "a", -0.5), visit("u", "b", -0.4), visit("v", "b", -2)],
        )
        assert scores(shop, name).shape == (2, 3)

    def test_sales_without_price_description_and_attributes_have_finite_scores(self, name: str) -> None:
        shop = make_shop(
            [sale("a"), sale("b"), sale("c", title="Alps")],
            [visit("u", "a", -0.5), purchase("v", "b", -0.4)],
        )
        assert scores(shop, name).shape == (2, 3)

    def test_sale_without_price_description_and_attributes_among_others_has_a_finite_score(self, name: str) -> None:
        shop = make_shop(
            [sale("a"), sale("b", title="Alps", description="by night", price=80, country="FR"), sale("c", price=0.01)],
            [visit("u", "a", -0.5), purchase("v", "b", -0.4), visit("u", "b", -0.3)],
        )
        assert scores(shop, name).shape == (2, 3)

    def test_horizon_of_a_single_sale_has_a_finite_score(self, name: str) -> None:
        shop = make_shop([sale("a", title="Alps", price=80)], [visit("u", "a", -0.5), visit("v", "a", -0.4)])
        assert scores(shop, name).shape == (2, 1)

    def test_order_of_the_rows_does_not_matter(self, name: str) -> None:
        shuffled = make_shop(SHOP.sale_rows[::-1], SHOP.event_rows[::-1], SHOP.block.user_ids.to_pylist())
        assert_array_equal(scores(shuffled, name), scores(SHOP, name))


def test_fixture_has_the_hard_cases() -> None:
    known = SHOP.histories()
    horizon = SHOP.horizon()
    assert 0 < len(known.sales) < len(SHOP.block.sales)
    assert (np.diff(known.offsets) == 0).any()
    assert 1 < len(horizon) < len(SHOP.catalogue)
    assert (SHOP.catalogue.opens_at[horizon.sales] > AS_OF).any()
    assert np.isnan(SHOP.catalogue.prices).any()
    photos = SHOP.catalogue.gallery
    assert photos is not None
    assert {0, 1} < set(np.diff(photos.first)[horizon.sales].tolist())
    assert not photos.photo_themes.any(axis=1).all()
