"""Whether the meta-model's probabilities come true, tenth by tenth."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from recsys.meta_model import MetaModel
from recsys.meta_model.training import Examples, predict

TENTHS = 10


def calibration(model: MetaModel, examples: Examples) -> list[dict[str, float]]:
    """Compare predicted probabilities with purchases made, ascending.

    Each example stands for 1 / sampling_rate sales; a tenth holds a tenth of all sales that these stand for.

    Returns:
        For each tenth that has an example `predicted` and `made`, purchases per sale; `low` and `high`, the exact 95 %
        interval of `made` for a Poisson number of purchases, Garwood 1936; `purchases` and `sales`.
    """
    predicted, weights = predict(model, examples), 1 / examples.sampling_rate
    tenths = _tenths(predicted, weights)
    chosen = (tenths == tenth for tenth in range(TENTHS))
    return [_tenth(predicted[each], weights[each], examples.bought[each]) for each in chosen if each.any()]


def _tenths(predicted: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return in which tenth of all weight the middle of each example lies."""
    order = np.argsort(predicted, kind="stable")
    until = np.cumsum(weights[order])
    tenths = np.empty(len(predicted), np.int64)
    tenths[order] = TENTHS * (until - weights[order] / 2) / until[-1]
    return tenths


def _tenth(predicted: NDArray[np.float64], weights: NDArray[np.float64], bought: NDArray[np.bool_]) -> dict[str, float]:
    purchases, sales = int(bought.sum()), float(weights.sum())
    low, high = poisson_interval(purchases)
    return {
        "predicted": float(predicted @ weights / sales),
        "made": purchases / sales,
        "low": low / sales,
        "high": high / sales,
        "purchases": purchases,
        "sales": sales,
    }


def poisson_interval(count: int) -> tuple[float, float]:
    """Return the exact 95 % interval of the mean of a Poisson number; Garwood 1936."""
    low = float(chi2.ppf(0.025, 2 * count)) / 2 if count else 0.0
    return low, float(chi2.ppf(0.975, 2 * count + 2)) / 2
