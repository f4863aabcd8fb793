from dataclasses import replace
from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_matrix

from recsys.recommenders.content import (
    Content,
    ImageThemesSettings,
    MetadataSettings,
    TextSettings,
    content_images,
    content_metadata,
    content_text,
)
from recsys.recommenders.taste import Taste, TasteModel, TasteSettings
from recsys.shop.gallery import Gallery
from recsys.shop.histories import Histories
from recsys.testing.shops import AS_OF, ShopData, make_shop, purchase, random_shop, sale, visit
from tests.helpers.shops import SALES_OF_TWO_COUNTRIES, history_of, with_photos

SETTINGS = TasteSettings(half_life_days=2, purchase_weight=3, prior_events=0.5, min_sales=1)
EVENTS = [visit("u", "a", -4), visit("u", "b", -2), purchase("v", "c", -2), visit("w", "e", -2)]


def metadata(shop: ShopData, settings: TasteSettings = SETTINGS) -> Taste:
    return Taste("taste_metadata", settings, shop.catalogue, attributes(shop))


def fitted(taste: Taste, shop: ShopData) -> TasteModel:
    return taste.fit(taste.count(shop.histories(), shop.horizon()), shop.horizon())


def test_score_is_the_log_ratio_of_seen_to_expected_summed_over_the_features_of_the_sale() -> None:
    shop = make_shop(SALES_OF_TWO_COUNTRIES, EVENTS, users=["x"])
    # Weights: a 1/4 and b 1/2 of u, c 3/2 of v, e 1/2 of w; together 11/4.
    fr, it, spa = (3 / 4) / (11 / 4), (3 / 2) / (11 / 4), (1 / 2) / (11 / 4)

    def lift(seen: float, weight: float, share: float) -> float:
        return log((seen + 0.5) / (weight * share + 0.5))

    u_fr, u_it, u_spa = lift(3 / 4, 3 / 4, fr), lift(0, 3 / 4, it), lift(1 / 2, 3 / 4, spa)
    v_fr, v_it, v_spa = lift(0, 3 / 2, fr), lift(3 / 2, 3 / 2, it), lift(0, 3 / 2, spa)
    w_fr, w_it, w_spa = lift(0, 1 / 2, fr), lift(0, 1 / 2, it), lift(0, 1 / 2, spa)
    expected = [
        #      b        c     d    e
        [u_fr + u_spa, u_it, u_fr, 0],
        [v_fr + v_spa, v_it, v_fr, 0],
        [w_fr + w_spa, w_it, w_fr, 0],  # w saw a sale without features, and none of the others
        [0, 0, 0, 0],  # x has no events
    ]
    assert u_fr > 0 > v_fr
    assert_allclose(fitted(metadata(shop), shop).score(shop.histories()), expected, atol=2e-3)


def test_sale_that_opens_after_the_horizon_changes_nothing() -> None:
    with_it, without = make_shop(SALES_OF_TWO_COUNTRIES, EVENTS), make_shop(SALES_OF_TWO_COUNTRIES[:-1], EVENTS)
    scores = [fitted(metadata(shop), shop).score(shop.histories()) for shop in (with_it, without)]
    assert_allclose(*scores, rtol=1e-6)


def test_feature_of_too_few_known_sales_is_left_out() -> None:
    shop = make_shop(SALES_OF_TWO_COUNTRIES, EVENTS)
    rare = fitted(metadata(shop, SETTINGS.model_copy(update={"min_sales": 2})), shop)
    assert (rare.values.toarray() > 0).sum(axis=0).tolist() == [0, 3, 0]  # spa and IT each have one known sale


def text(shop: ShopData) -> Content:
    return content_text(TextSettings(), shop.catalogue)


def images(shop: ShopData) -> Content:
    return content_images(ImageThemesSettings(), shop.catalogue)


def attributes(shop: ShopData) -> Content:
    return content_metadata(MetadataSettings(), shop.catalogue)


FAMILIES = {"metadata": attributes, "text": text, "images": images}


