"""Popularity: what many users look at and buy now."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recsys.instants import DAY, LATEST
from recsys.recommenders.base import Model, Statistics
from recsys.recommenders.content import Content
from recsys.settings import StepSettings
from recsys.shop.catalogue import Catalogue, Horizon
from recsys.shop.histories import Histories


class PopularitySettings(StepSettings):
    """Settings of recent visits and purchases per day, shrunk towards the rate of the sale's attributes."""

    half_life_days: float = Field(2.0, gt=0)
    """Half-life of the weight of an event, in days."""
    purchase_weight: float = Field(5.0, ge=0)
    """Weight of a purchase; a visit has weight 1."""
    prior_days: float = Field(0.5, gt=0)
    """Weight of the prior, in days open: a sale open for this long has half the weight on its own rate."""


@dataclass(frozen=True)
class Popularity:
    """The rate of events of a sale relative to that of the shop, shrunk towards the rate of its attributes.

    score(j) = rate(j) / rate of the shop;
    rate(j) = (events(j) + prior_days * expected(j)) / (days open(j) + prior_days), events and days with the same
    decay. Events are those while the sale is open; a user's events of a sale on one day (UTC) count once, as the last
    purchase, or as the last visit of a day without a purchase: no single id makes a sale popular. expected(j) is the
    geometric mean over j's attributes of the attribute's own rate, shrunk in the same way towards the shop's rate: so
    a sale that opened this morning has a rate too.
    """

    settings: PopularitySettings
    catalogue: Catalogue
    metadata: Content
    name: str = "popularity"
    scale: float = 10.0
    is_personal: bool = False
    is_relative: bool = True

    @property
    def counted_by(self) -> str:
        """Its own name."""
        return self.name

    def count(self, histories: Histories, horizon: Horizon) -> Statistics:
        """Return the decayed number of `events` of each sale, shape (n_sales,)."""
        weights = histories.weights(self.settings.half_life_days, self.settings.purchase_weight)
        counted = histories.once("counted in popularity", lambda: self._counted_events(histories))
        events = np.bincount(histories.sales[counted], weights[counted], minlength=histories.n_sales)
        return {"events": events.astype(np.float32)}

    def _counted_events(self, histories: Histories) -> NDArray[np.int64]:
        """Return the numbers of the events that count: while its sale is open, one per user, sale and day."""
        sales, occurred_at = histories.sales, histories.occurred_at
        is_open = (self.catalogue.opens_at[sales] <= occurred_at) & (occurred_at < self.catalogue.closes_at[sales])
        events = np.flatnonzero(is_open)
        groups = histories.user_of_event()[events] * histories.n_sales + sales[events]
        groups = groups * (LATEST // DAY) + occurred_at[events] // DAY
        # A user's events are in order of time: the last of a group, purchases after visits, is its last purchase.
        order = np.argsort(2 * groups + histories.purchases[events], kind="stable")
        is_last = np.ones(len(order), bool)
        is_last[:-1] = np.diff(groups[order]) != 0
        return events[order[is_last]]

    def fit(self, statistics: Statistics, horizon: Horizon) -> "PopularityModel":
        """Return the model of the rates of the sales of the horizon."""
        events = statistics["events"].astype(np.float64)
        days = decayed_days_open(self.catalogue, horizon.as_of, self.settings.half_life_days)
        prior = self.settings.prior_days
        rate = (events.sum() + 1e-9) / (days.sum() + prior)
        has_feature = self.metadata.features.counts
        feature_rates = (has_feature.T @ events + prior * rate) / (has_feature.T @ days + prior)
        n_features = np.maximum(np.diff(has_feature.indptr), 1)
        expected = rate * np.exp(has_feature @ np.log(feature_rates / rate) / n_features)
        rates = (events + prior * expected) / (days + prior)
        return PopularityModel((rates[horizon.sales] / rate).astype(np.float32))

    def load(self, arrays: Mapping[str, np.ndarray], horizon: Horizon) -> "PopularityModel":
        """Return the model of saved arrays."""
        return PopularityModel(arrays["rates"])


@dataclass(frozen=True)
class PopularityModel(Model):
    """Rate of each sale of the horizon relative to the shop's."""

    rates: NDArray[np.float32]  # (n_horizon,)

    @property
    def n_horizon(self) -> int:
        """Number of sales of the horizon."""
        return len(self.rates)

    def write(self, histories: Histories, features: NDArray[np.float32], number: int) -> None:
        """Write the same rates for every user."""
        features[:, number] = self.rates

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the rates."""
        return {"rates": self.rates}


def decayed_days_open(catalogue: Catalogue, as_of: int, half_life_days: float) -> NDArray[np.float64]:
    """Return the decayed number of days that each sale was open before as_of, shape (n_sales,).

    This is the integral of 2^(-age / half life) over the time open.
    """
    ages_at_opening = np.maximum(as_of - catalogue.opens_at, 0) / DAY
    ages_at_closing = np.minimum(np.maximum(as_of - catalogue.closes_at, 0) / DAY, ages_at_opening)
    return (
        half_life_days
        / np.log(2)
        * (np.exp2(-ages_at_closing / half_life_days) - np.exp2(-ages_at_opening / half_life_days))
    )
