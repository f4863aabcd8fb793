"""Log-odds that come true: a strictly rising curve over what a model says, learnt in training."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

KNOTS = 3
"""The curve bends where a quarter, a half and three quarters of the purchases lie."""
STIFFNESS = 10.0
"""The penalty on a slope's squared distance from 1, in nats: a few dozen purchases bend the curve little."""
LEAST_SLOPE = 0.1
"""Every piece rises: calibration changes no order."""
WIDEST = 60.0
"""Log-odds beyond which a probability is 0 or 1 in double precision: there the curve ends."""


@dataclass(frozen=True)
class Calibration:
    """A curve of straight pieces from the log-odds that a model says to those that come true."""

    said: list[float]
    """Ascending."""
    true: list[float]
    """At each of them, ascending."""

    def __call__(self, log_odds: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return calibrated log-odds, shape as given, in the same order."""
        return np.interp(log_odds, self.said, self.true).astype(np.float32)


def fit_calibration(
    log_odds: NDArray[np.floating], bought: NDArray[np.bool_], weights: NDArray[np.float64]
) -> Calibration:
    """Fit the curve of the highest weighted likelihood, pieces of slope 1 preferred; as many purchases as were made.

    Args:
        log_odds: Of each example, shape (n_examples,).
        bought: Whether it was bought, at least one.
        weights: How many sales it stands for.

    Source:
        Platt 1999 fits one slope; several are logistic regression on a linear spline, with bounds on its slopes.
    """
    from scipy.optimize import minimize  # here: a service only reads curves

    knots = np.unique(np.quantile(log_odds[bought], np.arange(1, KNOTS + 1) / (KNOTS + 1)))
    pieces = _pieces(np.asarray(log_odds, np.float64), knots)

    def loss(curve: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        found, bent = curve[0] + pieces @ curve[1:], curve[1:] - 1
        error = weights * (expit(found) - bought)
        value = weights @ (np.logaddexp(0, found) - bought * found) + STIFFNESS * (bent @ bent)
        return value, np.concatenate(([error.sum()], error @ pieces + 2 * STIFFNESS * bent))

    straight = np.concatenate(([-knots.sum()], np.ones(len(knots) + 1)))
    bounds = [(None, None), *[(LEAST_SLOPE, None)] * (len(knots) + 1)]
    curve = minimize(
        loss, straight, jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-14, "gtol": 1e-8}
    ).x
    said = np.concatenate(([-WIDEST], knots, [WIDEST]))
    return Calibration(said.tolist(), (curve[0] + _pieces(said, knots) @ curve[1:]).tolist())


def _pieces(log_odds: NDArray[np.float64], knots: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far each has come along each piece, shape (n, n_knots + 1)."""
    starts, ends = np.concatenate(([-np.inf], knots)), np.concatenate((knots, [np.inf]))
    return np.clip(log_odds[:, None], starts, ends)
