from dataclasses import replace
from math import log, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_matrix

from recsys.recommenders.base import Traceable
from recsys.recommenders.content import (
    Content,
    ContentModel,
    ImageThemesSettings,
    MetadataSettings,
    TextSettings,
    content_images,
    content_metadata,
    content_text,
    metadata_features,
    price_bands,
    row_norms,
    sale_profiles,
    text_features,
)
from recsys.shop.gallery import Gallery
from recsys.testing.shops import AS_OF, HISTORY, ShopData, make_shop, purchase, random_shop, sale, visit
from tests.helpers.shops import SALES_OF_TWO_COUNTRIES, with_photos


def fit_and_score(content: Content, shop: ShopData) -> np.ndarray:
    return content.fit({}, shop.horizon()).score(shop.histories())


def counted(features) -> dict[str, list[float]]:
    return dict(zip(features.names, features.counts.toarray().T.tolist(), strict=True))


def test_price_band_is_named_by_its_start_and_includes_it() -> None:
    prices = np.array([1, 1.99, 2, 3.99, 4, 0.5, 0.49, np.nan])
    bands = ["price_band=1", "price_band=1", "price_band=2", "price_band=2", "price_band=4"]
    assert price_bands(prices, 2) == [*bands, "price_band=0.5", "price_band=0.25", None]


def test_price_bands_do_not_depend_on_other_prices() -> None:
    prices = np.random.default_rng(1).lognormal(5, 2, 60)
    assert price_bands(prices[:7], 1.5) == price_bands(prices, 1.5)[:7]


def test_metadata_features_are_attributes_and_the_price_band() -> None:
    shop = make_shop(
        [
            sale("a", country="FR", category="spa", price=9),
            sale("b", country="FR", category=""),  # an empty value is no feature
            sale("c", country=None, price=8),  # nor is a missing one
            sale("d"),
        ],
        [],
    )
    assert counted(metadata_features(shop.catalogue, 2)) == {
        "category=spa": [1, 0, 0, 0],
        "country=FR": [1, 1, 0, 0],
        "price_band=8": [1, 0, 1, 0],
    }


def test_text_features_are_words_of_two_letters_in_any_case_without_accents() -> None:
    shop = make_shop(
        [sale("a", title="Château", description="Le CHATEAU à 2 km"), sale("b", title="Spa"), sale("c")],
        [],
    )
    assert counted(text_features(shop.catalogue)) == {
        "chateau": [2, 0, 0],
        "km": [1, 0, 0],
        "le": [1, 0, 0],
        "spa": [0, 1, 0],
    }


def test_shop_without_texts_and_metadata_has_no_features() -> None:
    catalogue = make_shop([sale("a"), sale("b")], []).catalogue
    for features in (text_features(catalogue), metadata_features(catalogue, 1.5)):
        assert (features.names, features.counts.shape) == ([], (2, 0))


