"""The calibration curve of the meta-model: predicted probability against observed purchases, by decile."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import chi2

from recsys.meta_model import MetaModel
from recsys.meta_model.training import Examples, predict
from recsys.pipeline.evaluation import SHOWN

DECILES = 10


def calibration(
    model: MetaModel, examples: Examples, shifts: NDArray[np.floating] | float = 0.0
) -> list[dict[str, float]]:
    """Compare predicted probabilities with observed purchases, by decile, ascending.

    An example weighs 1 / sampling_rate sales; a decile holds a tenth of the total weight. `shifts` are added to the
    examples' log-odds, see `predict`.

    Returns:
        For each decile that has an example: `predicted` and `made`, predicted and observed purchases per sale; `low`
        and `high`, the exact 95 % interval of `made` for a Poisson count, Garwood 1936; `purchases` and `sales`.
    """
    predicted, weights = predict(model, examples, shifts), 1 / examples.sampling_rate
    deciles = _deciles(predicted, weights)
    chosen = (deciles == decile for decile in range(DECILES))
    return [_calibration_of(predicted[each], weights[each], examples.bought[each]) for each in chosen if each.any()]


def predicted_purchases(pages: pd.DataFrame) -> dict[str, float]:
    """Compare the purchases that a meta-model predicts per page with those made.

    Args:
        pages: Rows of table `page_metrics` of its policy.

    Returns:
        `all` and `all_made`, predicted and made per page among all sales that were open; `shown` and `shown_made`, the
        same among the ten that the page shows.
    """
    shown = [sum(rank <= SHOWN for rank in ranks) for ranks in pages["ranks"]]
    return {
        "all": float(pages["predicted"].mean()),
        "all_made": float(pages["ranks"].map(len).mean()),
        "shown": float(pages["predicted@10"].mean()),
        "shown_made": float(np.mean(shown)),
    }


def _deciles(predicted: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the decile of the total weight in which the middle of each example lies, 0 to 9."""
    order = np.argsort(predicted, kind="stable")
    until = np.cumsum(weights[order])
    deciles = np.empty(len(predicted), np.int64)
    deciles[order] = DECILES * (until - weights[order] / 2) / until[-1]
    return deciles


def _calibration_of(
    predicted: NDArray[np.float64], weights: NDArray[np.float64], bought: NDArray[np.bool_]
) -> dict[str, float]:
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
    """Return the exact 95 % confidence interval of the mean of a Poisson count; Garwood 1936."""
    low = float(chi2.ppf(0.025, 2 * count)) / 2 if count else 0.0
    return low, float(chi2.ppf(0.975, 2 * count + 2)) / 2
