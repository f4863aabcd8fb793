"""Context features: what is known of the user, of the sale and of both together, without any other user."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recsys.compiled import compiled
from recsys.instants import HOUR
from recsys.recommenders.base import Counted, Model, Statistics
from recsys.recommenders.own import write_own_events, write_own_habit, write_own_recency
from recsys.settings import StepSettings
from recsys.shop.catalogue import Catalogue, Horizon
from recsys.shop.histories import Histories


class ContextSettings(StepSettings):
    """Settings of the context features."""

    own_half_life_days: float = Field(3.0, gt=0)
    """Half-life of the weight of a user's own visit of a sale, in days."""
    repeat_half_life_days: float = Field(30.0, gt=0)
    """Half-life of the weight of a user's own purchase of a sale, in days."""
    habit_fade: float = Field(0.8, gt=0, le=1)
    """Weight of a day on which a user bought, as a share of the weight of the next such day."""
    price_half_life_days: float = Field(30.0, gt=0)
    """Half-life of the weight of a price that a user looked at, in days."""


LOW_IS_EVIDENCE = frozenset({"price_gap", "hours_open", "hours_left"})
"""The features of which a low value speaks for a sale: a usual price, just opened, closes soon."""

Write = Callable[[Histories, Horizon, NDArray[np.float32], int], None]
"""Writes a feature of the sales of a horizon, for users' histories, to the given place; see `Model.write`."""


@dataclass(frozen=True)
class Context:
    """A recommender that needs no fitting: its score is computed from histories and horizon."""

    name: str
    write: Write
    scale: float = 0.0
    is_personal: bool = True
    is_relative: bool = True

    @property
    def counted_by(self) -> str:
        """Its own name."""
        return self.name

    def count(self, histories: Histories, horizon: Horizon) -> Statistics:
        """Return no statistics."""
        return {}

    def fit(self, statistics: Statistics, horizon: Horizon) -> "ContextModel":
        """Return the feature of a horizon."""
        return ContextModel(self.write, horizon)

    def load(self, arrays: Mapping[str, np.ndarray], horizon: Horizon) -> "ContextModel":
        """Return the feature of a horizon."""
        return ContextModel(self.write, horizon)


@dataclass(frozen=True)
class ContextModel(Model):
    """A context feature for the sales of a horizon."""

    write_horizon: Write
    horizon: Horizon

    @property
    def n_horizon(self) -> int:
        """Number of sales of the horizon."""
        return len(self.horizon)

    def write(self, histories: Histories, features: NDArray[np.float32], number: int) -> None:
        """Write the feature."""
        self.write_horizon(histories, self.horizon, features, number)

    def at(self, instant: int, counted: Counted) -> "ContextModel":
        """Return the feature as of another instant."""
        return replace(self, horizon=replace(self.horizon, as_of=instant))

    def arrays(self) -> dict[str, np.ndarray]:
        """Return no arrays."""
        return {}


def context_features(settings: ContextSettings, catalogue: Catalogue) -> list[Context]:
    """Return the context features in the order of the meta-model's features.

    Counts of the user's own events end at `as_of`, as in training; the user's usual price includes the running session.
    """
    logs = log_prices(catalogue.prices)

    def own_visits(histories: Histories, horizon: Horizon, features: NDArray[np.float32], number: int) -> None:
        write_own_events(histories, horizon, settings.own_half_life_days, False, features, number)

    def own_purchases(histories: Histories, horizon: Horizon, features: NDArray[np.float32], number: int) -> None:
        write_own_events(histories, horizon, settings.repeat_half_life_days, True, features, number)

    def habit(histories: Histories, horizon: Horizon, features: NDArray[np.float32], number: int) -> None:
        write_own_habit(histories, horizon, settings.habit_fade, features, number)

    def price_gap(histories: Histories, horizon: Horizon, features: NDArray[np.float32], number: int) -> None:
        decay = histories.decay(settings.price_half_life_days)
        write_price_gaps(histories.offsets, histories.sales, decay, logs, horizon.sales, features, number)

    def hours_open(histories: Histories, horizon: Horizon, features: NDArray[np.float32], number: int) -> None:
        hours = np.maximum(horizon.as_of - catalogue.opens_at[horizon.sales], 0) / HOUR
        features[:, number] = np.log1p(hours)

    def hours_left(histories: Histories, horizon: Horizon, features: NDArray[np.float32], number: int) -> None:
        hours = np.maximum(catalogue.closes_at[horizon.sales] - horizon.as_of, 0) / HOUR
        features[:, number] = np.log1p(hours)

    def activity(histories: Histories, horizon: Horizon, features: NDArray[np.float32], number: int) -> None:
        _write_activity(histories.as_of, histories.offsets, histories.occurred_at, features, number)

    return [
        Context("own_visits", own_visits, scale=10.0),
        Context("own_purchases", own_purchases, scale=10.0),
        Context("own_recency", write_own_recency),
        Context("own_habit", habit, scale=10.0),
        Context("price_gap", price_gap),
        Context("hours_open", hours_open, is_personal=False),
        Context("hours_left", hours_left, is_personal=False),
        Context("activity", activity, is_relative=False),
    ]


def log_prices(prices: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logarithm of each price; nan where it is unknown or not above 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(prices)
    return np.where(np.isfinite(logs), logs, np.nan)


@compiled
def write_price_gaps(
    offsets: NDArray[np.int64],
    sales: NDArray[np.int32],
    decay: NDArray[np.float32],
    logs: NDArray[np.float64],
    horizon_sales: NDArray[np.int32],
    features: NDArray[np.float32],
    number: int,
) -> None:
    """Write |log(price / the user's usual price)| to features[:, number]; 0 where either price is unknown.

    The usual price is the decayed geometric mean of the prices of the user's events.

    Args:
        offsets: Of users' events, shape (n_users + 1,).
        sales: Of events, shape (n_events,).
        decay: Of events, shape (n_events,).
        logs: The logarithms of sales' prices, shape (n_sales,); nan where unknown.
        horizon_sales: The sales of the horizon, shape (n_horizon,).
        features: Shape (n_users, n_features, n_horizon).
        number: The place to write to.
    """
    for user in range(len(offsets) - 1):
        total, weight = 0.0, 0.0
        for event in range(offsets[user], offsets[user + 1]):
            log = logs[sales[event]]
            if log == log:  # not nan
                total += decay[event] * log
                weight += decay[event]
        gaps = features[user, number]
        for column in range(len(gaps)):
            gap = abs(logs[horizon_sales[column]] - total / weight) if weight > 0 else np.nan
            gaps[column] = gap if gap == gap else 0.0  # nan: no price to compare with


@compiled
def _write_activity(
    as_of: int, offsets: NDArray[np.int64], occurred_at: NDArray[np.int64], features: NDArray[np.float32], number: int
) -> None:
    """Write log(1 + number of events before the session)."""
    for user in range(len(offsets) - 1):
        count = 0
        for event in range(offsets[user], offsets[user + 1]):
            count += occurred_at[event] < as_of
        features[user, number, :] = np.log1p(count)
