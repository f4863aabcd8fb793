from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from recsys.recommenders.collaborative import (
    CONDITIONAL,
    COSINE,
    LIFT,
    Collaborative,
    CollaborativeModel,
    CollaborativeSettings,
    Measure,
    prune_columns,
)
from recsys.testing.shops import ShopData, make_shop, purchase, random_shop, sale, visit

SALES = [sale("a"), sale("b", -9, -3), sale("c"), sale("d", 0.5, 2)]  # b has closed: it is a source and no target
EVENTS = [
    visit("u", "a", -5),
    visit("u", "b", -4),
    visit("u", "b", -1),  # a second visit: u is one user of b
    visit("u", "c", -2),
    purchase("v", "a", -2),
    visit("v", "b", -6),
    visit("w", "c", -1),
    visit("w", "b", -7),
    visit("x", "b", -8),
    visit("y", "a", -1),
]


def recommender(shop: ShopData, measure: Measure = COSINE, **settings: float) -> Collaborative:
    return Collaborative(CollaborativeSettings(**settings), shop.catalogue, measure=measure)


def fit(shop: ShopData, measure: Measure = COSINE, **settings: float) -> CollaborativeModel:
    collaborative = recommender(shop, measure, **settings)
    return collaborative.fit(collaborative.count(shop.histories(), shop.horizon()), shop.horizon())


def test_users_are_counted_once_per_sale_and_once_per_pair() -> None:
    shop = make_shop(SALES, EVENTS)
    statistics = recommender(shop).count(shop.histories(), shop.horizon())
    assert_array_equal(statistics["users"], [3, 4, 2, 0])
    #                                      a  c  d
    assert_array_equal(statistics["pairs"], [[3, 1, 0], [2, 2, 0], [1, 2, 0], [0, 0, 0]])


def test_similarity_is_the_shrunk_cosine_of_users() -> None:
    similarities = fit(make_shop(SALES, EVENTS), shrinkage=10).similarities.toarray()
    expected = [
        [0, 1 / (sqrt(3 * 2) + 10), 0],  # a: u saw c too
        [2 / (sqrt(4 * 3) + 10), 2 / (sqrt(4 * 2) + 10), 0],  # b: u and v saw a, u and w saw c
        [1 / (sqrt(2 * 3) + 10), 0, 0],  # c: u saw a too
        [0, 0, 0],  # d: no users
    ]
    assert_allclose(similarities, expected, rtol=1e-6)


def test_conditional_similarity_is_the_shrunk_share_of_the_sources_users() -> None:
    similarities = fit(make_shop(SALES, EVENTS), CONDITIONAL, shrinkage=10).similarities.toarray()
    expected = [[0, 1 / (3 + 10), 0], [2 / (4 + 10), 2 / (4 + 10), 0], [1 / (2 + 10), 0, 0], [0, 0, 0]]
    assert_allclose(similarities, expected, rtol=1e-6)


def test_lift_is_the_users_of_both_over_those_expected_by_chance() -> None:
    similarities = fit(make_shop(SALES, EVENTS), LIFT, shrinkage=10).similarities.toarray()
    mean = (3 + 4 + 2) / 3  # mean number of users of the sales that have any: not d
    expected = [
        [0, 1 / (3 * 2 / mean + 10), 0],
        [2 / (4 * 3 / mean + 10), 2 / (4 * 2 / mean + 10), 0],
        [1 / (2 * 3 / mean + 10), 0, 0],
        [0, 0, 0],
    ]
    assert_allclose(similarities, expected, rtol=1e-6)


def test_without_shrinkage_the_sales_of_the_same_users_have_similarity_1_and_unvisited_ones_0() -> None:
    shop = make_shop([sale("a"), sale("b"), sale("c")], [visit("u", "a", -1), visit("u", "b", -1)])
    assert_allclose(fit(shop, shrinkage=0).similarities.toarray(), [[0, 1, 0], [1, 0, 0], [0, 0, 0]])


