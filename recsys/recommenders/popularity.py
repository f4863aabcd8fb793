"""Popularity: what many users look at and buy now."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.sparse import csr_matrix

from recsys.instants import DAY, LATEST
from recsys.recommenders.base import Counted, Model, Statistics
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
        has_attribute = self.metadata.features.counts
        return PopularityModel(self.settings, self.catalogue, has_attribute, horizon, statistics["events"])

    def load(self, arrays: Mapping[str, np.ndarray], horizon: Horizon) -> "PopularityModel":
        """Return the model of saved arrays."""
        if _ATTRIBUTES in arrays:
            attributes = arrays[_ATTRIBUTES]
            shape = len(self.catalogue), int(attributes.max(initial=-1)) + 1
            has_attribute = csr_matrix((np.ones(len(attributes), np.float32), attributes, arrays[_OFFSETS]), shape)
        else:
            has_attribute = self.metadata.features.counts
        return PopularityModel(self.settings, self.catalogue, has_attribute, horizon, arrays["events"])


_ATTRIBUTES, _OFFSETS = "attributes", "attribute_offsets"


@dataclass(frozen=True, eq=False)
class PopularityModel(Model):
    """Rate of each sale of the horizon relative to the shop's."""

    settings: PopularitySettings
    catalogue: Catalogue
    has_attribute: csr_matrix
    """1 for each attribute of a sale, shape (n_sales, n_attributes)."""
    horizon: Horizon
    events: NDArray[np.floating]
    """The decayed number of events of each sale as of the horizon's instant, shape (n_sales,)."""

    @property
    def n_horizon(self) -> int:
        """Number of sales of the horizon."""
        return len(self.horizon)

    @cached_property
    def rates(self) -> NDArray[np.float32]:
        """The rate of each sale of the horizon relative to the shop's, shape (n_horizon,)."""
        events = self.events.astype(np.float64)
        days = decayed_days_open(self.catalogue, self.horizon.as_of, self.settings.half_life_days)
        prior, has_attribute = self.settings.prior_days, self.has_attribute
        rate = (events.sum() + 1e-9) / (days.sum() + prior)
        attribute_rates = (has_attribute.T @ events + prior * rate) / (has_attribute.T @ days + prior)
        n_attributes = np.maximum(np.diff(has_attribute.indptr), 1)
        expected = rate * np.exp(has_attribute @ np.log(attribute_rates / rate) / n_attributes)
        rates = (events + prior * expected) / (days + prior)
        return (rates[self.horizon.sales] / rate).astype(np.float32)

    def at(self, instant: int, counted: Counted) -> "PopularityModel":
        """Return the model as of a later instant: what was counted is added to what is left of the events before."""
        half_life, weight = self.settings.half_life_days, self.settings.purchase_weight
        left = np.exp2((self.horizon.as_of - instant) / (half_life * DAY))
        events = self.events * left + counted.decayed(half_life, weight)
        return replace(self, horizon=replace(self.horizon, as_of=instant), events=events)

    def write(self, histories: Histories, features: NDArray[np.float32], number: int) -> None:
        """Write the same rates for every user."""
        features[:, number] = self.rates

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the events of each sale."""
        return {"events": self.events.astype(np.float32)}

    def served_arrays(self) -> dict[str, np.ndarray]:
        """Return the attributes of each sale too."""
        return {**self.arrays(), _ATTRIBUTES: self.has_attribute.indices, _OFFSETS: self.has_attribute.indptr}


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