def test_rare_features_have_more_weight_in_a_profile_of_length_1() -> None:
    counts = csr_matrix(np.array([[1, 2, 0], [1, 0, 0], [0, 0, 0], [0, 5, 9]], np.float32))
    known = np.array([True, True, True, False])
    common, rare = log((1 + 3) / (1 + 2)) + 1, log((1 + 3) / (1 + 1)) + 1
    length = sqrt(common**2 + (2 * rare) ** 2)
    expected = [[common / length, 2 * rare / length, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert_allclose(sale_profiles(counts, known).toarray(), expected, rtol=1e-6)


def test_feature_of_too_few_known_sales_is_left_out() -> None:
    counts = csr_matrix(np.array([[1, 1, 0], [1, 0, 1], [0, 0, 1]], np.float32))
    profiles = sale_profiles(counts, np.array([True, True, False]), min_sales=2)
    assert_array_equal(profiles.toarray(), [[1, 0, 0], [1, 0, 0], [0, 0, 0]])
    assert profiles.nnz == 2


def test_profiles_are_empty_where_no_sale_is_known_or_there_is_no_feature() -> None:
    for counts, known in (
        (np.ones((3, 2)), [False] * 3),
        (np.zeros((3, 2)), [True] * 3),
        (np.ones((3, 0)), [True] * 3),
    ):
        profiles = sale_profiles(csr_matrix(counts.astype(np.float32)), np.array(known))
        assert (profiles.shape, profiles.nnz, profiles.dtype) == (counts.shape, 0, np.float32)


def test_row_norms_are_the_lengths_of_rows() -> None:
    assert_allclose(row_norms(csr_matrix(np.array([[3, 0, 4], [0, 0, 0], [0, 2, 0]], np.float32))), [5, 0, 2])


def test_score_is_the_cosine_of_the_decayed_sum_of_profiles() -> None:
    events = [visit("u", "a", -4), visit("u", "b", -2), purchase("v", "c", -2), visit("w", "e", -1)]
    shop = make_shop(SALES_OF_TWO_COUNTRIES, events)
    settings = MetadataSettings(half_life_days=2, purchase_weight=3)
    fr, it, spa = log((1 + 5) / (1 + 3)) + 1, log((1 + 5) / (1 + 1)) + 1, log((1 + 5) / (1 + 1)) + 1
    assert it == spa
    b_fr, b_spa = fr / sqrt(fr**2 + spa**2), spa / sqrt(fr**2 + spa**2)
    u_fr, u_spa = 1 / 4 + 1 / 2 * b_fr, 1 / 2 * b_spa  # a weighs 1/4, b 1/2
    u = sqrt(u_fr**2 + u_spa**2)
    expected = [
        #          b                      c     d       e
        [(u_fr * b_fr + u_spa * b_spa) / u, 0, u_fr / u, 0],
        [0, 1, 0, 0],  # v bought c only: the weight of a single event changes no cosine
        [0, 0, 0, 0],  # w saw e, which has no feature
    ]
    assert_allclose(fit_and_score(content_metadata(settings, shop.catalogue), shop), expected, rtol=1e-5)


def test_sale_that_opens_after_the_horizon_changes_no_weight() -> None:
    events = [visit("u", "a", -4), visit("u", "b", -2)]
    settings = MetadataSettings()
    with_it, without = make_shop(SALES_OF_TWO_COUNTRIES, events), make_shop(SALES_OF_TWO_COUNTRIES[:-1], events)
    assert_allclose(
        fit_and_score(content_metadata(settings, with_it.catalogue), with_it),
        fit_and_score(content_metadata(settings, without.catalogue), without),
        rtol=1e-6,
    )


FAMILIES = {
    "metadata": (content_metadata, MetadataSettings(half_life_days=9)),
    "text": (content_text, TextSettings(half_life_days=9)),
    "images": (content_images, ImageThemesSettings(half_life_days=9)),
}


@pytest.mark.parametrize("family", FAMILIES)
@given(seed=st.integers(0, 10_000))
def test_scores_agree_with_loops_over_users_and_sales(family: str, seed: int) -> None:
    shop = with_photos(random_shop(seed, n_users=6, n_sales=8, n_events=40))
    make, settings = FAMILIES[family]
    content = make(settings, shop.catalogue)
    counts = content.features.counts.toarray().astype(np.float64)
    horizon, histories = shop.horizon(), shop.histories()
    known = shop.catalogue.opens_at < horizon.until
    frequencies = (counts[known] > 0).sum(axis=0)
    idf = (np.log((1 + known.sum()) / (1 + frequencies)) + 1) * (frequencies >= content.min_sales)
    profiles = [counts[number] * idf * known[number] for number in range(8)]
    profiles = [profile / (np.linalg.norm(profile) or 1) for profile in profiles]
    expected = np.zeros((len(histories), len(horizon)))
    for user, weights in enumerate(histories.matrix(histories.weights(9, 3)).toarray()):
        taste = sum(weight * profile for weight, profile in zip(weights, profiles, strict=True))
        for column, target in enumerate(horizon.sales):
            expected[user, column] = taste @ profiles[target] / (np.linalg.norm(taste) or 1)
    scores = fit_and_score(content, shop)
    assert_allclose(scores, expected, atol=1e-5)
    assert scores.max(initial=0) <= 1 + 1e-5


def test_rare_words_are_left_out_by_the_settings() -> None:
    shop = make_shop(
        [sale("a", title="spa alps"), sale("b", title="spa beach"), sale("c", title="beach")],
        [visit("u", "a", -1)],
    )
    assert_allclose(  # alps is in one sale: u's profile is spa alone
        fit_and_score(content_text(TextSettings(min_sales=2), shop.catalogue), shop), [[1, sqrt(1 / 2), 0]], rtol=1e-6
    )


def shop_with_themes(sales: list[dict], events: list[dict], themes: list[list[float]], users=()) -> ShopData:
    """Return a shop whose sales have the given weights of the themes pool, ski and city."""
    shop = make_shop(sales, events, users)
    of_sales = np.array(themes, np.float32)
    gallery = Gallery(
        np.arange(len(sales) + 1), ["photo.jpg"] * len(sales), ["pool", "ski", "city"], of_sales, of_sales
    )
    return replace(shop, catalogue=replace(shop.catalogue, gallery=gallery))


def fitted_images(shop: ShopData, **settings: float) -> ContentModel:
    return content_images(ImageThemesSettings(**settings), shop.catalogue).fit({}, shop.horizon())


def test_image_score_is_the_cosine_of_themes_weighted_by_rarity() -> None:
    shop = shop_with_themes(
        [sale("a", -9, -2), sale("b"), sale("c"), sale("d")],
        [visit("u", "a", -4), visit("u", "b", -2), visit("v", "d", -2)],
        [[2, 0, 0], [1, 1, 0], [0, 3, 4], [0, 0, 0]],
        users=["w"],
    )
    pool, ski, city = (log((1 + 4) / (1 + n_sales)) + 1 for n_sales in (2, 2, 1))
    b = np.array([pool, ski, 0]) / sqrt(pool**2 + ski**2)
    c = np.array([0, 3 * ski, 4 * city]) / sqrt((3 * ski) ** 2 + (4 * city) ** 2)
    u = np.array([1, 0, 0]) / 4 + b / 2  # a is seen one half-life before b, a half-life ago
    expected = [[u @ b / np.linalg.norm(u), u @ c / np.linalg.norm(u), 0], [0, 0, 0], [0, 0, 0]]
    assert_allclose(fitted_images(shop, half_life_days=2).score(shop.histories()), expected, rtol=1e-5)


def test_photos_of_a_sale_that_opens_after_the_horizon_change_nothing() -> None:
    sales, events = [sale("a"), sale("b"), sale("z", 1.6, 3)], [visit("u", "a", -1)]
    scores = []
    for of_z in ([9, 9, 9], [0, 0, 0], [0, 1, 0]):
        shop = shop_with_themes(sales, events, [[2, 1, 0], [1, 0, 1], of_z])
        scores.append(fitted_images(shop).score(shop.histories()))
    assert_array_equal(scores[0], scores[1])
    assert_array_equal(scores[0], scores[2])


def test_score_is_traced_to_the_theme_that_adds_most() -> None:
    shop = shop_with_themes(
        [sale("a", -9, -2), sale("b"), sale("c"), sale("d")],
        [visit("u", "a", -1), visit("v", "c", -1)],
        [[3, 1, 0], [1, 2, 0], [0, 0, 1], [1, 9, 0]],
        users=["w"],
    )
    # pool and city are on 3 and 1 of the 4 sales, ski on 3: u likes pool 3 times as much as ski, b has half as much
    # pool as ski (3 · 1 > 1 · 2), d a ninth (3 · 1 < 1 · 9).
    users, sales = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 1, 2, 0, 1, 2])
    model = fitted_images(shop)
    assert [model.details[theme] if theme >= 0 else "" for theme in model.trace(shop.histories(), users, sales)] == [
        "pool",
        "",  # nothing in common with c
        "ski",
        "",
        "city",
        "",  # w has no profile
    ]