@pytest.mark.parametrize("family", FAMILIES)
@given(seed=st.integers(0, 10_000))
def test_scores_agree_with_loops_over_users_and_sales(family: str, seed: int) -> None:
    shop = with_photos(random_shop(seed, n_users=6, n_sales=8, n_events=60))
    settings = TasteSettings(half_life_days=9, prior_events=2, min_sales=2)
    taste = Taste(f"taste_{family}", settings, shop.catalogue, FAMILIES[family](shop))
    known = shop.catalogue.opens_at < shop.horizon().until
    counts = taste.content.features.counts.toarray().astype(np.float64) * known[:, None]
    frequent = (counts > 0).sum(axis=0) >= 2
    values = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-12) if family == "images" else counts > 0
    values = values * frequent
    weights = shop.histories().matrix(shop.histories().weights(9, 3)).toarray().astype(np.float64)
    shares = weights.sum(axis=0) @ values / max(weights.sum(), 1e-9)
    expected = np.zeros((6, len(shop.horizon())))
    for user in range(6):
        seen = weights[user] @ values
        for column, target in enumerate(shop.horizon().sales):
            for feature in np.flatnonzero(values[target]):
                lift = (seen[feature] + 2) / (weights[user].sum() * shares[feature] + 2)
                expected[user, column] += values[target, feature] * log(lift)
    model = fitted(taste, shop)
    assert_allclose(model.score(shop.histories()), expected, atol=5e-3)
    for user in range(6):
        assert_allclose(model.score(history_of(shop, user))[0], expected[user], atol=5e-3)


def test_expected_part_is_right_for_a_user_with_very_many_events() -> None:
    shop = make_shop([sale("a"), sale("b")], [purchase("u", "a", -1)])
    for weight in (3.3, 4.0e3, 7.7e5):
        model = TasteModel(
            TasteSettings(half_life_days=1e9, purchase_weight=weight, prior_events=0.5),
            csr_matrix(np.array([[1, 0], [0, 1]], np.float32)),
            np.array([0.5, 0.5], np.float32),
            shop.horizon(),
        )
        expected = -log(1 + weight * 0.5 / 0.5)  # of the sale that was not bought
        assert model.score(history_of(shop, 0))[0, 1] == pytest.approx(expected, rel=1e-3)


def photo_shop(events: list[dict]) -> ShopData:
    """Return a shop whose sales have the given weights of the themes pool, ski and city."""
    shop = make_shop([sale("a", -9, -2), sale("b"), sale("c"), sale("d")], events, users=["w"])
    of_sales = np.array([[3, 1, 0], [1, 2, 0], [0, 0, 1], [1, 9, 0]], np.float32)
    gallery = Gallery(np.arange(5), ["photo.jpg"] * 4, ["pool", "ski", "city"], of_sales, of_sales)
    return replace(shop, catalogue=replace(shop.catalogue, gallery=gallery))


def of_photos(shop: ShopData) -> Taste:
    return Taste("taste_images", SETTINGS, shop.catalogue, images(shop))


def test_score_is_traced_to_the_theme_that_adds_most() -> None:
    shop = photo_shop([visit("u", "a", -1), visit("v", "c", -1)])
    model = fitted(of_photos(shop), shop)
    users, sales = np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 1, 0])
    # u saw more pool and ski than others; v saw only city; w has no events.
    found = [model.details[theme] if theme >= 0 else "" for theme in model.trace(shop.histories(), users, sales)]
    assert found == ["pool", "", "", "city", ""]
    nothing = np.zeros(0, np.int64)
    assert model.trace(shop.histories(), nothing, nothing).tolist() == []


@given(seed=st.integers(0, 10_000))
def test_traces_agree_with_products_one_by_one(seed: int) -> None:
    shop = with_photos(random_shop(seed, n_users=6, n_sales=8, n_events=40))
    model, histories = fitted(of_photos(shop), shop), shop.histories()
    users, sales = (each.ravel() for each in np.indices((len(histories), len(shop.horizon()))))
    values = model.values.toarray().astype(np.float64)
    weights = histories.matrix(histories.weights(2, 3)).toarray().astype(np.float64)
    for user, column, theme in zip(users, sales, model.trace(histories, users, sales), strict=True):
        seen, total = weights[user] @ values, weights[user].sum()
        added = np.log((seen + 0.5) / (total * model.shares + 0.5)) * values[shop.horizon().sales[column]]
        assert (theme == -1) == (added <= 1e-7).all() or abs(added.max()) < 1e-6
        assert theme == -1 or added[theme] == pytest.approx(added.max(), rel=1e-3, abs=1e-6)


def test_loaded_model_scores_and_traces_as_the_fitted_one() -> None:
    shop = photo_shop([visit("u", "a", -1), visit("v", "c", -1)])
    model, taste = fitted(of_photos(shop), shop), of_photos(shop)
    loaded = taste.load(model.arrays(), shop.horizon())
    assert loaded.details == model.details
    assert_array_equal(loaded.score(shop.histories()), model.score(shop.histories()))


def test_unknown_user_has_no_taste() -> None:
    shop = make_shop(SALES_OF_TWO_COUNTRIES, EVENTS)
    nobody = Histories.of_unknown_user(AS_OF, len(shop.catalogue))
    assert_array_equal(fitted(metadata(shop), shop).score(nobody), np.zeros((1, 4)))
