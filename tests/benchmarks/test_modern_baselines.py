from math import sqrt

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_matrix
from sklearn.linear_model import Ridge
from threadpoolctl import threadpool_limits

from benchmarks.modern_baselines import (
    MODERN,
    ease_weights,
    fit_bpr,
    fit_ease,
    fit_frequency,
    fit_tifu_knn,
    fit_user_neighbours,
    tifu_vectors,
)
from recsys.instants import DAY
from recsys.shop.histories import Histories

AS_OF = 100 * DAY
NEVER = np.inf


def histories(users: list[list[tuple[int, float]]], n_sales: int) -> Histories:
    """Return histories of users, each with (sale, age in days) in order of time."""
    events = [event for user in users for event in user]
    offsets = np.concatenate(([0], np.cumsum([len(user) for user in users])))
    sales = np.array([sale for sale, _ in events], np.int32)
    occurred_at = np.array([AS_OF - int(age * DAY) for _, age in events], np.int64)
    return Histories(AS_OF, n_sales, offsets, sales, np.arange(len(events)) % 2 == 0, occurred_at)


def test_frequency_is_the_decayed_number_of_the_users_own_visits_and_purchases():
    known = histories([[(2, 20), (0, 10), (2, 10)], [(1, 30)], []], n_sales=4)
    scores = fit_frequency(known, {"half_life": 10})
    assert_allclose(scores(np.array([1, 0, 2])), [[0, 1 / 8, 0, 0], [1 / 2, 0, 1 / 4 + 1 / 2, 0], [0, 0, 0, 0]])


def test_each_column_of_ease_is_the_ridge_regression_of_an_item_on_the_others():
    random = np.random.default_rng(0)
    interactions = (random.random((30, 5)) < 0.4).astype(np.float32)
    weights = ease_weights(csr_matrix(interactions), l2=3.0)
    for item in range(5):
        others = [other for other in range(5) if other != item]
        ridge = Ridge(alpha=3.0, fit_intercept=False).fit(interactions[:, others], interactions[:, item])
        assert_allclose(weights[others, item], ridge.coef_, atol=1e-5)
    assert_array_equal(np.diag(weights), np.zeros(5))


def test_ease_sums_the_weights_of_the_users_sales_and_adds_their_own_frequency():
    # Gram matrix [[2, 1], [1, 1]] and l2 = 1: inverse [[2, -1], [-1, 3]] / 5, so weights [[0, 1/3], [1/2, 0]].
    known = histories([[(0, 3), (0, 2), (1, 1)], [(0, 9)]], n_sales=2)
    settings = {"half_life": NEVER, "l2": 1.0}
    assert_allclose(fit_ease(known, settings)(np.arange(2)), [[1 / 2, 1 / 3], [0, 1 / 3]], rtol=1e-6)
    own = settings | {"own": 10, "own_half_life": 1}
    frequency = [[10 * (1 / 8 + 1 / 4), 10 / 2], [10 / 512, 0]]
    assert_allclose(fit_ease(known, own)(np.arange(2)), np.array([[1 / 2, 1 / 3], [0, 1 / 3]]) + frequency, rtol=1e-6)


def test_neighbours_are_the_k_users_of_highest_cosine_without_the_user():
    known = histories([[(0, 5), (1, 5)], [(1, 5), (1, 4)], [(0, 5), (1, 5), (2, 5), (3, 5)], [(3, 1)]], n_sales=4)
    first, last, cosines = np.array([0]), np.array([3]), [1 / sqrt(2), 2 / sqrt(8)]  # of user 0 with users 1 and 2
    settings = {"half_life": NEVER, "k": 1, "own": 0}
    assert_allclose(fit_user_neighbours(known, settings)(last), [[1 / 2] * 4], rtol=1e-6)
    of_two = np.array([[cosines[1], sum(cosines), cosines[1], cosines[1]]])
    assert_allclose(fit_user_neighbours(known, settings | {"k": 2})(first), of_two, rtol=1e-6)
    assert_allclose(
        fit_user_neighbours(known, settings | {"k": 2, "own": 3})(first), np.add(of_two, [[3, 3, 0, 0]]), rtol=1e-6
    )


