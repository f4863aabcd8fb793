"""Taste: how much more often than other users a user looks at the features of a sale."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.sparse import csr_matrix, diags_array

from recsys.compiled import compiled, logarithm
from recsys.recommenders.base import Model, Statistics, sparse_arrays, sparse_matrix
from recsys.recommenders.content import Content
from recsys.recommenders.sums import largest_products, user_sums
from recsys.settings import StepSettings
from recsys.shop.catalogue import Catalogue, Horizon
from recsys.shop.histories import Histories

_GRID = np.concatenate(([0.0], np.geomspace(0.1, 1e6, 256)))
"""Total weights of a user's events at which the expected part of a score is computed; between them it is interpolated,
with an error of at most 0.001 per feature: for words, each user's own logarithms would take 100 times as long."""


class TasteSettings(StepSettings):
    """Settings of tastes for attributes, words and themes of photos."""

    half_life_days: float = Field(90.0, gt=0)
    """Half-life of the weight of an event, in days."""
    purchase_weight: float = Field(3.0, ge=0)
    """Weight of a purchase; a visit has weight 1."""
    prior_events: float = Field(1.0, gt=0)
    """Strength of the gamma prior, in events: it is added to the seen and to the expected number."""
    min_sales: int = Field(5, ge=1)
    """Features that fewer known sales have are left out."""


@dataclass(frozen=True)
class Taste:
    """Log-odds of a user for the features of a sale, by a naive Bayes model of the sales that the user looks at.

    score(u, j) = sum over features f of j of value(j, f) * log((seen(u, f) + a) / (expected(u, f) + a)), a being
    `prior_events`; seen is the sum of weight * value over u's events, expected is the weight of all of them times the
    share of f in the events of all users. A cosine measures what a user looks at; this measures what they look at more
    often, or less often, than other users.
    Reference: recsys/sql/taste_scores.sql.

    Source:
        DuMouchel 1999, sec. 3, for the shrunk ratio of seen to expected; a single gamma prior of mean 1.
    """

    name: str
    settings: TasteSettings
    catalogue: Catalogue
    content: Content
    scale: float = 0.0
    is_personal: bool = True
    is_relative: bool = True
    counted_by: str = "taste_metadata"

    def count(self, histories: Histories, horizon: Horizon) -> Statistics:
        """Return the decayed number of `events` of each sale, shape (n_sales,)."""
        weights = histories.weights(self.settings.half_life_days, self.settings.purchase_weight)
        events = np.bincount(histories.sales, weights, minlength=histories.n_sales)
        return {"events": events.astype(np.float32)}

    def fit(self, statistics: Statistics, horizon: Horizon) -> "TasteModel":
        """Return the model with each feature's share of all events; sales that are not known yet have no features."""
        values = self._feature_values(self.catalogue.opens_at < horizon.until)
        events = statistics["events"].astype(np.float64)
        shares = (values.T @ events) / max(events.sum(), 1e-9)
        return TasteModel(self.settings, values, shares.astype(np.float32), horizon, self.content.details)

    def load(self, arrays: Mapping[str, np.ndarray], horizon: Horizon) -> "TasteModel":
        """Return the model of saved arrays."""
        values, shares, details = sparse_matrix(arrays), arrays["shares"], self.content.details
        return TasteModel(self.settings, values, shares, horizon, details)

    def _feature_values(self, known: NDArray[np.bool_]) -> csr_matrix:
        """Return 1 for each attribute or word that a known sale has, or the share of each theme of its photos."""
        counts = (diags_array(known.astype(np.float32)) @ self.content.features.counts).tocsr()
        counts.eliminate_zeros()
        frequent = np.bincount(counts.indices, minlength=counts.shape[1]) >= self.settings.min_sales
        if self.content.details:  # themes: a sale's shares of themes sum to 1
            sums = np.asarray(counts.sum(axis=1)).ravel()
            counts.data /= np.repeat(np.where(sums > 0, sums, 1), np.diff(counts.indptr))
        else:
            counts.data[:] = 1
        values = (counts @ diags_array(frequent.astype(np.float32))).tocsr()
        values.eliminate_zeros()
        return values


