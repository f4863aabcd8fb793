"""How many sales a user buys on a day on which they buy: the sum of their probabilities over the open sales."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from recsys.compiled import compiled, exponential, total

MOST = 0.99
"""Share of the open sales that a user buys at most: with one sale open, whoever buys on that day buys that one."""
_STEPS = 12
_LONGEST_STEP = 2.0
_PRECISION = 1e-3


@dataclass(frozen=True)
class Basket:
    """The expected number of sales that a user buys on a day: exp(level) * (sum of the probabilities) ** exponent.

    A model of single sales predicts twice the purchases when twice the sales are open; whoever buys one sale then buys
    hardly more. In a shop of that kind the exponent is near 0, and a user's probabilities sum to the mean basket. Where
    baskets are large, the sum is what the model knows of the user's appetite, and the exponent is 1.
    """

    level: float
    exponent: float
    """In [0, 1]."""

    def expected(self, total: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the expected number of sales bought, for sums of probabilities."""
        return np.exp(self.level + self.exponent * np.log(np.maximum(total, 1e-12)))

    def shifts(self, log_odds: NDArray[np.floating], is_open: NDArray[Any]) -> NDArray[np.float32]:
        """Return what to add to each user's log-odds, so that the probabilities sum to the expected number.

        Args:
            log_odds: Shape (n_users, n_sales), calibrated sale by sale.
            is_open: Whether each sale is open, or for which share of the time, broadcasting to that shape.

        Returns:
            Shape (n_users,); 0 for a user without an open sale. The sums are right to 0.1 %.
        """
        shifts = np.empty(len(log_odds), np.float32)
        share_open = np.atleast_2d(np.asarray(is_open, np.float32))
        _find_shifts(np.ascontiguousarray(log_odds), share_open, self.level, self.exponent, shifts)
        return shifts


@compiled
def _find_shifts(
    log_odds: NDArray[np.floating],
    is_open: NDArray[np.float32],
    level: float,
    exponent: float,
    shifts: NDArray[np.float32],
) -> None:
    """Write the shift of each user; `is_open` has one row for all users, or one for each."""
    n_users, n_sales = log_odds.shape
    expected, slopes = np.empty(n_sales, np.float32), np.empty(n_sales, np.float32)
    for user in range(n_users):
        row, share = log_odds[user], is_open[user if len(is_open) > 1 else 0]
        _write_expected(row, share, np.float32(0), expected, slopes)
        bought = total(expected)
        goal = min(np.exp(level + exponent * np.log(max(bought, 1e-12))), MOST * total(share))
        shift = 0.0
        for _ in range(_STEPS if goal > 0 else 0):  # Newton's method in log(sum), which is nearly linear in the shift
            step = np.log(goal / bought) * bought / total(slopes)
            shift += min(max(step, -_LONGEST_STEP), _LONGEST_STEP)
            if abs(step) < _PRECISION:  # the next step would be its square
                break
            _write_expected(row, share, np.float32(shift), expected, slopes)
            bought = total(expected)
        shifts[user] = shift


@compiled
def _write_expected(
    log_odds: NDArray[np.floating],
    is_open: NDArray[np.float32],
    shift: np.float32,
    expected: NDArray[np.float32],
    slopes: NDArray[np.float32],
) -> None:
    """Write the expected purchases of each sale at a shift, and their derivative by the shift."""
    for sale in range(len(expected)):
        probability = np.float32(1) / (np.float32(1) + exponential(-(np.float32(log_odds[sale]) + shift)))
        expected[sale] = is_open[sale] * probability
        slopes[sale] = expected[sale] * (np.float32(1) - probability)


def fit_basket(
    probabilities: NDArray[np.floating],
    weights: NDArray[np.floating],
    bought: NDArray[np.bool_],
    page: NDArray[np.integer],
) -> Basket:
    """Return the basket of maximum likelihood, the counts of purchases taken as Poisson.

    Args:
        probabilities: Of each example, shape (n_examples,).
        weights: The number of sales that each stands for.
        bought: Whether each was bought.
        page: Number of the user and day of each, from 0.
    """
    from scipy.optimize import minimize  # here: the service only evaluates, and starts without the optimiser

    made = np.bincount(page, bought)
    total = np.log(np.maximum(np.bincount(page, probabilities * weights), 1e-12))

    def loss(basket: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        expected = np.exp(basket[0] + basket[1] * total)
        error = expected - made
        return float(expected.sum() - made @ (basket[0] + basket[1] * total)), np.array([error.sum(), error @ total])

    start = np.array([0.0, 1.0])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(None, None), (0.0, 1.0)]).x
    return Basket(float(found[0]), float(found[1]))


def shifts_of_examples(
    basket: Basket, log_odds: NDArray[np.float32], weights: NDArray[np.floating], page: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Return what is added to the log-odds of each example, as far as the examples of its page tell.

    Examples that were drawn stand for the sales of the page that were not. An example itself is one sale only: as it
    sees the page, the others that were drawn stand for all the rest. If it stood for several there too, a likely sale
    would lower its own probability by being drawn, which one that was bought, and is never drawn, does not; a curve
    fitted with such shifts is up to half too steep.

    Args:
        basket: What the probabilities sum to.
        log_odds: Of each example, calibrated sale by sale, shape (n_examples,).
        weights: The number of sales that each stands for, above 1 for those drawn.
        page: Number of the page of each, from 0 without gaps.
    """
    order = np.argsort(page, kind="stable")
    pages = np.split(order, np.flatnonzero(np.diff(page[order])) + 1)
    shifts = np.concatenate([basket.shifts(log_odds[None, rows], weights[None, rows]) for rows in pages])[page]

    drawn = weights > 1
    n_drawn = np.bincount(page, drawn)[page]
    rest = np.where(drawn, (n_drawn * weights - 1) / np.maximum(n_drawn - 1, 1) / weights, 1.0)

    def seen(values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sum of a value over the page of each example as the example sees it."""
        whole, of_drawn = np.bincount(page, weights * values)[page], np.bincount(page, weights * values * drawn)[page]
        return np.where(drawn, whole - of_drawn + values + rest * (of_drawn - weights * values), whole)

    said = log_odds.astype(np.float64)
    probabilities = expit(said + shifts)
    goals = np.minimum(basket.expected(seen(expit(said))), MOST * seen(np.ones(len(page))))
    sums, slopes = seen(probabilities), np.maximum(seen(probabilities * (1 - probabilities)), 1e-12)
    steps = np.log(goals / sums) * sums / slopes  # of Newton's method, as in `_find_shifts`
    return np.where(drawn, shifts + np.clip(steps, -_LONGEST_STEP, _LONGEST_STEP), shifts)
