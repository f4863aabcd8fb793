"""Conditional logit: the coefficients by which the sales that were bought come first on their own pages."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from recsys.compiled import compiled
from recsys.meta_model.calibration import LEAST_SLOPE

MOST_STEPS = 50
SHORTEST = 1e-6
"""The shortest step, as a share of Newton's: where the likelihood is as flat as its rounding."""
PRECISION = 1e-8
"""Newton's method ends where the next step would lower the negative log-likelihood by half of this, in nats."""
_COLUMNS = 8
"""Number of features whose second derivatives are added up together: all would need as much memory as the features."""


def fit_coefficients(
    features: NDArray[np.float64],
    bought: NDArray[np.bool_],
    sales: NDArray[np.float64],
    page: NDArray[np.integer],
    regularization: float,
    pages_count_once: bool = False,
) -> NDArray[np.float64]:
    """Return the coefficients of maximum penalised likelihood.

    The likelihood is that of each purchase among itself and all sales of its page that were not bought, by a softmax of
    the scores, coefficients * features. What all sales of a page share cancels out: how many purchases a page has says
    nothing about the coefficients, and a feature that is the same for all its sales has the coefficient 0.

    Args:
        features: Of each example, shape (n_examples, n_features).
        bought: Whether each was bought, shape (n_examples,).
        sales: The number of sales that each stands for, 1 / sampling rate: the sample stands for the whole page.
        page: Number of the page of each; pages without a purchase or without another sale say nothing.
        regularization: Inverse strength C of the L2 penalty.
        pages_count_once: The log-likelihood of a page is the mean over its purchases; if not, the sum.

    Returns:
        Shape (n_features,).

    Source:
        McFadden 1974, Conditional logit analysis of qualitative choice behavior, for one choice per page. Unlike
        McFadden 1978, sec. 5, sampled sales are weighted: unweighted, the coefficients are right only if the model is,
        and rank worse (docs/models.md); weighted, few samples make them larger, by 10 % for 20, in the same direction.
    """
    from scipy.linalg import solve  # here: the service only evaluates, and starts without the optimiser

    if (np.diff(page) < 0).any():  # otherwise a copy of millions of examples is spared
        order = np.argsort(page, kind="stable")
        features, bought, sales, page = features[order], bought[order], sales[order], page[order]
    offsets, starts = np.log(sales), np.append(np.flatnonzero(np.diff(page, prepend=-1)), len(page))
    purchases = np.add.reduceat(bought, starts[:-1], dtype=np.float64)
    weights = 1 / np.maximum(purchases, 1) if pages_count_once else np.ones(len(purchases))
    errors = np.empty(len(page))

    def loss(coefficients: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        value = _write_errors(features @ coefficients + offsets, bought, starts, weights, errors)
        penalty = coefficients @ coefficients / (2 * regularization)
        return float(value + penalty), errors @ features + coefficients / regularization

    # Newton's method: the penalised likelihood has one optimum. Features are correlated, so that gradients alone, as of
    # L-BFGS, would take hundreds of passes over the examples.
    found = np.zeros(features.shape[1])
    value, gradient = loss(found)
    for _ in range(MOST_STEPS):
        curvature = _curvature(features, bought, starts, weights, errors) + np.eye(len(found)) / regularization
        step = solve(curvature, gradient, assume_a="pos")
        gain = gradient @ step
        if gain < PRECISION:
            break
        length, before = 1.0, value
        while (value := (ahead := loss(found - length * step))[0]) > before - length * gain / 4 and length > SHORTEST:
            length /= 2
        found, gradient = found - length * step, ahead[1]
    return found


def _curvature(
    features: NDArray[np.float64],
    bought: NDArray[np.bool_],
    starts: NDArray[np.int64],
    weights: NDArray[np.float64],
    errors: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the second derivative of the negative log-likelihood, (n_features, n_features); arguments as below."""
    others = np.where(bought, 0.0, errors)  # of each sale not bought: what is missed times its share
    missed = np.add.reduceat(others, starts[:-1])
    n_features = features.shape[1]
    means, spread = np.empty((len(weights), n_features)), np.empty((n_features, n_features))
    for start in range(0, n_features, _COLUMNS):
        some = slice(start, start + _COLUMNS)
        shares = others[:, None] * features[:, some]
        means[:, some] = np.add.reduceat(shares, starts[:-1])
        spread[:, some] = features.T @ shares
    means /= np.maximum(missed, 1e-300)[:, None]
    spread -= means.T @ (missed[:, None] * means)
    page = np.repeat(np.arange(len(weights)), np.diff(starts))[bought]
    behind = means[page] - features[bought]
    losses = -errors[bought]
    return spread + behind.T @ ((losses * (1 - losses / weights[page]))[:, None] * behind)


def as_log_odds(
    coefficients: NDArray[np.float64],
    features: NDArray[np.float64],
    bought: NDArray[np.bool_],
    page: NDArray[np.integer],
    regularization: float,
) -> NDArray[np.float64]:
    """Return the coefficients of a logistic regression that ranks each page as these coefficients do.

    It is one over the score, with a coefficient of at least LEAST_SLOPE, and over the features that are the same for
    all sales of each page: they change no order, but tell pages with many purchases from others.

    Args:
        coefficients: From `fit_coefficients`, shape (n_features,).
        features: As there.
        bought: As there.
        page: As there.
        regularization: As there.
    """
    from scipy.optimize import minimize

    _, first, of_page = np.unique(page, return_index=True, return_inverse=True)
    shared = np.flatnonzero([(column == column[first][of_page]).all() for column in features.T])
    inputs = np.column_stack([np.ones(len(page)), features @ coefficients, features[:, shared]])

    def loss(own: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        log_odds, slopes = inputs @ own, own[1:]
        value = np.logaddexp(0, log_odds).sum() - log_odds @ bought + slopes @ slopes / (2 * regularization)
        gradient = (expit(log_odds) - bought) @ inputs
        gradient[1:] += slopes / regularization
        return value, gradient

    bounds = [(None, None), (LEAST_SLOPE, None), *[(None, None)] * len(shared)]
    own = minimize(loss, np.zeros(inputs.shape[1]), jac=True, method="L-BFGS-B", bounds=bounds).x
    found = own[1] * coefficients
    found[shared] += own[2:]
    return found


@compiled
def _write_errors(
    scores: NDArray[np.float64],
    bought: NDArray[np.bool_],
    starts: NDArray[np.int64],
    weights: NDArray[np.float64],
    errors: NDArray[np.float64],
) -> float:
    """Return the negative log-likelihood, and write its derivative by each score.

    Args:
        scores: Plus the logarithm of the number of sales that each stands for, shape (n_examples,), page by page.
        bought: Whether each was bought.
        starts: Where each page begins, and at last where the last one ends.
        weights: Of the purchases of each page.
        errors: Written.
    """
    loss = 0.0
    for page in range(len(starts) - 1):
        rows = range(starts[page], starts[page + 1])
        highest, others = -np.inf, 0.0
        for row in rows:
            if not bought[row]:
                highest = max(highest, scores[row])
        for row in rows:
            if not bought[row]:
                others += np.exp(scores[row] - highest)
        total = highest + np.log(others)  # the logarithm of the sum over the sales not bought; -inf without one
        missed = 0.0
        for row in rows:
            if bought[row]:
                behind = total - scores[row]
                loss += weights[page] * (max(behind, 0.0) + np.log1p(np.exp(-abs(behind))))
                errors[row] = -weights[page] / (1 + np.exp(-behind))
                missed -= errors[row]
        for row in rows:
            if not bought[row]:
                errors[row] = missed * np.exp(scores[row] - total)
    return loss