class TasteModel(Model):
    """Features of all sales and their shares as arrays; a user's taste is computed when the user is scored."""

    def __init__(
        self,
        settings: TasteSettings,
        values: csr_matrix,
        shares: NDArray[np.float32],
        horizon: Horizon,
        details: Sequence[str] = (),
    ) -> None:
        self.settings = settings
        self.values = values  # (n_sales, n_features)
        self.shares = shares  # (n_features,)
        self.details = details
        self._horizon = horizon

    @property
    def n_horizon(self) -> int:
        """Number of sales of the horizon."""
        return len(self._horizon)

    def write(self, histories: Histories, features: NDArray[np.float32], number: int) -> None:
        """Write the log-odds; 0 for a user without events."""
        weights = self._weights(histories)
        _write_tastes(histories.offsets, histories.sales, weights, features, number, *self._applied)

    @cached_property
    def _applied(self) -> tuple[Any, ...]:
        """What is applied to the histories of every user."""
        values, targets = self.values, self.targets
        return (
            *(values.data, values.indices, values.indptr),
            *(targets.data, targets.indices, targets.indptr),
            *(np.float32(1 / self.settings.prior_events), _GRID, self._expected_on_grid),
        )

    @cached_property
    def targets(self) -> csr_matrix:
        """The features of the sales of the horizon, feature by feature, shape (n_features, n_horizon)."""
        return self.values[self._horizon.sales].T.tocsr()

    def _weights(self, histories: Histories) -> NDArray[np.float32]:
        return histories.weights(self.settings.half_life_days, self.settings.purchase_weight)

    def _shrunk_logs(self, counts: NDArray) -> NDArray:
        """Return log((count + a) / a), a being `prior_events`."""
        return np.log1p(counts / self.settings.prior_events)

    @cached_property
    def _expected_on_grid(self) -> NDArray[np.float32]:
        """The expected part of the score at each weight of the grid, shape (n_grid, n_horizon)."""
        return np.ascontiguousarray(self._shrunk_logs(np.outer(_GRID, self.shares)) @ self.targets, np.float32)

    def trace(self, histories: Histories, users: NDArray[np.int64], sales: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return for each pair of user and column of the horizon the feature that adds most to the score, or -1."""
        tastes = histories.once((self, "tastes"), lambda: self._tastes(histories))
        return largest_products(tastes, self._target_values, users, sales)

    @cached_property
    def _target_values(self) -> NDArray[np.float32]:
        """The features of the sales of the horizon, sale by sale, shape (n_horizon, n_features)."""
        return self.values[self._horizon.sales].toarray()

    def _tastes(self, histories: Histories) -> NDArray[np.float64]:
        """Return each user's log-odds for each feature, shape (n_users, n_features)."""
        weights = self._weights(histories)
        seen = user_sums(histories.offsets, histories.sales, weights, self.values)
        totals = np.bincount(histories.user_of_event(), weights, minlength=len(histories))
        return self._shrunk_logs(seen) - self._shrunk_logs(np.outer(totals, self.shares))

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the features of sales row by row, and the shares."""
        return {**sparse_arrays(self.values), "shares": self.shares}


@compiled
def _write_tastes(
    offsets: NDArray[np.int64],
    sales: NDArray[np.int32],
    weights: NDArray[np.float32],
    features: NDArray[np.float32],
    number: int,
    data: NDArray[np.float32],
    indices: NDArray[np.int32],
    starts: NDArray[np.int32],
    target_data: NDArray[np.float32],
    target_columns: NDArray[np.int32],
    target_starts: NDArray[np.int32],
    inverse_prior: np.float32,
    grid: NDArray[np.float64],
    expected_on_grid: NDArray[np.float32],
) -> None:
    """Write the log-odds of each user, from sparse rows of features by sale, and of sales (targets) by feature."""
    seen = np.zeros(len(target_starts) - 1, np.float32)
    for user in range(len(offsets) - 1):
        total = np.float32(0)
        for event in range(offsets[user], offsets[user + 1]):
            total += weights[event]
            for entry in range(starts[sales[event]], starts[sales[event] + 1]):
                seen[indices[entry]] += weights[event] * data[entry]
        scores = features[user, number]
        below = int(np.searchsorted(grid, total, side="right")) - 1
        if below > len(grid) - 2:
            below = len(grid) - 2
        above = np.float32(min((total - grid[below]) / (grid[below + 1] - grid[below]), 1.0))
        for column in range(len(scores)):
            start, end = expected_on_grid[below, column], expected_on_grid[below + 1, column]
            scores[column] = -(start * (np.float32(1) - above) + end * above)
        for event in range(offsets[user], offsets[user + 1]):
            for entry in range(starts[sales[event]], starts[sales[event] + 1]):
                feature = indices[entry]
                if seen[feature] > 0:
                    taste = logarithm(np.float32(1) + seen[feature] * inverse_prior)
                    seen[feature] = 0  # added once, and ready for the next user
                    for target in range(target_starts[feature], target_starts[feature + 1]):
                        scores[target_columns[target]] += taste * target_data[target]
