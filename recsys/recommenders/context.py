"""Context features: what is known of the user, of the sale and of both together, without any other user."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recsys.instants import HOUR
from recsys.recommenders.base import Statistics
from recsys.recommenders.own import own_events, own_habit, own_recency
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

Score = Callable[[Histories, Horizon], NDArray[np.float32]]


@dataclass(frozen=True)
class Context:
    """A recommender that needs no fitting: its score is a function of histories and horizon."""

    name: str
    score: Score
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
        return ContextModel(self.score, horizon)

    def load(self, arrays: Mapping[str, np.ndarray], horizon: Horizon) -> "ContextModel":
        """Return the feature of a horizon."""
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
        """Return no arrays."""
        return {}


def context_features(settings: ContextSettings, catalogue: Catalogue) -> list[Context]:
    """Return the context features in the order of the meta-model's features.

    Counts of the user's own events end at `as_of`, as in training; the user's usual price includes the running session.
    """
    logs = log_prices(catalogue.prices)

    def own_visits(histories: Histories, horizon: Horizon) -> NDArray[np.float32]:
        return own_events(histories, horizon, settings.own_half_life_days, purchases=False)

    def own_purchases(histories: Histories, horizon: Horizon) -> NDArray[np.float32]:
        return own_events(histories, horizon, settings.repeat_half_life_days, purchases=True)

    def habit(histories: Histories, horizon: Horizon) -> NDArray[np.float32]:
        return own_habit(histories, horizon, settings.habit_fade)

    def price_gap(histories: Histories, horizon: Horizon) -> NDArray[np.float32]:
        return price_gaps(histories, horizon, logs, settings.price_half_life_days)

    def hours_open(histories: Histories, horizon: Horizon) -> NDArray[np.float32]:
        hours = np.maximum(horizon.as_of - catalogue.opens_at[horizon.sales], 0) / HOUR
        return np.log1p(hours).astype(np.float32)[None, :]

    def hours_left(histories: Histories, horizon: Horizon) -> NDArray[np.float32]:
        hours = (catalogue.closes_at[horizon.sales] - horizon.as_of) / HOUR
        return np.log1p(hours).astype(np.float32)[None, :]

    def activity(histories: Histories, horizon: Horizon) -> NDArray[np.float32]:
        if len(histories) == 1:
            counts = np.count_nonzero(histories.before_session(), keepdims=True)
        else:
            counts = np.diff(np.concatenate(([0], np.cumsum(histories.before_session())))[histories.offsets])
        return np.log1p(counts).astype(np.float32)[:, None]

    return [
        Context("own_visits", own_visits, scale=10.0),
        Context("own_purchases", own_purchases, scale=10.0),
        Context("own_recency", own_recency),
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


def price_gaps(
    histories: Histories, horizon: Horizon, logs: NDArray[np.float64], half_life_days: float
) -> NDArray[np.float32]:
    """Return |log(price / the user's usual price)|, shape (n_users, n_horizon).

    The usual price is the decayed geometric mean of the prices of the user's events. The gap is 0 where either price is
    unknown.
    """
    event_logs = logs[histories.sales]
    is_known = event_logs == event_logs  # not nan
    weights = histories.decay(half_life_days) * is_known
    event_logs[~is_known] = 0
    sums = _sums_per_user(histories, weights)
    means = _sums_per_user(histories, weights * event_logs)
    means = np.divide(means, sums, out=np.full_like(means, np.nan), where=sums > 0)
    gaps = np.abs(logs[horizon.sales].astype(np.float32) - means.astype(np.float32)[:, None])
    gaps[gaps != gaps] = 0  # nan: no price to compare with
    return gaps


def _sums_per_user(histories: Histories, values: NDArray[np.float64]) -> NDArray[np.float64]:
    if len(histories) == 1:
        return values.sum(dtype=np.float64, keepdims=True)
    sums = np.bincount(histories.user_of_event(), weights=values, minlength=len(histories))
    return sums.astype(np.float64, copy=False)  # without any event bincount returns integers, which cannot hold nan
