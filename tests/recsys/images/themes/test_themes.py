from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from scipy.optimize import nnls
from scipy.sparse import csr_matrix, hstack, vstack
from sklearn.metrics import normalized_mutual_info_score

from recsys.errors import ConfigurationError, EmptyInputError, ModelError
from recsys.images.settings import ImageSettings, TaggerSettings
from recsys.images.tagging.local import photos_below, tag_here
from recsys.images.themes.themes import (
    MIN_COSINE_OF_SAME_THEME,
    MIN_SHARE_OF_PHOTO,
    ThemeModel,
    cosine,
    embedding_themes,
    fit_themes,
    matched,
    no_themes,
    projection,
    renamed,
    sale_weights,
    tag_matrix,
    theme_name,
    translated,
)
from recsys.testing.closeness import assert_close
from tests.helpers.paths import SHARED_DATA

N_KINDS, TAGS_A_KIND = 6, 5
TAGS = [f"{kind}{number}" for kind in "abcdef" for number in range(TAGS_A_KIND)]
DATA = SHARED_DATA


def photos_of(
    kinds: NDArray[np.int64], seed: int = 0, blurred: float = 0.05, shares: tuple[float, ...] = (5, 3, 2, 1, 1)
) -> csr_matrix:
    """Return photos of given kinds: tags of the kind with noisy `shares`, and a small share of another tag."""
    rng = np.random.default_rng(seed)
    patterns = np.kron(np.eye(N_KINDS), np.array(shares) / sum(shares))
    photos = patterns[kinds] * rng.gamma(8, 1 / 8, (len(kinds), len(TAGS)))
    photos += blurred * (rng.random(photos.shape) < 0.1)
    return csr_matrix(photos / photos.sum(axis=1, keepdims=True))


def kinds_of(n_photos: int, n_kinds: int = N_KINDS) -> NDArray[np.int64]:
    """Return the kind of each photo, from common to rare, so that all kinds differ in number."""
    shares = np.arange(n_kinds, 0, -1)
    return np.repeat(np.arange(n_kinds), np.ceil(n_photos * shares / shares.sum()).astype(int))[:n_photos]


PHOTOS = photos_of(kinds_of(210))


def fit(
    photos: csr_matrix = PHOTOS, n_themes: int = N_KINDS, previous: ThemeModel | None = None, tags: list[str] = TAGS
) -> ThemeModel:
    return fit_themes(photos, tags, n_themes, previous, as_of=0, tagger_version="tagger")


MODEL = fit()


def kind_of(model: ThemeModel, theme_id: int) -> str:
    """Return the kind of a theme: the letter of its strongest tag."""
    return model.tags[int(model.matrix[model.ids.index(theme_id)].argmax())].lstrip("~")[0]


def model_of(components: list[list[float]], **changes: object) -> ThemeModel:
    """Return a model with given themes of length 1."""
    n_themes = len(components)
    every = {"ids": list(range(1, n_themes + 1)), "names": [f"theme {n}" for n in range(n_themes)]}
    ones = {"scales": [1.0] * n_themes, "shares": [1 / n_themes] * n_themes, "next_id": n_themes + 1}
    what = {"version": "v", "fingerprint": "", "as_of": 0, "tagger_version": "", "tags": list("abcdef")}
    return ThemeModel(**{**what, **every, **ones, "components": components, **changes})


# Photos as rows.


def test_themes_have_the_configured_names_which_must_be_unique():
    model = replace(no_themes(), ids=[1, 4], names=["castle · palace", "prison"])
    assert renamed(model, {4: "old town", 9: "gone"}).names == ["castle · palace", "old town"]
    with pytest.raises(ConfigurationError, match="theme 1 == 'castle · palace', must be unique"):
        renamed(model, {4: "castle · palace"})


def test_tags_become_rows_that_sum_to_1() -> None:
    tags = [["pool", "beach"], ["ski"]]
    probabilities = [np.array([0.3, 0.1], np.float32), np.array([0.2], np.float32)]
    found = tag_matrix(tags, probabilities, ["beach", "pool", "ski"])
    assert_close(found.toarray(), [[0.1 / 0.4, 0.3 / 0.4, 0], [0, 0, 1]], terms=2, dtype=np.float32)


def test_tag_without_a_column_is_left_out_but_counts_in_the_sum() -> None:
    found = tag_matrix([["pool", "new"]], [np.array([0.3, 0.1], np.float32)], ["beach", "pool"])
    assert_close(found.toarray(), [[0, 0.3 / 0.4]], terms=2, dtype=np.float32)


