"""Collaborative filtering: sales that the same users looked at."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.sparse import csc_matrix

from recsys.recommenders.base import DENSE, Statistics
from recsys.settings import StepSettings
from recsys.shop.catalogue import Catalogue, Horizon
from recsys.shop.histories import Histories


class CollaborativeSettings(StepSettings):
    """Item-item collaborative filtering."""

    half_life_days: float = Field(14.0, gt=0)
    """An event weighs half after so many days."""
    purchase_weight: float = Field(3.0, ge=0)
    """A purchase weighs as much as so many visits."""
    shrinkage: float = Field(10.0, ge=0)
    """So many imaginary users without the other sale damp rare pairs."""
    neighbours: int = Field(200, ge=1)
    """Sources kept for each target sale, the most similar ones."""


class Measure(NamedTuple):
    """How much the users of the one and of the other sale count against the users of both."""

    source_power: float
    target_power: float


COSINE = Measure(0.5, 0.5)
CONDITIONAL = Measure(1.0, 0.0)
"""The share of the source's users who saw the target too: leans to popular targets."""
LIFT = Measure(1.0, 1.0)
"""How many times more often both were seen than by chance, in a unit of its own: leans to rare targets."""


@dataclass(frozen=True)
class Collaborative:
    """Item-item collaborative filtering, pruned per target sale.

    score(u, j) = sum over sales i of u's history of weight(u, i) * similarity(i, j), i != j;
    similarity(i, j) = users of both / (users(i)^s * users(j)^t * m^(1 - s - t) + shrinkage), s and t being the powers
    of source and target, m the mean number of users of a sale that anybody saw. One measure is no better than
    another: the meta-model finds how far to lean to what is popular.
    Reference: recsys/sql/sale_similarities.sql, collaborative_scores.sql.

    Source:
        Sarwar et al. 2001, sec. 3.1.1, for the cosine; Deshpande and Karypis 2004, sec. 4.2, for the conditional
        probability. Unlike both, users are counted, not ratings; all is shrunk; and neighbours are kept per target,
        not per source, so that each open sale keeps its best evidence.
    """

    settings: CollaborativeSettings
    catalogue: Catalogue
    name: str = "collaborative"
    measure: Measure = COSINE
    gain: float = 10.0
    is_personal: bool = True
    counted_by: str = "collaborative"

    def count(self, histories: Histories, horizon: Horizon) -> Statistics:
        """Count users: `users` (n_sales,) who saw a sale, `pairs` (n_sales, n_horizon) who saw both."""
        seen = histories.seen()
        pairs = (seen.T @ seen[:, horizon.sales]).toarray()
        return {"users": np.asarray(seen.sum(axis=0), np.float32).ravel(), "pairs": pairs}

    def fit(self, statistics: Statistics, horizon: Horizon) -> "CollaborativeModel":
        """Keep the most similar sources of each target, ties by sale."""
        users, pairs = statistics["users"], statistics["pairs"].copy()
        pairs[horizon.sales, np.arange(len(horizon))] = 0
        source, target = self.measure
        scale = users[users > 0].mean() if users.any() else 1.0
        norms = np.outer(users**source, users[horizon.sales] ** target * scale ** (1 - source - target))
        norms += np.float32(self.settings.shrinkage)
        similarities = np.divide(pairs, norms, out=pairs, where=norms > 0)
        return CollaborativeModel(self.settings, prune_columns(similarities, self.settings.neighbours))

    def load(self, arrays: Mapping[str, np.ndarray], horizon: Horizon) -> "CollaborativeModel":
        """Return the model of saved arrays."""
        parts = (arrays["data"], arrays["sources"], arrays["offsets"])
        similarities = csc_matrix(parts, shape=(len(self.catalogue), len(horizon)))
        return CollaborativeModel(self.settings, similarities, arrays.get(DENSE))


class CollaborativeModel:
    """Similarities of sources to targets as arrays."""

    def __init__(
        self, settings: CollaborativeSettings, similarities: csc_matrix, dense: NDArray[np.float32] | None = None
    ) -> None:
        self.settings = settings
        self.similarities = similarities  # (n_sales, n_horizon)
        self._given = dense

    @cached_property
    def dense(self) -> NDArray[np.float32]:
        """Similarities of all sales to those of the horizon, shape (n_sales, n_horizon)."""
        return self.similarities.toarray(order="C") if self._given is None else self._given

    def score(self, histories: Histories) -> NDArray[np.float32]:
        """Sum the similarities to the sales of each history."""
        return histories.sums(
            histories.weights(self.settings.half_life_days, self.settings.purchase_weight), self.dense
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the similarities column by column."""
        kept = self.similarities
        return {"data": kept.data, "sources": kept.indices, "offsets": kept.indptr}


def prune_columns(similarities: NDArray[np.float32], k: int) -> csc_matrix:
    """Keep the k largest positive values of each column, ties by row.

    Args:
        similarities: Shape (n_sources, n_targets).
        k: Values kept per column, at least 1.

    Returns:
        A matrix of the same shape, rows ascending within a column.
    """
    columns = [_largest(column, k) for column in similarities.T]
    offsets = np.concatenate(([0], np.cumsum([len(rows) for rows in columns]))).astype(np.int64)
    rows = np.concatenate(columns).astype(np.int32) if columns else np.empty(0, np.int32)
    data = similarities[rows, np.repeat(np.arange(len(columns)), np.diff(offsets))]
    return csc_matrix((data, rows, offsets), shape=similarities.shape)


def _largest(column: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Return the rows, ascending, of the k largest positive values, ties by row."""
    positive = np.flatnonzero(column > 0)
    if len(positive) <= k:
        return positive
    values = column[positive]
    threshold = np.partition(values, len(values) - k)[len(values) - k]
    above = positive[values > threshold]
    ties = positive[values == threshold][: k - len(above)]
    return np.sort(np.concatenate((above, ties)))
