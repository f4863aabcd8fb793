"""Calibration curve: a strictly rising, piecewise linear function of a model's log-odds, fitted in training."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from recsys.compiled import compiled

KNOTS = 3
"""Number of knots, at the quartiles of the log-odds of purchases."""
STIFFNESS = 10.0
"""Penalty on the squared distance of a slope from 1, in nats: a few dozen purchases bend the curve little."""
LEAST_SLOPE = 0.1
"""Minimum slope of each piece: above 0, so that calibration changes no order."""
WIDEST = 60.0
"""Log-odds beyond which a probability is 0 or 1 in double precision: the ends of the curve."""


@dataclass(frozen=True)
class Calibration:
    """A piecewise linear curve from a model's log-odds to calibrated log-odds."""

    said: list[float]
    """The model's log-odds at the knots and ends, ascending."""
    true: list[float]
    """The calibrated log-odds at the same points, ascending."""

    def __call__(self, log_odds: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return calibrated log-odds, shape as given, in the same order."""
        true = np.empty(log_odds.shape, np.float32)
        _write_calibrated(np.ascontiguousarray(log_odds).reshape(-1), *self._points, true.reshape(-1))
        return true

    @property
    def slopes(self) -> NDArray[np.float64]:
        """The slope of each piece, ascending by the model's log-odds."""
        said, true = self._points
        return np.diff(true) / np.diff(said)

    def raised(self, by: float) -> "Calibration":
        """Return the curve with a constant added to its values."""
        return Calibration(self.said, [value + by for value in self.true])

    @cached_property
    def _points(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return np.array(self.said), np.array(self.true)


@compiled
def _write_calibrated(
    log_odds: NDArray[np.floating],
    said: NDArray[np.float64],
    true: NDArray[np.float64],
    calibrated: NDArray[np.float32],
) -> None:
    """Write the value of the curve at each of the log-odds: the sum of what each of its pieces rises up to there."""
    slopes = np.diff(true) / np.diff(said)
    part = np.empty(256)  # in the processor's cache
    for start in range(0, len(log_odds), len(part)):
        n = min(len(part), len(log_odds) - start)
        part[:] = true[0]
        for piece in range(len(slopes)):
            left, right = said[piece], said[piece + 1]
            for cell in range(n):
                part[cell] += slopes[piece] * (min(max(np.float64(log_odds[start + cell]), left), right) - left)
        for cell in range(n):
            calibrated[start + cell] = part[cell]


def fit_calibration(
    log_odds: NDArray[np.floating],
    bought: NDArray[np.bool_],
    weights: NDArray[np.float64],
    shifts: NDArray[np.floating] | float = 0.0,
    start: Calibration | None = None,
) -> Calibration:
    """Return the curve of maximum weighted likelihood, with slopes shrunk towards 1.

    The number of purchases that it predicts is the number made.

    Args:
        log_odds: Of each example, shape (n_examples,).
        bought: Whether each was bought, at least one.
        weights: The number of sales that each stands for.
        shifts: What is added to the curve's value for each example.
        start: A curve fitted to the same examples with other shifts, near the one to find.

    Source:
        Platt 1999 fits one slope; several are a logistic regression on a linear spline, with bounds on its slopes.
    """
    from scipy.optimize import minimize  # here: the service only evaluates curves, and starts without the optimiser

    knots = np.unique(np.quantile(log_odds[bought], np.arange(1, KNOTS + 1) / (KNOTS + 1)))
    pieces = _pieces(np.asarray(log_odds, np.float64), knots)

    def loss(curve: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        found, bent = curve[0] + pieces @ curve[1:] + shifts, curve[1:] - 1
        error = weights * (expit(found) - bought)
        value = weights @ (np.logaddexp(0, found) - bought * found) + STIFFNESS * (bent @ bent)
        return value, np.concatenate(([error.sum()], error @ pieces + 2 * STIFFNESS * bent))

    said = np.concatenate(([-WIDEST], knots, [WIDEST]))
    slopes = np.ones(len(knots) + 1) if start is None else start.slopes
    level = -knots.sum() if start is None else start.true[0] - _pieces(said[:1], knots)[0] @ slopes
    bounds = [(None, None), *[(LEAST_SLOPE, None)] * len(slopes)]
    options = {"ftol": 1e-12, "gtol": 1e-8}
    curve = minimize(loss, np.append(level, slopes), jac=True, method="L-BFGS-B", bounds=bounds, options=options).x
    return Calibration(said.tolist(), (curve[0] + _pieces(said, knots) @ curve[1:]).tolist())


def _pieces(log_odds: NDArray[np.float64], knots: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the basis of the linear spline: each value clipped to each piece, shape (n, n_knots + 1)."""
    starts, ends = np.concatenate(([-np.inf], knots)), np.concatenate((knots, [np.inf]))
    return np.clip(log_odds[:, None], starts, ends)