def test_photo_without_tags_or_without_probability_is_an_empty_row() -> None:
    tags = [[], ["pool"], ["beach"]]
    probabilities = [np.zeros(0, np.float32), np.zeros(1, np.float32), np.ones(1, np.float32)]
    assert_array_equal(tag_matrix(tags, probabilities, ["beach", "pool"]).toarray(), [[0, 0], [0, 0], [1, 0]])


def test_no_photos_and_no_columns_are_an_empty_matrix() -> None:
    assert tag_matrix([], [], ["beach"]).shape == (0, 1)
    assert tag_matrix([], [], []).shape == (0, 0)
    assert tag_matrix([["pool"]], [np.ones(1, np.float32)], []).shape == (1, 0)


# Fitting.


def test_themes_are_the_kinds_of_the_photos() -> None:
    strongest = MODEL.activations(PHOTOS).argmax(axis=1)
    assert normalized_mutual_info_score(kinds_of(210), strongest) > 0.95
    assert {kind_of(MODEL, theme) for theme in MODEL.ids} == set("abcdef")
    assert_close(np.linalg.norm(MODEL.matrix, axis=1), np.ones(N_KINDS), terms=len(TAGS))
    assert (MODEL.matrix >= 0).all()


def test_share_of_a_theme_is_that_of_photos_whose_strongest_theme_it_is() -> None:
    strongest = MODEL.activations(PHOTOS).argmax(axis=1)
    assert_allclose(MODEL.shares, [np.mean(strongest == theme) for theme in range(N_KINDS)])
    assert sum(MODEL.shares) == pytest.approx(1)
    assert max(MODEL.shares) > 2 * min(MODEL.shares)  # the themes are unbalanced before scaling


def test_every_theme_has_the_same_mean_square_over_the_fitted_photos() -> None:
    activations = MODEL.activations(PHOTOS)
    weights = MODEL.balanced(activations)
    assert_close(np.mean(weights**2, axis=0), np.ones(N_KINDS), terms=len(weights))
    raw = np.mean(activations**2, axis=0)
    assert raw.max() > 2 * raw.min()


def test_fit_is_reproducible() -> None:
    assert fit() == MODEL


@pytest.mark.parametrize(
    ("photos", "tags"),
    [
        (csr_matrix([[0.7, 0.3, 0]]), list("abc")),  # one photo
        (csr_matrix([[1.0], [1.0], [1.0]]), ["a"]),  # one tag
        (csr_matrix([[1.0]]), ["a"]),
        (csr_matrix([[0.7, 0.3, 0, 0]] * 9), list("abcd")),  # one photo nine times
        (csr_matrix([[0.7, 0.3, 0, 0]] * 9 + [[0, 0, 0.5, 0.5]] * 2), list("abcd")),  # two photos, many times
        (csr_matrix([[0.7, 0.3, 0], [0, 0, 1], [0, 0, 0]]), list("abc")),  # one without tags
        (csr_matrix(np.eye(3)), list("abc")),
    ],
)
def test_few_distinct_photos_or_tags_have_fewer_themes_that_explain_them(photos: csr_matrix, tags: list[str]) -> None:
    model = fit(photos, 30, tags=tags)
    assert 1 <= len(model.ids) <= min(photos.shape)
    weights = model.activations(photos)
    assert_allclose(weights @ model.matrix, photos.toarray(), atol=0.02)
    assert_array_equal(weights.any(axis=1), photos.toarray().any(axis=1))
    assert (np.array(model.scales) > 0).all()
    assert len(set(model.names)) == len(model.names) == len(set(model.ids))


def test_photos_without_tags_are_left_out_of_the_fit() -> None:
    with_empty = vstack([PHOTOS, csr_matrix((40, len(TAGS)))]).tocsr()
    assert fit(with_empty) == MODEL


@pytest.mark.parametrize("n_photos", [0, 3])
def test_photos_without_any_tag_are_an_error_with_the_next_step(n_photos: int) -> None:
    with pytest.raises(EmptyInputError, match="0 photos with a tag, themes need at least 1: look at table rejected_im"):
        fit(csr_matrix((n_photos, len(TAGS))))


# Projection.


