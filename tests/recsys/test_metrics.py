from math import log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import label_ranking_average_precision_score, ndcg_score

from recsys.metrics import (
    RANKING_METRICS,
    bootstrap,
    bootstrap_ratio,
    coverage,
    gini,
    novelty,
    paired_bootstrap,
    ranking_metrics,
    ranks,
)


def test_best_candidate_has_rank_1_and_the_others_0() -> None:
    scores = np.array([[0.1, 0.9, 0.5, 0.7], [-3, -1, -2, 5]], np.float32)
    candidates = np.array([[True, False, True, True], [True, True, True, False]])
    assert_array_equal(ranks(scores, candidates), [[3, 0, 2, 1], [3, 1, 2, 0]])


def test_equal_scores_rank_in_order_of_columns() -> None:
    scores = np.array([[1, 2, 1, 2, 0, 1]], np.float32)
    everything = np.ones(scores.shape, bool)
    assert_array_equal(ranks(scores, everything), [[3, 1, 4, 2, 6, 5]])
    assert_array_equal(ranks(np.zeros((1, 40), np.float32), np.ones((1, 40), bool)), [np.arange(1, 41)])
    minus_zero = np.array([[0.0, -0.0, 0.0]], np.float32)
    assert_array_equal(ranks(minus_zero, np.ones((1, 3), bool)), [[1, 2, 3]])


def test_row_without_a_candidate_has_no_ranks() -> None:
    assert_array_equal(ranks(np.ones((1, 3), np.float32), np.zeros((1, 3), bool)), [[0, 0, 0]])


