from itertools import combinations, permutations
from math import log, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from scipy.optimize import nnls
from scipy.sparse import csr_matrix, vstack

from recsys.errors import EmptyInputError
from recsys.images.themes.theme_choice import (
    TOP_TAGS,
    ThemeCount,
    co_occurrence,
    coherence,
    compare_counts,
    reconstruction_error,
    stability,
)
from recsys.images.themes.themes import fit_themes

TAGS = list("abcdefghi")


def clear_photos(n_photos: int = 60, seed: int = 0) -> csr_matrix:
    """Return photos of 3 kinds with 3 distinct tags each: 1/2 are of the first kind, 1/6 of the last."""
    rng = np.random.default_rng(seed)
    kinds = rng.choice(3, n_photos, p=[1 / 2, 1 / 3, 1 / 6])
    photos = np.kron(np.eye(3), [[0.5, 0.3, 0.2]])[kinds] * rng.gamma(20, 1 / 20, (n_photos, 9))
    return csr_matrix(photos / photos.sum(axis=1, keepdims=True))


def random_photos(seed: int) -> csr_matrix:
    rng = np.random.default_rng(seed)
    photos = rng.random((14, 9)) * (rng.random((14, 9)) < 0.4)
    photos[:, 0] += 0.01
    return csr_matrix(photos / photos.sum(axis=1, keepdims=True))


@given(seed=st.integers(0, 1_000), count=st.integers(1, 6))
def test_error_is_the_residual_of_the_best_weights(seed: int, count: int) -> None:
    photos = random_photos(seed)
    model = fit_themes(photos, TAGS, count, as_of=0, tagger_version="")
    dense = photos.toarray()
    left = [nnls(model.matrix.T, photo)[1] for photo in dense]
    expected = np.linalg.norm(left) / np.linalg.norm(dense)
    assert reconstruction_error(photos, model) == pytest.approx(expected, abs=1e-4)


def test_error_is_0_for_perfect_themes_and_1_for_themes_of_other_tags() -> None:
    photos = csr_matrix(np.kron(np.eye(2), [[0.6, 0.4]]))
    model = fit_themes(photos[[0]], list("abcd"), 1, as_of=0, tagger_version="")
    assert reconstruction_error(photos[[0]], model) == pytest.approx(0, abs=1e-3)
    assert reconstruction_error(photos[[1]], model) == 1
    assert reconstruction_error(photos, model) == pytest.approx(sqrt(1 / 2), abs=1e-3)


@given(seed=st.integers(0, 1_000), n_themes=st.integers(1, 4), n_others=st.integers(1, 4))
def test_stability_is_that_of_the_best_of_all_pairings(seed: int, n_themes: int, n_others: int) -> None:
    rng = np.random.default_rng(seed)
    small, large = sorted((rng.random((n_themes, 5)), rng.random((n_others, 5))), key=len)
    cosines = [[row @ other / np.linalg.norm(row) / np.linalg.norm(other) for other in large] for row in small]
    best = max(
        np.mean([cosines[row][column] for row, column in enumerate(columns)])
        for columns in permutations(range(len(large)), len(small))
    )
    assert stability(small, large) == pytest.approx(best)
    assert stability(large, small) == pytest.approx(best)


def test_same_themes_in_another_order_are_stable() -> None:
    themes = np.random.default_rng(0).random((4, 6))
    assert stability(themes, 3 * themes[[2, 0, 3, 1]]) == pytest.approx(1)


def test_co_occurring_tags_are_counted() -> None:
    photos = csr_matrix([[0.5, 0.5, 0], [1, 0, 0], [0.2, 0.4, 0.4]])
    assert_array_equal(co_occurrence(photos), [[3, 2, 1], [2, 2, 1], [1, 1, 1]])