@given(seed=st.integers(0, 10_000), n_themes=st.integers(1, 8))
def test_projection_equals_scipy_nnls_for_each_photo(seed: int, n_themes: int) -> None:
    rng = np.random.default_rng(seed)
    themes = rng.random((n_themes, 12)) * (rng.random((n_themes, 12)) < 0.4) + 0.2 * rng.random((n_themes, 12))
    themes /= np.linalg.norm(themes, axis=1, keepdims=True)
    photos = rng.random((7, 12)) * (rng.random((7, 12)) < 0.4)
    photos[3] = 0
    found = projection(csr_matrix(photos), themes)
    expected = np.array([nnls(themes.T, photo)[0] for photo in photos])
    assert_allclose(found, expected, atol=2e-3)
    lengths = [np.linalg.norm(photos - weights @ themes, axis=1) for weights in (found, expected)]
    assert_allclose(lengths[0], lengths[1], atol=1e-6)


def test_activations_are_those_of_nnls_without_small_weights() -> None:
    new = photos_of(kinds_of(60), seed=9, blurred=0.3)
    expected = np.array([nnls(MODEL.matrix.T, photo)[0] for photo in new.toarray()])
    threshold = MIN_SHARE_OF_PHOTO * expected.sum(axis=1, keepdims=True)
    is_trace = expected < threshold
    assert np.abs(expected / threshold - 1).min() > 0.1  # no weight is so near the threshold that rounding matters
    assert 0 < is_trace.sum() < is_trace.size
    assert ((expected > 0) & is_trace).any()
    assert_close(MODEL.activations(new), np.where(is_trace, 0, expected), terms=len(TAGS))


def test_theme_with_less_than_1_percent_of_a_photos_weights_has_weight_0() -> None:
    model = model_of(np.eye(3).tolist(), tags=list("abc"))
    photos = csr_matrix([[0.98, 0.015, 0.005], [0.5, 0.5, 0]])
    assert_allclose(model.activations(photos), [[0.98, 0.015, 0], [0.5, 0.5, 0]], rtol=1e-6)


def test_projection_of_a_photo_is_bit_identical_whatever_the_other_photos() -> None:
    new = photos_of(kinds_of(83), seed=5, blurred=0.3)
    together = MODEL.activations(new)
    for row in (0, 1, 17, 82):
        assert_array_equal(MODEL.activations(new[[row]])[0], together[row])
    assert_array_equal(MODEL.activations(new[::-1]), together[::-1])
    assert_array_equal(MODEL.activations(vstack([PHOTOS, new]).tocsr())[210:], together)


def test_photo_without_a_known_tag_has_no_theme_and_no_photos_give_no_rows() -> None:
    assert_array_equal(MODEL.activations(csr_matrix((2, len(TAGS)))), np.zeros((2, N_KINDS)))
    assert MODEL.activations(csr_matrix((0, len(TAGS)))).shape == (0, N_KINDS)
    assert MODEL.activations(PHOTOS).dtype == MODEL.balanced(MODEL.activations(PHOTOS)).dtype == np.float32


def test_shop_without_photos_has_a_model_that_projects_nothing() -> None:
    nothing = no_themes()
    assert (
        nothing.activations(csr_matrix((3, 0))).shape == nothing.balanced(np.zeros((3, 0), np.float32)).shape == (3, 0)
    )
    assert ThemeModel.from_json(nothing.to_json()) == nothing


def test_theme_that_no_fitted_photo_has_is_balanced_to_0() -> None:
    model = model_of(np.eye(2).tolist(), scales=[0.0, 0.5])
    assert_array_equal(model.balanced(np.array([[3.0, 2.0]], np.float32)), [[0, 4]])


# Files.


def test_model_survives_a_round_trip_through_json() -> None:
    loaded = ThemeModel.from_json(MODEL.to_json())
    assert loaded == MODEL
    assert_array_equal(loaded.activations(PHOTOS), MODEL.activations(PHOTOS))


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"version": "1"}', '{"unknown": 1}'])
def test_text_that_is_not_a_model_is_an_error_with_the_next_step(text: str) -> None:
    with pytest.raises(
        ModelError, match=r"theme model cannot be read \(.*\): remove its file, and 'recsys nightly' fits"
    ):
        ThemeModel.from_json(text)


