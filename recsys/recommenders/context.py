"""Context: what is known of the user, the sale and the two together, without any other user."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recsys.catalogue import Catalogue, Horizon
from recsys.histories import Histories
from recsys.instants import HOUR
from recsys.recommenders.base import Statistics
from recsys.settings import StepSettings


class ContextSettings(StepSettings):
    """The context features."""

    own_half_life_days: float = Field(3.0, gt=0)
    """A user's own visit of a sale weighs half after so many days."""
    repeat_half_life_days: float = Field(30.0, gt=0)
    """A user's own purchase of a sale weighs half after so many days."""
    price_half_life_days: float = Field(30.0, gt=0)
    """A price that a user looked at weighs half after so many days."""


Score = Callable[[Histories, Horizon], NDArray[np.float32]]


@dataclass(frozen=True)
class Context:
    """A feature that needs no fitting."""

    name: str
    score: Score
    gain: float = 0.0

    def count(self, histories: Histories, horizon: Horizon) -> Statistics:
        """Return nothing."""
        return {}

    def fit(self, statistics: Statistics, horizon: Horizon) -> "ContextModel":
        """Bind the feature to a horizon."""
        return ContextModel(self.score, horizon)

    def load(self, arrays: Mapping[str, np.ndarray], horizon: Horizon) -> "ContextModel":
        """Bind the feature to a horizon."""
        return ContextModel(self.score, horizon)


@dataclass(frozen=True)
class ContextModel:
    """A context feature for the sales of a horizon."""

    score_horizon: Score
    horizon: Horizon

    def score(self, histories: Histories) -> NDArray[np.float32]:
        """Return the feature."""
        return self.score_horizon(histories, self.horizon)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return nothing."""
        return {}


def context_features(settings: ContextSettings, catalogue: Catalogue) -> list[Context]:
    """Return the context features, in the order in which they are shown."""

    def own_visits(histories: Histories, horizon: Horizon) -> NDArray[np.float32]:
        decay = histories.decay(settings.own_half_life_days) * ~histories.purchases
        return own_events(histories, horizon, decay)

    def own_purchases(histories: Histories, horizon: Horizon) -> NDArray[np.float32]:
        decay = histories.decay(settings.repeat_half_life_days) * histories.purchases
        return own_events(histories, horizon, decay)

    def price_gap(histories: Histories, horizon: Horizon) -> NDArray[np.float32]:
        return price_gaps(histories, horizon, catalogue.prices, settings.price_half_life_days)

    def hours_open(histories: Histories, horizon: Horizon) -> NDArray[np.float32]:
        hours = np.maximum(horizon.as_of - catalogue.opens_at[horizon.sales], 0) / HOUR
        return np.log1p(hours).astype(np.float32)[None, :]

    def hours_left(histories: Histories, horizon: Horizon) -> NDArray[np.float32]:
        hours = (catalogue.closes_at[horizon.sales] - horizon.as_of) / HOUR
        return np.log1p(hours).astype(np.float32)[None, :]

    def activity(histories: Histories, horizon: Horizon) -> NDArray[np.float32]:
        return np.log1p(np.diff(histories.offsets)).astype(np.float32)[:, None]

    return [
        Context("own_visits", own_visits, gain=10.0),
        Context("own_purchases", own_purchases, gain=10.0),
        Context("price_gap", price_gap),
        Context("hours_open", hours_open),
        Context("hours_left", hours_left),
        Context("activity", activity),
    ]


def own_events(histories: Histories, horizon: Horizon, weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Add up the weights of each user's events of each very sale, shape (n_users, n_horizon)."""
    columns = np.full(histories.n_sales, -1, np.int64)
    columns[horizon.sales] = np.arange(len(horizon))
    column = columns[histories.sales]
    events = np.flatnonzero((column >= 0) & (weights > 0))
    sums = np.zeros((len(histories), len(horizon)), np.float32)
    np.add.at(sums.ravel(), histories.user_of_event()[events] * len(horizon) + column[events], weights[events])
    return sums


def price_gaps(
    histories: Histories, horizon: Horizon, prices: NDArray[np.float64], half_life_days: float
) -> NDArray[np.float32]:
    """Return |log(price / the user's usual price)|, shape (n_users, n_horizon).

    The usual price is the decayed geometric mean of the prices of his events. Where it or the price is unknown, the
    gap is 0.
    """
    with np.errstate(divide="ignore"):
        logs = np.log(prices)
    event_logs = logs[histories.sales]
    weights = np.where(np.isfinite(event_logs), histories.decay(half_life_days), 0)
    sums = _sums_per_user(histories, weights)
    means = _sums_per_user(histories, weights * np.nan_to_num(event_logs, posinf=0, neginf=0))
    means = np.divide(means, sums, out=np.full_like(means, np.nan), where=sums > 0)
    gaps = np.abs(logs[horizon.sales].astype(np.float32) - means.astype(np.float32)[:, None])
    return np.nan_to_num(gaps, copy=False, nan=0, posinf=0)


def _sums_per_user(histories: Histories, values: NDArray[np.float64]) -> NDArray[np.float64]:
    sums = np.bincount(histories.user_of_event(), weights=values, minlength=len(histories))
    return sums.astype(np.float64, copy=False)  # without a single event bincount gives integers, which hold no nan
