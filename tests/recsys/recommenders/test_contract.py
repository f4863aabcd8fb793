"""The contract of all recommenders in use."""

import numpy as np
import pytest

from recsys.recommenders import OVER_PHOTOS, Recommender, RecommenderSettings, recommenders
from recsys.testing import RecommenderContract
from recsys.testing.contract import RecommenderOf
from recsys.testing.shops import AS_OF, ShopData, random_shop
from tests.helpers.shops import with_photos
from tests.helpers.towers import random_towers

SETTINGS = RecommenderSettings()
SHOP = with_photos(random_shop(7, n_users=31, n_sales=17, n_events=500))
TOWERS = random_towers(SHOP.catalogue)
NAMES = [recommender.name for recommender in recommenders(SETTINGS, SHOP.catalogue, TOWERS)]


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


class TestEveryRecommender(RecommenderContract):
    @pytest.fixture(params=NAMES)
    def recommender_of(self, request: pytest.FixtureRequest) -> RecommenderOf:
        def of(shop: ShopData) -> Recommender:
            found = recommenders(SETTINGS, with_photos(shop).catalogue, TOWERS)
            return next(each for each in found if each.name == request.param)

        return of


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
