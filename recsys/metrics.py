"""Ranking metrics by their textbook definitions, and confidence intervals over users."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

NDCG = "ndcg@10"
RANKING_METRICS = ("recall@10", NDCG, "hit_rate@10", "mrr")


class Estimate(NamedTuple):
    """A mean with its 95 % confidence interval."""

    value: float
    low: float
    high: float


def ranks(scores: NDArray[np.float32], candidates: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the 1-based rank of each candidate in its row, best first, ties by column; 0 for sales not ranked.

    Args:
        scores: Shape (n_users, n_sales), without nan.
        candidates: Shape (n_users, n_sales), whether each sale is ranked.
    """
    keyed = np.where(candidates, -scores, np.inf)
    order = np.argsort(keyed, axis=1, kind="stable")
    positions = np.empty_like(order)
    np.put_along_axis(positions, order, np.arange(1, scores.shape[1] + 1)[None, :], axis=1)
    return np.where(candidates, positions, 0)


def ranking_metrics(ranks_of_relevant: NDArray[np.int64], k: int = 10) -> dict[str, float]:
    """Return the metrics of one ranking from the ranks of all its relevant sales.

    Args:
        ranks_of_relevant: 1-based ranks of the relevant sales, at least one.
        k: Number of sales shown.

    Returns:
        recall@k = relevant shown / relevant; ndcg@k with gain 1 and discount 1 / log2(rank + 1); hit_rate@k = 1 if
        a relevant sale is shown; mrr = 1 / rank of the first relevant sale, at any depth. Keys say 10, whatever k is.
    """
    shown = ranks_of_relevant[ranks_of_relevant <= k]
    ideal = np.sum(1 / np.log2(np.arange(1, min(len(ranks_of_relevant), k) + 1) + 1))
    return {
        "recall@10": len(shown) / len(ranks_of_relevant),
        "ndcg@10": float(np.sum(1 / np.log2(shown + 1)) / ideal),
        "hit_rate@10": float(len(shown) > 0),
        "mrr": float(1 / ranks_of_relevant.min()),
    }


def coverage(times_shown: NDArray[np.int64]) -> float:
    """Return catalogue coverage, the share of sales that were shown on any page; Herlocker et al. 2004, sec. 4.2.

    Args:
        times_shown: Shape (n_sales,), the number of pages that showed each sale that could be shown; at least one sale.
    """
    return float(np.mean(times_shown > 0))


def gini(times_shown: NDArray[np.int64]) -> float:
    """Return the Gini index of how often sales are shown; Shani and Gunawardana 2011, sec. 8.3.3.2.

    Args:
        times_shown: As for `coverage`; at least two sales, and one of them shown.

    Returns:
        0 where all sales are shown equally often, 1 where a single one is always shown.
    """
    n = len(times_shown)
    weights = 2 * np.arange(1, n + 1) - n - 1
    return float(weights @ np.sort(times_shown) / ((n - 1) * times_shown.sum()))


def novelty(times_shown: NDArray[np.int64], users_of_sale: NDArray[np.int64], n_users: int) -> float:
    """Return novelty, the mean self-information of the sales shown, in bits; Zhou et al. 2010.

    The self-information of a sale is -log2(users who know it / users). A sale without users counts as known to one,
    since the logarithm of 0 is undefined.

    Args:
        times_shown: As for `coverage`; one of them above 0.
        users_of_sale: Shape (n_sales,), the number of users who visited or bought each sale before.
        n_users: Number of all users.
    """
    bits = -np.log2(np.maximum(users_of_sale, 1) / n_users)
    return float(times_shown @ bits / times_shown.sum())


def paired_bootstrap(
    values: Mapping[str, NDArray[np.float64]],
    others: Mapping[str, NDArray[np.float64]],
    users: NDArray,
    seed: int = 0,
    rounds: int = 1000,
) -> dict[str, Estimate]:
    """Return the mean differences of two policies on the same cases, in the same order; see `bootstrap`."""
    return bootstrap({name: column - others[name] for name, column in values.items()}, users, seed, rounds)


def bootstrap(
    values: Mapping[str, NDArray[np.float64]], users: NDArray, seed: int = 0, rounds: int = 1000
) -> dict[str, Estimate]:
    """Return means with 95 % confidence intervals by the percentile bootstrap over users.

    Args:
        values: Named values of the same cases, each shape (n_cases,).
        users: Shape (n_cases,), the user of each case; all cases of a user are drawn together.
        seed: The same seed draws the same users, so that intervals of several policies can be compared.
        rounds: Number of bootstrap samples.

    Returns:
        For each name the mean over cases and the 2.5 % and 97.5 % percentiles of the means of the samples.
    """
    _, user = np.unique(users, return_inverse=True)
    sums = np.stack([np.bincount(user, weights=column) for column in values.values()])
    counts = np.bincount(user).astype(np.float64)
    means = np.array([(sums @ drawn) / (counts @ drawn) for drawn in _times_drawn(len(counts), seed, rounds)])
    lows, highs = np.percentile(means, [2.5, 97.5], axis=0)
    return {
        name: Estimate(float(column.mean()), float(low), float(high))
        for (name, column), low, high in zip(values.items(), lows, highs, strict=True)
    }


def bootstrap_ratio(
    values: NDArray[np.float64], others: NDArray[np.float64], users: NDArray, seed: int = 0, rounds: int = 1000
) -> Estimate:
    """Return the ratio of two sums over the same cases, values / others, with its interval; see `bootstrap`.

    Args:
        values: Shape (n_cases,).
        others: Shape (n_cases,), not negative, one of them above 0; samples in which their sum is 0 are left out.
        users: As for `bootstrap`.
        seed: As for `bootstrap`.
        rounds: As for `bootstrap`.
    """
    _, user = np.unique(users, return_inverse=True)
    sums = np.stack([np.bincount(user, weights=column) for column in (values, others)])
    drawn = np.array([sums @ times for times in _times_drawn(sums.shape[1], seed, rounds)])
    drawn = drawn[drawn[:, 1] > 0]
    low, high = np.percentile(drawn[:, 0] / drawn[:, 1], [2.5, 97.5])
    return Estimate(float(values.sum() / others.sum()), float(low), float(high))


def _times_drawn(n_users: int, seed: int, rounds: int) -> Iterator[NDArray[np.int64]]:
    """Return for each bootstrap sample how often each user was drawn, shape (n_users,)."""
    rng = np.random.default_rng(seed)
    return (np.bincount(rng.integers(0, n_users, n_users), minlength=n_users) for _ in range(rounds))
