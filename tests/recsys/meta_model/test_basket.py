import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import brentq
from scipy.special import expit, logit

from recsys.meta_model import Basket
from recsys.meta_model.basket import MOST, fit_basket, shifts_of_examples

ONE_AND_A_HALF = Basket(np.log(1.5), 0.0)


def sums(basket: Basket, log_odds: np.ndarray, is_open: np.ndarray) -> np.ndarray:
    return (expit(log_odds + basket.shifts(log_odds, is_open)[:, None]) * is_open).sum(axis=1)


def test_probabilities_of_each_user_sum_to_the_basket_however_many_sales_are_open():
    log_odds = np.random.default_rng(0).normal(-4, 2, (50, 300)).astype(np.float32)
    for n in (3, 30, 300):
        assert_allclose(sums(ONE_AND_A_HALF, log_odds[:, :n], np.ones(n)), 1.5, rtol=2e-3)


def test_two_equal_sales_of_a_basket_of_one_have_probability_a_half():
    log_odds = np.full((1, 2), -3.0, np.float32)
    shift = Basket(0.0, 0.0).shifts(log_odds, np.ones(2))
    assert_allclose(expit(log_odds + shift), 0.5, atol=1e-3)


def test_sales_count_for_the_share_of_the_day_during_which_they_are_open():
    log_odds = np.zeros((1, 3), np.float32)
    shift = Basket(0.0, 0.0).shifts(log_odds, np.array([1.0, 0.25, 0.0]))
    assert_allclose(expit(shift), 1 / 1.25, atol=1e-3)


def test_the_only_open_sale_is_bought_almost_surely_and_no_open_sale_shifts_nothing():
    log_odds = np.array([[-6.0], [5.0]], np.float32)
    assert_allclose(sums(ONE_AND_A_HALF, log_odds, np.ones(1)), MOST, rtol=2e-3)
    assert_allclose(ONE_AND_A_HALF.shifts(log_odds, np.zeros(1)), 0)


def test_exponent_of_one_keeps_each_users_sum():
    log_odds = np.random.default_rng(1).normal(-2, 1, (20, 40)).astype(np.float32)
    assert_allclose(Basket(0.0, 1.0).shifts(log_odds, np.ones(40)), 0, atol=1e-4)


@pytest.mark.parametrize("log_odds", [-80.0, 80.0])
def test_extreme_log_odds_have_finite_shifts(log_odds):
    assert np.isfinite(ONE_AND_A_HALF.shifts(np.full((1, 5), log_odds, np.float32), np.ones(5))).all()


def shop(exponent: float) -> tuple[np.ndarray, ...]:
    """Return examples of 4,000 pages of 10 to 200 open sales, of which 10 stand for all.

    The model says 1 % of each sale; users buy 2 * (0.01 * open sales / 1.05) ** exponent sales.
    """
    random = np.random.default_rng(2)
    open_sales = random.integers(10, 200, 4_000)
    expected = 2 * (0.01 * open_sales / 1.05) ** exponent
    bought = random.random((4_000, 10)) < (expected / 10)[:, None]
    weights = np.repeat(open_sales / 10, 10)
    return np.full(40_000, 0.01), weights, bought.ravel(), np.repeat(np.arange(4_000), 10)


@pytest.mark.parametrize("exponent", [0.0, 0.5])
def test_fit_finds_how_the_number_bought_grows_with_the_number_open(exponent):
    basket = fit_basket(*shop(exponent))
    assert basket.exponent == pytest.approx(exponent, abs=0.05)
    assert basket.expected(np.array([1.05])) == pytest.approx(2, rel=0.05)


def test_predicted_purchases_are_those_made_in_sum():
    probabilities, weights, bought, page = shop(0.5)
    expected = fit_basket(probabilities, weights, bought, page).expected(np.bincount(page, probabilities * weights))
    assert expected.sum() == pytest.approx(bought.sum(), rel=1e-3)


def test_model_learnt_with_half_the_sales_open_is_right_when_all_are():
    """A user buys one of the open sales at random: 1 of 20 in training, 1 of 40 later."""
    said = logit(1 / 20)
    page = np.repeat(np.arange(500), 20)
    basket = fit_basket(np.full(10_000, 1 / 20), np.ones(10_000), np.arange(10_000) % 20 == 0, page)
    assert_allclose(sums(basket, np.full((1, 40), said, np.float32), np.ones(40)), 2.0, rtol=0.05)
    varied = np.concatenate([page, 500 + np.repeat(np.arange(500), 40)])
    bought = np.concatenate([np.arange(10_000) % 20 == 0, np.arange(20_000) % 40 == 0])
    basket = fit_basket(np.full(30_000, 1 / 20), np.ones(30_000), bought, varied)
    assert_allclose(sums(basket, np.full((1, 40), said, np.float32), np.ones(40)), 1.0, rtol=0.05)


def test_examples_that_are_the_whole_page_have_its_shift():
    log_odds = np.random.default_rng(3).normal(-3, 2, (4, 30)).astype(np.float32)
    page = np.repeat(np.arange(4), 30)
    found = shifts_of_examples(ONE_AND_A_HALF, log_odds.ravel(), np.ones(120), page)
    assert_allclose(found, np.repeat(ONE_AND_A_HALF.shifts(log_odds, np.ones(30)), 30))


def test_drawn_example_is_one_sale_of_its_page_and_the_others_that_were_drawn_are_the_rest():
    """Of ten sales that were not bought, two were drawn: as one sees the page, the other is the other nine."""
    bought, likely, unlikely = -1.0, 0.5, -2.0
    log_odds, sales = np.array([bought, likely, unlikely], np.float32), np.array([1.0, 5.0, 5.0])
    seen = {0: (1, 5, 5), 1: (1, 1, 9), 2: (1, 9, 1)}
    exact = [brentq(lambda shift, n=n: expit(log_odds + shift) @ n - 1.5, -9, 9) for n in seen.values()]
    found = shifts_of_examples(ONE_AND_A_HALF, log_odds, sales, np.zeros(3, int))
    assert_allclose(found, exact, atol=0.1)
    assert exact[1] - exact[0] > 0.5


def test_only_example_drawn_from_a_page_stands_for_itself_as_it_sees_the_page():
    log_odds, page = np.array([-1.0, -1.0], np.float32), np.zeros(2, int)
    found = shifts_of_examples(Basket(0.0, 0.0), log_odds, np.array([1.0, 2.0]), page)
    assert_allclose(expit(log_odds + found), [1 / 3, 1 / 2], atol=0.03)  # of three equal sales, and of two