def test_version_depends_on_the_whole_content_of_a_model() -> None:
    others = [
        fit(n_themes=4),
        fit(tags=[tag.upper() for tag in TAGS]),
        fit(previous=replace(MODEL, names=[name.upper() for name in MODEL.names])),
        fit_themes(PHOTOS, TAGS, N_KINDS, as_of=0, tagger_version="other"),
        fit_themes(PHOTOS, TAGS, N_KINDS, as_of=0, tagger_version="tagger", fingerprint="other"),
        fit_themes(PHOTOS, TAGS, N_KINDS, as_of=1_000_000, tagger_version="tagger"),
    ]
    assert len({model.version for model in [MODEL, *others]}) == 1 + len(others)


# Names.


@pytest.mark.parametrize(
    ("component", "taken", "name"),
    [
        ([0.5, 0.9, 0, 0.3], set(), "beach · pool · ski"),
        ([0.5, 0.9, 0.4, 0.3], set(), "beach · pool · rain"),  # at most three
        ([0.1, 0.9, 0, 0.1], set(), "beach"),  # the others weigh less than 1/5 of it
        ([0.1, 0.9, 0, 0.1], {"beach"}, "beach · pool"),
        ([0.1, 0.9, 0, 0.1], {"beach", "beach · pool"}, "beach · pool · ski"),
        ([0, 0.9, 0, 0], {"beach"}, "beach (2)"),  # it has no other tag
        ([0, 0.9, 1e-22, 0], {"beach"}, "beach (2)"),  # 1e-22 is a rounding error
        ([0.8, 0.9, 0, 0], {"beach · pool", "beach · pool (2)"}, "beach · pool (3)"),
        ([0.9, 0.9, 0, 0], set(), "pool · beach"),  # ties in order of the tags
    ],
)
def test_theme_is_named_by_its_strongest_tags_and_names_are_unique(component, taken, name) -> None:
    assert theme_name(np.array(component), ["pool", "beach", "rain", "ski"], taken) == name


@given(seed=st.integers(0, 1_000), n_tags=st.integers(1, 4))
def test_names_and_ids_are_unique_even_with_few_tags(seed: int, n_tags: int) -> None:
    photos = np.random.default_rng(seed).random((9, n_tags)) ** 3
    tags = list("abcd")[:n_tags]
    first = fit(csr_matrix(photos), 4, tags=tags)
    for model in (first, fit(csr_matrix(photos[::-1] ** 2), 3, first, tags)):
        assert len(set(model.names)) == len(set(model.ids)) == len(model.ids)


# Refits.


def test_refit_on_the_same_photos_keeps_every_id_and_name() -> None:
    refit_model = fit(previous=MODEL)
    assert (
        (refit_model.ids, refit_model.names, refit_model.next_id)
        == (MODEL.ids, MODEL.names, MODEL.next_id)
        == (
            [1, 2, 3, 4, 5, 6],
            MODEL.names,
            7,
        )
    )
    assert_allclose(refit_model.matrix, MODEL.matrix, atol=0.02)


REFITS = {
    "half of the photos": (PHOTOS[::2], N_KINDS),
    "the other half": (PHOTOS[1::2], N_KINDS),
    "a fifth more photos": (vstack([photos_of(kinds_of(42), seed=8), PHOTOS]).tocsr(), N_KINDS),
    "photos in another order": (PHOTOS[np.random.default_rng(0).permutation(210)], N_KINDS),
    "fewer themes": (PHOTOS, 4),
    "more themes": (PHOTOS, 9),
}


@pytest.mark.parametrize("case", REFITS)
def test_theme_that_is_found_by_the_refit_keeps_its_id_and_name(case: str) -> None:
    photos, n_themes = REFITS[case]
    refit = fit(photos, n_themes, MODEL)
    preserved = set(refit.ids) & set(MODEL.ids)
    assert len(preserved) == min(n_themes, N_KINDS)
    for theme in preserved:
        assert kind_of(refit, theme) == kind_of(MODEL, theme)
        assert refit.names[refit.ids.index(theme)] == MODEL.names[MODEL.ids.index(theme)]
    assert set(refit.ids) - preserved == set(range(7, 7 + len(refit.ids) - len(preserved)))
    assert refit.next_id == 7 + len(refit.ids) - len(preserved)


def test_tags_may_appear_disappear_and_change_their_order() -> None:
    more = [f"new{number}" for number in range(4)]
    columns = np.random.default_rng(0).permutation(len(TAGS) + 4)
    wider = hstack([PHOTOS, csr_matrix(np.full((210, 4), 0.01))]).tocsr()[:, columns]
    tags = [[*TAGS, *more][column] for column in columns]
    refit = fit(wider, previous=MODEL, tags=tags)
    assert refit.ids == MODEL.ids
    assert refit.names == MODEL.names
    assert all(kind_of(refit, theme) == kind_of(MODEL, theme) for theme in refit.ids)
    back = fit(previous=refit)
    assert (back.ids, back.names) == (MODEL.ids, MODEL.names)