@given(seed=st.integers(0, 10_000))
def test_traces_agree_with_products_one_by_one(seed: int) -> None:
    shop = with_photos(random_shop(seed, n_users=6, n_sales=8, n_events=40))
    model, histories = fitted_images(shop), shop.histories()
    users, sales = (each.ravel() for each in np.indices((len(histories), len(shop.horizon()))))
    profiles = model.profiles.toarray().astype(np.float64)
    tastes = histories.matrix(histories.weights(30, 3)).toarray() @ profiles
    found = model.trace(histories, users, sales)
    for user, column, theme in zip(users, sales, found, strict=True):
        added = tastes[user] * profiles[shop.horizon().sales[column]]
        assert theme == -1 if not added.any() else added[theme] == pytest.approx(added.max(), rel=1e-5)
    assert_array_equal((found >= 0).reshape(len(histories), -1), model.score(histories) > 0)


@given(seed=st.integers(0, 10_000))
def test_profile_of_a_user_is_the_same_alone_and_in_a_block(seed: int) -> None:
    shop = with_photos(random_shop(seed, n_users=6, n_sales=8, n_events=40))
    model = fitted_images(shop)
    together = model.user_profiles(shop.histories())
    assert together.shape == (6, 5)
    expected = shop.histories().matrix(shop.histories().weights(30, 3)).toarray() @ model.profiles.toarray()
    assert_allclose(together, expected, rtol=1e-5)
    for user in range(6):
        alone = model.user_profiles(shop.block.take(np.array([user])).as_of(AS_OF, HISTORY))
        assert (alone.shape, alone.dtype) == ((1, 5), np.float32)
        assert_allclose(alone[0], together[user], rtol=1e-5)


def test_without_pairs_there_is_no_trace() -> None:
    shop = with_photos(random_shop(3))
    nothing = np.zeros(0, np.int64)
    assert fitted_images(shop).trace(shop.histories(), nothing, nothing).tolist() == []


def test_only_the_features_of_images_have_names_for_users() -> None:
    catalogue = with_photos(random_shop(3)).catalogue
    details = []
    for make, settings in FAMILIES.values():
        model = make(settings, catalogue).fit({}, random_shop(3).horizon())
        assert isinstance(model, Traceable)
        details.append(list(model.details))
    assert details == [[], [], [f"theme {number}" for number in range(5)]]


def test_loaded_model_traces_as_the_fitted_one() -> None:
    shop = with_photos(random_shop(3))
    model = fitted_images(shop)
    loaded = content_images(ImageThemesSettings(), shop.catalogue).load(model.arrays(), shop.horizon())
    users, sales = (each.ravel() for each in np.indices((len(shop.histories()), len(shop.horizon()))))
    assert loaded.details == model.details
    assert_array_equal(loaded.trace(shop.histories(), users, sales), model.trace(shop.histories(), users, sales))