def test_an_old_event_makes_a_user_less_similar_and_counts_less():
    known = histories([[(0, 10), (1, 0.0001)], [(0, 10)]], n_sales=2)
    scores = fit_user_neighbours(known, {"half_life": 10, "k": 1, "own": 0})(np.array([0]))
    assert_allclose(scores, [[1 / sqrt(5) * 1 / 2, 0]], rtol=1e-4)


def test_baskets_fade_within_their_group_and_by_group():
    # Days 9, 5, 3, 2 ago; groups of 3 from the latest on: {2, 3, 5 days ago} and {9 days ago}.
    known = histories([[(0, 9), (1, 5), (0, 3), (0, 2.9), (0, 2), (2, 2)], [(2, 7), (2, 6), (2, 5)], []], n_sales=3)
    vectors = tifu_vectors(known, m=3, within=0.5, between=0.1).toarray()
    latest_group = np.array([1 + 0.5, 0.25, 1]) / 3  # sale 0 in the latest basket and the one before, once in each
    assert_allclose(vectors, [(latest_group + 0.1 * np.array([1, 0, 0])) / 2, [0, 0, 1.75 / 3], [0, 0, 0]])


def test_tifu_knn_mixes_the_users_vector_with_the_mean_of_the_nearest():
    known = histories([[(0, 1)], [(0, 2), (1, 2)], [(0, 2), (2, 2)], [(1, 1), (2, 1), (3, 1)]], n_sales=4)
    settings = {"m": 3, "within": 1, "between": 1, "alpha": 0.6, "k": 2}
    nearest = [1, 1 / 2, 1 / 2, 0]  # users 1 and 2 at distance 1; user 3 at distance 2
    assert_allclose(
        fit_tifu_knn(known, settings)(np.array([0])), [0.6 * np.array([1, 0, 0, 0]) + 0.4 * np.array(nearest)]
    )


def test_more_neighbours_than_other_users_are_all_of_them():
    known = histories([[(0, 1)], [(1, 2)], [(1, 2)]], n_sales=2)
    settings = {"m": 3, "within": 1, "between": 1, "alpha": 0, "k": 9}
    assert_allclose(fit_tifu_knn(known, settings)(np.array([1])), [[1 / 2, 1 / 2]])


def test_bpr_orders_known_sales_first_and_sales_without_events_last():
    known = histories([[(0, 1), (1, 1)]] * 20 + [[(2, 1), (3, 1)]] * 20 + [[]], n_sales=5)
    settings = {"factors": 4, "rate": 0.1, "l2": 0.001, "iterations": 200}
    with threadpool_limits(1, "blas"):
        scores = fit_bpr(known, settings)(np.array([0, 25, 40]))
    assert scores[0, :2].min() > scores[0, 2:4].max() > scores[0, 4]
    assert scores[1, 2:4].min() > scores[1, :2].max() > scores[1, 4]
    assert_array_equal(scores[2, :4], np.zeros(4))  # a user without events: no order but that of ties


@pytest.mark.parametrize("kind", MODERN, ids=lambda kind: kind.name)
def test_every_kind_scores_each_user_alike_whoever_is_asked_beside_them(kind):
    known = histories([[(0, 9), (1, 5)], [(1, 5), (2, 1)], [(2, 3)], []], n_sales=4)
    with threadpool_limits(1, "blas"):
        score = next(kind.baselines()).fit(known)
        everyone = score(np.arange(4))
    assert everyone.shape == (4, 4)
    assert np.isfinite(everyone).all()
    assert_allclose(score(np.array([3, 1])), everyone[[3, 1]], rtol=1e-5)


@pytest.mark.parametrize("kind", MODERN, ids=lambda kind: kind.name)
def test_settings_that_share_computations_score_as_each_does_alone(kind):
    random = np.random.default_rng(0)
    users = [
        [(int(sale), age) for sale, age in zip(random.integers(0, 8, 4), (40, 9, 8, 1), strict=True)] for _ in range(30)
    ]
    shared, rows = histories(users, n_sales=8), np.array([4, 9, 20])
    with threadpool_limits(1, "blas"):
        for each in kind.baselines():
            alone = each.fit(histories(users, n_sales=8))(rows)
            assert_array_equal(each.fit(shared)(rows), alone, err_msg=str(each))