def test_themes_of_entirely_different_tags_are_new() -> None:
    refit = fit(previous=MODEL, tags=[f"~{tag}" for tag in TAGS])
    assert refit.ids == [7, 8, 9, 10, 11, 12]
    assert {kind_of(refit, theme) for theme in refit.ids} == set("abcdef")


def test_theme_whose_tags_are_mostly_gone_is_not_matched_by_the_rest() -> None:
    ski = model_of([[0.999, np.sqrt(1 - 0.999**2)]], tags=["ski", "snow"])
    refit = fit(csr_matrix([[1.0], [1.0]]), 1, ski, ["snow"])
    assert refit.ids == [2]


def test_id_of_a_theme_that_has_disappeared_is_never_reused() -> None:
    kinds = kinds_of(210)
    without = fit(PHOTOS[kinds != 3], N_KINDS - 1, MODEL)
    gone = set(MODEL.ids) - set(without.ids)
    assert {kind_of(MODEL, theme) for theme in gone} == {"d"}
    newest = replace(MODEL, ids=[*MODEL.ids[:-1], 40], next_id=41)  # the theme with the largest id disappears
    removed_kind = kind_of(newest, 40)
    without = fit(PHOTOS[kinds != "abcdef".index(removed_kind)], N_KINDS - 1, newest)
    assert 40 not in without.ids
    assert without.next_id == 41
    refit_model = fit(previous=without)
    assert set(refit_model.ids) == {*without.ids, 41}
    assert kind_of(refit_model, 41) == removed_kind


def test_refit_starts_from_the_previous_themes_and_preserves_more_of_them() -> None:
    photos = photos_of(kinds_of(210), blurred=0.2)
    whole = fit(photos, 9)  # more themes than kinds: several solutions are equally good
    preserved_by_chance = matched(cosine(fit(photos[::2], 9).matrix, whole.matrix))
    refit = fit(photos[::2], 9, whole)
    assert len(preserved_by_chance) < len(set(refit.ids) & set(whole.ids)) == 9


def test_refit_ignores_previous_themes_that_would_have_a_clearly_larger_error() -> None:
    kinds = kinds_of(210)
    old, photos = (
        fit(PHOTOS[kinds < 3]),
        PHOTOS[kinds >= 3],
    )  # starting from the old themes, the error would be 1.12 times as large

    def error(model: ThemeModel) -> float:
        return float(np.linalg.norm(photos - projection(photos, model.matrix) @ model.matrix))

    assert error(fit(photos, previous=old)) <= 1.021 * error(fit(photos))


def test_pairs_below_the_threshold_do_not_displace_better_pairs() -> None:
    # 0.45 + 0.45 is more than 0.8, but both are below the threshold.
    assert matched(np.array([[0.8, 0.45], [0.45, 0.0]])) == {0: 0}


@given(seed=st.integers(0, 10_000), n_rows=st.integers(0, 4), n_columns=st.integers(0, 5))
def test_matching_has_the_greatest_sum_of_cosines(seed: int, n_rows: int, n_columns: int) -> None:
    cosines = np.random.default_rng(seed).random((n_rows, n_columns))

    def greatest(row: int, free: frozenset[int]) -> float:
        if row == n_rows:
            return 0.0
        alone = greatest(row + 1, free)
        return max([alone, *(counted_cosine(row, each) + greatest(row + 1, free - {each}) for each in free)])

    def counted_cosine(row: int, column: int) -> float:
        return cosines[row, column] if cosines[row, column] >= MIN_COSINE_OF_SAME_THEME else 0.0

    pairs = matched(cosines)
    assert len(set(pairs.values())) == len(pairs)
    assert all(cosines[row, column] >= MIN_COSINE_OF_SAME_THEME for row, column in pairs.items())
    assert sum(cosines[row, column] for row, column in pairs.items()) == pytest.approx(
        greatest(0, frozenset(range(n_columns)))
    )


def test_cosine_of_rows() -> None:
    found = cosine(np.array([[3.0, 4.0], [0.0, 0.0]]), np.array([[1.0, 0.0], [0.0, 2.0], [6.0, 8.0]]))
    assert_allclose(found, [[3 / 5, 4 / 5, 1], [0, 0, 0]])