def test_score_sums_weights_times_similarities_and_leaves_the_sale_itself_out() -> None:
    shop = make_shop(SALES, EVENTS)
    scores = fit(shop, shrinkage=10, half_life_days=2, purchase_weight=3).score(shop.histories())
    a_c, b_a, b_c = 1 / (sqrt(6) + 10), 2 / (sqrt(12) + 10), 2 / (sqrt(8) + 10)
    u_a, u_b, u_c = 2**-2.5, 2**-2.0 + 2**-0.5, 2**-1.0
    expected = [
        [u_b * b_a + u_c * a_c, u_a * a_c + u_b * b_c, 0],  # u
        [2**-3.0 * b_a, 3 * 2**-1.0 * a_c + 2**-3.0 * b_c, 0],  # v bought a
        [2**-3.5 * b_a + 2**-0.5 * a_c, 2**-3.5 * b_c, 0],  # w
        [2**-4.0 * b_a, 2**-4.0 * b_c, 0],  # x
        [0, 2**-0.5 * a_c, 0],  # y
    ]
    assert_allclose(scores, expected, rtol=1e-5)


def test_neighbours_are_kept_for_each_target_and_not_for_each_source() -> None:
    # b is the best source of both targets: pruned per source one target would be left, pruned per target both are.
    kept = fit(make_shop(SALES, EVENTS), shrinkage=10, neighbours=1).similarities.toarray()
    assert_array_equal(kept > 0, [[False, False, False], [True, True, False], [False] * 3, [False] * 3])


def test_equally_similar_sources_are_kept_in_order_of_sale() -> None:
    shop = make_shop([sale(name) for name in "dbtca"], [visit("u", name, -1) for name in "tdcba"])
    kept = fit(shop, neighbours=2).similarities.toarray()
    sources_of_t = np.flatnonzero(kept[:, shop.catalogue.position["t"]])
    assert [shop.catalogue.sale_ids[source] for source in sources_of_t] == ["a", "b"]


@given(st.integers(0, 10_000), st.integers(1, 6), st.sampled_from([0.0, 1.0, 10.0]))
def test_scores_agree_with_loops_over_pairs_of_sales(seed: int, neighbours: int, shrinkage: float) -> None:
    shop = random_shop(seed, n_users=9, n_sales=7, n_events=60)
    histories, horizon = shop.histories(), shop.horizon()
    weights = histories.matrix(histories.weights(14, 3)).toarray().astype(np.float64)
    saw = histories.seen().toarray() > 0
    expected = np.zeros((len(histories), len(horizon)))
    for column, target in enumerate(horizon.sales):
        similarities = {}
        for source in range(7):
            both = (saw[:, source] & saw[:, target]).sum()
            if both and source != target:
                norm = np.sqrt(np.float32(saw[:, source].sum() * saw[:, target].sum())) + np.float32(shrinkage)
                similarities[source] = np.float32(both) / norm  # in float32, so that ties are the same
        best = sorted(similarities, key=lambda source: (-similarities[source], source))[:neighbours]
        for source in best:
            expected[:, column] += weights[:, source] * similarities[source]
    model = fit(shop, neighbours=neighbours, shrinkage=shrinkage)
    assert_allclose(model.score(histories), expected, rtol=1e-4, atol=1e-7)


def test_largest_values_of_each_column_are_kept_ties_by_row() -> None:
    values = np.array(
        [
            [5, 0, 1, 2],
            [5, 0, 0, 9],
            [7, 0, 0, 2],
            [5, 0, 0, 2],
            [1, 0, -1, 0],
        ],
        np.float32,
    )
    pruned = prune_columns(values, 2)
    assert pruned.shape == (5, 4)
    assert_array_equal(
        pruned.toarray(),
        [[5, 0, 1, 2], [0, 0, 0, 9], [7, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]],
    )


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (1, 1)])
def test_matrix_without_values_is_pruned_to_an_empty_one(shape: tuple[int, int]) -> None:
    assert prune_columns(np.zeros(shape, np.float32), 2).toarray().tolist() == np.zeros(shape).tolist()


@given(st.integers(0, 10_000), st.integers(1, 12))
def test_pruning_agrees_with_sorting_each_column(seed: int, k: int) -> None:
    values = np.random.default_rng(seed).integers(0, 4, (10, 6)).astype(np.float32)
    expected = np.zeros_like(values)
    for column in range(6):
        best = np.lexsort((np.arange(10), -values[:, column]))[:k]
        expected[best, column] = values[best, column]
    assert_array_equal(prune_columns(values, k).toarray(), expected)
