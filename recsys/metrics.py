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
    """Return the 1-based rank of each candidate in its row, best first, ties by column; 0 for the others.

    Args:
        scores: Shape (n_users, n_sales), without nan.
        candidates: Shape (n_users, n_sales), the sales that are ranked.
    """
    keyed = np.where(candidates, -scores, np.inf)
    order = np.argsort(keyed, axis=1, kind="stable")
    positions = np.empty_like(order)
    np.put_along_axis(positions, order, np.arange(1, scores.shape[1] + 1)[None, :], axis=1)
    return np.where(candidates, positions, 0)


def ranking_metrics(ranks_of_relevant: NDArray[np.int64], k: int = 10) -> dict[str, float]:
    """Measure one ranking by the ranks of all its relevant sales.

    Args:
        ranks_of_relevant: 1-based ranks of the relevant sales, at least one.
        k: How many sales are shown.

    Returns:
        recall@k = relevant shown / relevant; ndcg@k with gain 1 and discount 1 / log2(rank + 1); hit_rate@k = 1 if
        a relevant one is shown; mrr = 1 / rank of the first relevant one, however deep. Keys name k = 10.
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
    """Return the share of the sales that were shown to anybody; Herlocker et al. 2004, sec. 4.2.

    Args:
        times_shown: Shape (n_sales,), on how many pages each sale that could be shown was; at least one sale.
    """
    return float(np.mean(times_shown > 0))


def gini(times_shown: NDArray[np.int64]) -> float:
    """Return how unequally pages are shared among sales; Shani and Gunawardana 2011, sec. 8.3.3.2.

    Args:
        times_shown: As for `coverage`; at least two sales, and one of them shown.

    Returns:
        0 where all sales are shown alike often, 1 where a single one is always shown.
    """
    n = len(times_shown)
    places = 2 * np.arange(1, n + 1) - n - 1
    return float(places @ np.sort(times_shown) / ((n - 1) * times_shown.sum()))


def novelty(times_shown: NDArray[np.int64], users_of_sale: NDArray[np.int64], n_users: int) -> float:
    """Return the mean self-information of what was shown, in bits; Zhou et al. 2010.

    A sale that few of the users know says more: -log2(users who know it / users). One that nobody knows counts as
    known to one, since the logarithm of 0 is none.

    Args:
        times_shown: As for `coverage`; one of them above 0.
        users_of_sale: Shape (n_sales,), how many users visited or bought each sale before.
        n_users: All users.
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
    """Estimate mean differences of two policies on the same cases, in the same order; see `bootstrap`."""
    return bootstrap({name: column - others[name] for name, column in values.items()}, users, seed, rounds)


def bootstrap(
    values: Mapping[str, NDArray[np.float64]], users: NDArray, seed: int = 0, rounds: int = 1000
) -> dict[str, Estimate]:
    """Estimate means with intervals by drawing users with replacement.

    Args:
        values: Named values of the same cases, each shape (n_cases,).
        users: Shape (n_cases,), the user of each case; all cases of a user are drawn together.
        seed: The same seed draws the same users, so that intervals of several policies can be compared.
        rounds: How often all users are drawn.

    Returns:
        For each name the mean over cases and the 2.5 % and 97.5 % percentiles of the drawn means.
    """
    _, user = np.unique(users, return_inverse=True)
    sums = np.stack([np.bincount(user, weights=column) for column in values.values()])
    counts = np.bincount(user).astype(np.float64)
    means = np.array([(sums @ drawn) / (counts @ drawn) for drawn in _draws(len(counts), seed, rounds)])
    lows, highs = np.percentile(means, [2.5, 97.5], axis=0)
    return {
        name: Estimate(float(column.mean()), float(low), float(high))
        for (name, column), low, high in zip(values.items(), lows, highs, strict=True)
    }


def bootstrap_ratio(
    values: NDArray[np.float64], others: NDArray[np.float64], users: NDArray, seed: int = 0, rounds: int = 1000
) -> Estimate:
    """Estimate the sum of some values per sum of others on the same cases; see `bootstrap`.

    Args:
        values: Shape (n_cases,).
        others: Shape (n_cases,), not negative, one of them above 0; draws of users who have none above 0 do not count.
        users: As for `bootstrap`.
        seed: As for `bootstrap`.
        rounds: As for `bootstrap`.
    """
    _, user = np.unique(users, return_inverse=True)
    sums = np.stack([np.bincount(user, weights=column) for column in (values, others)])
    drawn = np.array([sums @ counted for counted in _draws(sums.shape[1], seed, rounds)])
    drawn = drawn[drawn[:, 1] > 0]
    low, high = np.percentile(drawn[:, 0] / drawn[:, 1], [2.5, 97.5])
    return Estimate(float(values.sum() / others.sum()), float(low), float(high))


def _draws(n_users: int, seed: int, rounds: int) -> Iterator[NDArray[np.int64]]:
    """Return, round by round, how often each user is drawn."""
    rng = np.random.default_rng(seed)
    return (np.bincount(rng.integers(0, n_users, n_users), minlength=n_users) for _ in range(rounds))