# Embeddings and sales.


def test_each_cluster_of_embeddings_has_one_theme() -> None:
    kinds = kinds_of(60, 3)
    embeddings = (5 * np.eye(3, 8)[kinds] + np.random.default_rng(0).normal(0, 0.2, (60, 8))).astype(np.float32)
    found = embedding_themes(embeddings, 3)
    assert (found.shape, found.dtype) == ((60, 3), np.float32)
    assert normalized_mutual_info_score(kinds, found.argmax(axis=1)) == pytest.approx(1)
    assert embedding_themes(embeddings[:2], 30).shape == (2, 2)


def test_themes_of_a_sale_are_the_mean_of_its_photos_with_a_larger_weight_of_the_cover() -> None:
    weights = np.array([[1, 0], [0, 6], [3, 3], [0, 5]], np.float32)
    sales = np.array([2, 2, 2, 0])
    is_cover = np.array([True, False, False, True])
    expected = [
        [0, 5],
        [0, 0],  # no photos
        [(2 * 1 + 0 + 3) / (2 + 1 + 1), (2 * 0 + 6 + 3) / (2 + 1 + 1)],
    ]
    assert_allclose(sale_weights(weights, sales, is_cover, 3, 2.0), expected)
    assert sale_weights(weights, sales, is_cover, 3, 2.0).dtype == np.float32


def test_sales_without_any_photos_have_no_themes() -> None:
    nothing = sale_weights(np.zeros((0, 2), np.float32), np.zeros(0, np.int64), np.zeros(0, bool), 3, 2.0)
    assert_array_equal(nothing, np.zeros((3, 2)))


@given(seed=st.integers(0, 10_000))
def test_themes_of_sales_agree_with_loops_over_photos(seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights, sales = rng.random((11, 3)).astype(np.float32), rng.integers(0, 5, 11)
    is_cover, cover = rng.random(11) < 0.3, float(rng.uniform(0.5, 4))
    expected = np.zeros((5, 3))
    for sale in set(sales.tolist()):
        of_sale = np.flatnonzero(sales == sale)
        counted = [cover if is_cover[photo] else 1.0 for photo in of_sale]
        expected[sale] = np.average(weights[of_sale], axis=0, weights=counted)
    assert_close(sale_weights(weights, sales, is_cover, 5, cover), expected, terms=11)


@pytest.mark.real_data
def test_themes_of_real_photos_agree_with_the_scenes_that_they_show() -> None:
    if not DATA.exists():
        pytest.skip(f"{DATA} is absent: the shared data sets are not part of the project")
    tagger = TaggerSettings(
        name="places365_squeezenet",
        weights=str(DATA / "places365/squeezenet_places365_a_fp16.npz"),
        labels=str(DATA / "places365/categories_places365.txt"),
    )
    photos = photos_below([str(DATA / "photos/sun8")])
    rows = list(tag_here(photos, ImageSettings(), tagger, threads=1))
    tags = [[each["tag"] for each in row["tags"]] for row in rows]
    probabilities = [np.array([each["probability"] for each in row["tags"]], np.float32) for row in rows]
    columns = sorted(set().union(*tags))
    matrix = tag_matrix(tags, probabilities, columns)
    strongest = fit(matrix, 20, tags=columns).activations(matrix).argmax(axis=1)
    assert len(rows) == 478
    assert normalized_mutual_info_score([Path(photo).parent.name for photo in photos], strongest) >= 0.75


def test_fields_of_a_model_are_plain_values() -> None:
    assert all(type(each) in (int, float, str) for value in asdict(MODEL).values() for each in np.ravel(value).tolist())


def test_themes_translated_to_the_tags_of_another_tagger_keep_their_ids_in_a_refit():
    first = fit(PHOTOS, N_KINDS)
    swapped = np.random.default_rng(1).permutation(len(TAGS))  # the other tagger has another name for each tag
    other = csr_matrix(PHOTOS.toarray()[:, swapped])
    names = [f"other {tag}" for tag in range(len(TAGS))]
    refit = fit_themes(other, names, N_KINDS, translated(first, PHOTOS, other, names), as_of=1, tagger_version="other")
    assert (refit.ids, refit.names, refit.next_id) == (first.ids, first.names, first.next_id)
    strongest, again = first.activations(PHOTOS).argmax(1), refit.activations(other).argmax(1)
    assert (strongest == again).mean() > 0.95