def test_coherence_is_the_mean_npmi_of_the_strongest_tags() -> None:
    photos = csr_matrix([[1, 1, 0, 0], [1, 1, 0, 1], [1, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1]])
    together = co_occurrence(photos)
    # Of 5 photos a is on 3, b on 2, c on 2; a with b on 2, a with c on 1, b with c on none.
    a_b = log((2 / 5) / (3 / 5 * 2 / 5)) / -log(2 / 5)
    a_c = log((1 / 5) / (3 / 5 * 2 / 5)) / -log(1 / 5)
    assert coherence(np.array([3.0, 2.0, 1.0, 0.0]), together, 5) == pytest.approx((a_b + a_c - 1) / 3)
    assert coherence(np.array([3.0, 2.0, 0.0, 0.0]), together, 5) == pytest.approx(a_b)


def test_extreme_values_of_coherence() -> None:
    photos = csr_matrix([[1, 1, 0, 1], [1, 1, 0, 1], [0, 0, 1, 1]])
    together = co_occurrence(photos)
    assert coherence(np.array([1.0, 1.0, 0.0, 0.0]), together, 3) == pytest.approx(1)  # always together
    assert coherence(np.array([1.0, 0.0, 1.0, 0.0]), together, 3) == -1  # never
    assert coherence(np.array([0.0, 0.0, 1.0, 1.0]), together, 3) == pytest.approx(0)  # independent
    assert coherence(np.array([0.0, 0.0, 0.0, 1.0]), together, 3) == 1  # a single tag
    assert coherence(np.array([1.0, 0.0, 1e-22, 0.0]), together, 3) == 1  # 1e-22 is a rounding error
    assert coherence(np.array([1.0, 1.0]), np.full((2, 2), 3.0), 3) == 1  # both on all photos


@given(seed=st.integers(0, 1_000))
def test_coherence_agrees_with_loops_over_photos(seed: int) -> None:
    photos = random_photos(seed)
    has = photos.toarray() > 0
    theme = np.random.default_rng(seed).random(9)
    pairs = []
    for one, other in combinations(np.argsort(-theme)[:TOP_TAGS], 2):
        both = np.mean(has[:, one] & has[:, other])
        alone = np.mean(has[:, one]) * np.mean(has[:, other])
        pairs.append(-1 if both == 0 else 1 if both == 1 else log(both / alone) / -log(both))
    assert coherence(theme, co_occurrence(photos), 14) == pytest.approx(np.mean(pairs))


def test_right_number_of_themes_has_the_best_measures() -> None:
    found = {row.themes: row for row in compare_counts(clear_photos(), TAGS, [2, 3, 6])}
    assert list(found) == [2, 3, 6]
    assert found[2].error > 3 * found[3].error
    assert found[3].stability > 0.98
    assert found[3].stability > found[6].stability
    assert found[3].coherence == pytest.approx(1)
    assert found[3].coherence > found[2].coherence
    assert 0.05 < found[3].smallest_share < 0.3


def test_more_themes_have_less_error() -> None:
    errors = [row.error for row in compare_counts(random_photos(1), TAGS, [1, 2, 4, 8])]
    assert errors == sorted(errors, reverse=True)


def test_comparison_is_reproducible_and_ignores_photos_without_tags() -> None:
    photos = clear_photos(31)
    rows: list[ThemeCount] = list(compare_counts(photos, TAGS, [2, 3], seed=4))
    assert list(compare_counts(photos, TAGS, [2, 3], seed=4)) == rows
    assert list(compare_counts(vstack([csr_matrix((9, 9)), photos]).tocsr(), TAGS, [2, 3], seed=4)) == rows


def test_two_photos_can_be_compared_and_fewer_are_an_error() -> None:
    photos = csr_matrix(np.kron(np.eye(2), [[0.6, 0.4]]))
    (row,) = compare_counts(photos, list("abcd"), [30])
    assert (row.themes, row.stability) == (30, 0)
    message = "photos with a tag: 1, must be at least 2 to compare numbers of themes"
    with pytest.raises(EmptyInputError, match=message):
        list(compare_counts(vstack([photos[[0]], csr_matrix((5, 4))]).tocsr(), list("abcd"), [3]))
