"""Item-item collaborative filtering: sales that the same users looked at."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.sparse import csc_matrix

from recsys.compiled import compiled
from recsys.recommenders.base import Model, Statistics
from recsys.recommenders.sums import write_sparse_sums
from recsys.settings import StepSettings
from recsys.shop.catalogue import Catalogue, Horizon
from recsys.shop.histories import Histories


class CollaborativeSettings(StepSettings):
    """Settings of item-item collaborative filtering."""

    half_life_days: float = Field(14.0, gt=0)
    """Half-life of the weight of an event, in days."""
    purchase_weight: float = Field(3.0, ge=0)
    """Weight of a purchase; a visit has weight 1."""
    shrinkage: float = Field(10.0, ge=0)
    """Shrinkage: this number of users is added to the denominator of a similarity, which lowers that of rare pairs."""
    neighbours: int = Field(200, ge=1)
    """Number of source sales kept for each target sale, the most similar ones."""


class Measure(NamedTuple):
    """The powers of the source's and the target's number of users in the denominator of a similarity."""

    source_power: float
    target_power: float


COSINE = Measure(0.5, 0.5)
CONDITIONAL = Measure(1.0, 0.0)
"""Conditional probability, the share of the source's users who saw the target too: favours popular targets."""
LIFT = Measure(1.0, 1.0)
"""Lift, how often both were seen over how often they would be by chance, up to a factor: favours rare targets."""


@dataclass(frozen=True)
class Collaborative:
    """Item-item collaborative filtering, pruned per target sale.

    score(u, j) = sum over sales i of u's history of weight(u, i) * similarity(i, j), i != j;
    similarity(i, j) = users of both / (users(i)^s * users(j)^t * m^(1 - s - t) + shrinkage), s and t being the powers
    of source and target, m the mean number of users of the sales that have any. Which measure is best differs from
    shop to shop: the meta-model learns how much to favour popular sales.
    Reference: recsys/sql/sale_similarities.sql, collaborative_scores.sql.

    Source:
        Sarwar et al. 2001, sec. 3.1.1, for the cosine; Deshpande and Karypis 2004, sec. 4.2, for the conditional
        probability. Unlike both, users are counted, not ratings; all similarities are shrunk; and neighbours are kept
        per target, not per source, so that each open sale keeps its best evidence.
    """

    settings: CollaborativeSettings
    catalogue: Catalogue
    name: str = "collaborative"
    measure: Measure = COSINE
    scale: float = 10.0
    is_personal: bool = True
    is_relative: bool = True
    counted_by: str = "collaborative"

    def count(self, histories: Histories, horizon: Horizon) -> Statistics:
        """Count the `users` (n_sales,) who saw a sale, and as `pairs` (n_sales, n_horizon) those who saw both."""
        columns = horizon.columns(np.arange(histories.n_sales, dtype=np.int32))
        users, pairs = _users_of_both(histories.offsets, histories.sales, columns, len(horizon))
        return {"users": users, "pairs": pairs}

    def fit(self, statistics: Statistics, horizon: Horizon) -> "CollaborativeModel":
        """Return the model of the most similar sources of each target, ties by sale."""
        users, pairs = statistics["users"], statistics["pairs"].copy()
        pairs[horizon.sales, np.arange(len(horizon))] = 0
        source, target = self.measure
        mean_users = users[users > 0].mean() if users.any() else 1.0
        norms = np.outer(users**source, users[horizon.sales] ** target * mean_users ** (1 - source - target))
        norms += np.float32(self.settings.shrinkage)
        similarities = np.divide(pairs, norms, out=pairs, where=norms > 0)
        return CollaborativeModel(self.settings, prune_columns(similarities, self.settings.neighbours))

    def load(self, arrays: Mapping[str, np.ndarray], horizon: Horizon) -> "CollaborativeModel":
        """Return the model of saved arrays."""
        parts = (arrays["data"], arrays["sources"], arrays["offsets"])
        similarities = csc_matrix(parts, shape=(len(self.catalogue), len(horizon)))
        return CollaborativeModel(self.settings, similarities)


class CollaborativeModel(Model):
    """Similarities of source sales to target sales as arrays."""

    def __init__(self, settings: CollaborativeSettings, similarities: csc_matrix) -> None:
        self.settings = settings
        self.similarities = similarities  # (n_sales, n_horizon)

    @cached_property
    def _by_source(self) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.int32]]:
        """The similarities row by row: a sale is a neighbour of few of the sales of a horizon."""
        rows = self.similarities.tocsr()
        return rows.data, rows.indices, rows.indptr

    @property
    def n_horizon(self) -> int:
        """Number of sales of the horizon."""
        return self.similarities.shape[1]

    def write(self, histories: Histories, features: NDArray[np.float32], number: int) -> None:
        """Write the sum of the similarities to the sales of each history, weighted by event."""
        weights = histories.weights(self.settings.half_life_days, self.settings.purchase_weight)
        write_sparse_sums(histories.offsets, histories.sales, weights, *self._by_source, features, number)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the similarities column by column."""
        similarities = self.similarities
        return {"data": similarities.data, "sources": similarities.indices, "offsets": similarities.indptr}


@compiled
def _users_of_both(
    offsets: NDArray[np.int64], sales: NDArray[np.int32], columns: NDArray[np.int64], n_columns: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the number of users of each sale, and of each sale and column: (n_sales,) and (n_sales, n_columns).

    Args:
        offsets: Of users' events, shape (n_users + 1,).
        sales: Of events, shape (n_events,).
        columns: Of sales, -1 for those that have none, shape (n_sales,).
        n_columns: Number of columns.
    """
    users, pairs = np.zeros(len(columns), np.float32), np.zeros((len(columns), n_columns), np.float32)
    latest = np.full(len(columns), -1)  # the last user who saw each sale
    own, targets = np.empty(len(columns), np.int64), np.empty(n_columns, np.int64)
    for user in range(len(offsets) - 1):
        n_own, n_targets = 0, 0
        for event in range(offsets[user], offsets[user + 1]):
            sale = sales[event]
            if latest[sale] != user:
                latest[sale] = user
                own[n_own] = sale
                n_own += 1
                if columns[sale] >= 0:
                    targets[n_targets] = columns[sale]
                    n_targets += 1
        for sale in own[:n_own]:
            users[sale] += 1
            for column in targets[:n_targets]:
                pairs[sale, column] += 1
    return users, pairs


def prune_columns(similarities: NDArray[np.float32], k: int) -> csc_matrix:
    """Return the k largest positive values of each column, ties by row.

    Args:
        similarities: Shape (n_sources, n_targets).
        k: Number of values per column, at least 1.

    Returns:
        A matrix of the same shape, rows ascending within a column.
    """
    columns = [_rows_of_largest(column, k) for column in similarities.T]
    offsets = np.concatenate(([0], np.cumsum([len(rows) for rows in columns]))).astype(np.int64)
    rows = np.concatenate(columns).astype(np.int32) if columns else np.empty(0, np.int32)
    data = similarities[rows, np.repeat(np.arange(len(columns)), np.diff(offsets))]
    return csc_matrix((data, rows, offsets), shape=similarities.shape)


def _rows_of_largest(column: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Return the rows, ascending, of the k largest positive values, ties by row."""
    positive = np.flatnonzero(column > 0)
    if len(positive) <= k:
        return positive
    values = column[positive]
    threshold = np.partition(values, len(values) - k)[len(values) - k]
    above = positive[values > threshold]
    ties = positive[values == threshold][: k - len(above)]
    return np.sort(np.concatenate((above, ties)))