@given(st.integers(0, 10_000))
def test_ranks_agree_with_counting_the_sales_that_score_higher(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(-2, 3, (4, 9)).astype(np.float32)
    candidates = rng.random((4, 9)) < 0.7
    expected = np.zeros(scores.shape, int)
    for user, column in zip(*np.nonzero(candidates), strict=True):
        better = (scores[user] > scores[user, column]) & candidates[user]
        earlier = (scores[user] == scores[user, column])[:column] & candidates[user, :column]
        expected[user, column] = 1 + better.sum() + earlier.sum()
    assert_array_equal(ranks(scores, candidates), expected)


def test_metrics_of_relevant_sales_within_and_beyond_the_page() -> None:
    assert ranking_metrics(np.array([12, 2, 5])) == pytest.approx(
        {
            "recall@10": 2 / 3,
            "ndcg@10": (1 / log2(2 + 1) + 1 / log2(5 + 1)) / (1 / log2(2) + 1 / log2(3) + 1 / log2(4)),
            "hit_rate@10": 1,
            "mrr": 1 / 2,
        }
    )


def test_first_relevant_sale_counts_for_mrr_however_deep_it_is() -> None:
    assert ranking_metrics(np.array([40, 11])) == {"recall@10": 0, "ndcg@10": 0, "hit_rate@10": 0, "mrr": 1 / 11}


def test_last_position_of_the_page_is_shown() -> None:
    assert ranking_metrics(np.array([10])) == pytest.approx(
        {"recall@10": 1, "ndcg@10": 1 / log2(10 + 1), "hit_rate@10": 1, "mrr": 1 / 10}
    )


def test_ndcg_of_a_full_page_is_1_though_more_sales_are_relevant() -> None:
    perfect = ranking_metrics(np.arange(1, 13))
    assert perfect == pytest.approx({"recall@10": 10 / 12, "ndcg@10": 1, "hit_rate@10": 1, "mrr": 1})


def test_k_is_the_length_of_the_page() -> None:
    assert ranking_metrics(np.array([2, 3]), k=2)["recall@10"] == 1 / 2
    assert ranking_metrics(np.array([2, 3]), k=2)["ndcg@10"] == pytest.approx((1 / log2(3)) / (1 + 1 / log2(3)))


def test_names_are_those_of_the_table() -> None:
    assert tuple(ranking_metrics(np.array([1]))) == RANKING_METRICS


@given(st.integers(0, 10_000), st.integers(2, 30))
def test_metrics_agree_with_scikit_learn(seed: int, n_sales: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.permutation(n_sales).astype(np.float32)[None, :]
    relevant = rng.random((1, n_sales)) < 0.3
    relevant[0, rng.integers(n_sales)] = True
    found = ranking_metrics(ranks(scores, np.ones(scores.shape, bool))[relevant])
    assert found["ndcg@10"] == pytest.approx(ndcg_score(relevant, scores, k=10))
    if relevant.sum() == 1:  # of one relevant sale the average precision is the reciprocal rank
        assert found["mrr"] == pytest.approx(label_ranking_average_precision_score(relevant, scores))


def test_coverage_is_the_share_of_sales_shown_at_all() -> None:
    assert coverage(np.array([0, 7, 1, 0, 1])) == 3 / 5


def test_gini_of_hand_computed_shares() -> None:
    assert gini(np.array([4, 4, 4])) == 0
    assert gini(np.array([0, 9, 0, 0])) == 1
    # Of 1, 3 and 8 the differences of the three pairs are 2, 7 and 5; of 0, 0 and 12 they are 0, 12 and 12.
    assert gini(np.array([3, 8, 1])) == pytest.approx((2 + 7 + 5) / (0 + 12 + 12))


@given(st.lists(st.integers(0, 50), min_size=2, max_size=30).filter(any))
def test_gini_is_the_mean_difference_of_two_sales_over_twice_the_mean(times_shown: list[int]) -> None:
    n, shown = len(times_shown), np.array(times_shown)
    differences = np.abs(shown[:, None] - shown[None, :]).sum() / (n * (n - 1))
    assert gini(shown) == pytest.approx(differences / (2 * shown.mean()))


def test_novelty_is_the_mean_self_information_of_what_was_shown_in_bits() -> None:
    # Known to 4, 1 and 16 of 16 users: 2, 4 and 0 bits; shown 3, 1 and 2 times. The last sale is never shown.
    found = novelty(np.array([3, 1, 2, 0]), np.array([4, 1, 16, 2]), 16)
    assert found == pytest.approx((3 * 2 + 1 * 4 + 2 * 0) / 6)


def test_sale_known_to_no_user_is_as_novel_as_one_known_to_a_single_user() -> None:
    assert novelty(np.array([1, 0]), np.array([0, 5]), 8) == 3


def test_estimate_is_the_mean_over_cases_and_not_over_users() -> None:
    estimates = bootstrap({"hit": np.array([1.0, 0.0, 0.0, 0.0])}, np.array(["u", "u", "u", "v"]))
    assert estimates["hit"].value == 1 / 4
    # Drawn are u and v 0 to 2 times each: means 1/3, 1/4 and 0.
    assert (estimates["hit"].low, estimates["hit"].high) == (0, pytest.approx(1 / 3))


def test_single_user_has_an_interval_without_width() -> None:
    assert bootstrap({"m": np.array([0.2, 0.6])}, np.array([7, 7]))["m"] == pytest.approx((0.4, 0.4, 0.4))


def test_interval_is_that_of_the_normal_distribution_for_many_users() -> None:
    values = np.random.default_rng(1).normal(3, 2, 900)
    estimate = bootstrap({"m": values}, np.arange(900))["m"]
    half_width = 1.96 * values.std() / np.sqrt(900)
    assert_allclose(estimate, [values.mean(), values.mean() - half_width, values.mean() + half_width], atol=0.02)


def test_cases_of_a_user_are_drawn_together() -> None:
    per_user = np.random.default_rng(1).normal(3, 2, 100)
    one_case = bootstrap({"m": per_user}, np.arange(100))["m"]
    nine_equal_cases = bootstrap({"m": np.repeat(per_user, 9)}, np.repeat(np.arange(100), 9))["m"]
    assert nine_equal_cases == pytest.approx(one_case)


def test_same_seed_draws_the_same_users_for_every_policy() -> None:
    values, users = np.random.default_rng(1).random(40), np.arange(40) % 13
    alone = bootstrap({"a": values}, users, seed=3)["a"]
    assert bootstrap({"b": values + 1, "a": values}, users, seed=3)["a"] == pytest.approx(alone)
    shifted = bootstrap({"b": values + 1}, users, seed=3)["b"]
    assert_allclose(shifted, np.array(alone) + 1)
    assert bootstrap({"a": values}, users, seed=4)["a"].low != alone.low


def test_difference_is_the_mean_of_the_differences_of_the_same_cases() -> None:
    values = {"hit": np.array([1.0, 0.0, 1.0, 1.0]), "mrr": np.array([0.5, 0.5, 0.5, 0.5])}
    others = {"mrr": np.array([0.5, 0.25, 0.5, 0.25]), "hit": np.array([1.0, 1.0, 0.0, 0.0])}
    found = paired_bootstrap(values, others, np.array(["u", "u", "u", "v"]))
    # hit: 0, -1, 1 for u and 1 for v. Drawn are u and v 0 to 2 times each: means 0/3, 1/4 and 1.
    assert found["hit"] == pytest.approx(((0 - 1 + 1 + 1) / 4, 0, 1))
    assert found["mrr"].value == pytest.approx((0.25 + 0.25) / 4)


def test_paired_interval_is_that_of_the_differences_and_narrower_than_of_two_samples() -> None:
    rng = np.random.default_rng(1)
    others, users = rng.normal(3, 2, 400), np.arange(400) % 150
    values = others + 0.1 + rng.normal(0, 0.1, 400)
    paired = paired_bootstrap({"m": values}, {"m": others}, users, seed=3, rounds=500)["m"]
    assert paired == bootstrap({"m": values - others}, users, seed=3, rounds=500)["m"]
    assert 0 < paired.low < paired.value < paired.high
    apart = [bootstrap({"m": each}, users)["m"] for each in (values, others)]
    assert apart[0].low < apart[1].high  # unpaired, no difference is shown


def test_policy_differs_from_itself_by_nothing() -> None:
    values = {"m": np.random.default_rng(1).random(9)}
    assert paired_bootstrap(values, values, np.arange(9))["m"] == (0, 0, 0)


def test_ratio_is_that_of_the_sums_and_not_the_mean_of_ratios() -> None:
    found = bootstrap_ratio(np.array([1.0, 0.0, 2.0]), np.array([2.0, 0.0, 4.0]), np.array(["u", "u", "v"]))
    assert found == (1 / 2, 1 / 2, 1 / 2)
    # u: 1 of 4, v: 3 of 4; drawn are u and v 0 to 2 times each.
    found = bootstrap_ratio(np.array([0.5, 3.0, 0.5]), np.array([1.0, 4.0, 3.0]), np.array(["u", "v", "u"]))
    assert found == (4 / 8, 1 / 4, 3 / 4)


def test_bootstrap_draws_with_a_zero_denominator_are_left_out() -> None:
    found = bootstrap_ratio(np.array([1.0, 2.0]), np.array([2.0, 0.0]), np.array(["u", "v"]))
    assert found == (3 / 2, 1 / 2, 3 / 2)  # u alone or both; v alone has the denominator 0


def test_ratio_to_ones_is_the_mean_with_its_interval() -> None:
    values, users = np.random.default_rng(1).random(40), np.arange(40) % 13
    assert bootstrap_ratio(values, np.ones(40), users, 3) == pytest.approx(bootstrap({"m": values}, users, 3)["m"])
