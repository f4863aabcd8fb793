"""Popularity: what many users look at and buy now."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recsys.instants import DAY
from recsys.recommenders.base import Statistics
from recsys.recommenders.content import Content
from recsys.settings import StepSettings
from recsys.shop.catalogue import Catalogue, Horizon
from recsys.shop.histories import Histories


class PopularitySettings(StepSettings):
    """Recent visits and purchases a day, smoothed towards the attributes of the sale."""

    half_life_days: float = Field(2.0, gt=0)
    """An event weighs half after so many days."""
    purchase_weight: float = Field(5.0, ge=0)
    """A purchase weighs as much as so many visits."""
    prior_days: float = Field(0.5, gt=0)
    """A sale's own rate counts half once it was open so many days."""


@dataclass(frozen=True)
class Popularity:
    """How many times the shop's usual rate a sale is looked at, smoothed towards what its attributes let expect.

    score(j) = rate(j) / rate of the shop;
    rate(j) = (events(j) + prior_days * expected(j)) / (days open(j) + prior_days), events and days with the same
    decay. expected(j) is the geometric mean over j's attributes of the attribute's own rate, smoothed alike towards
    the shop's rate: a sale that opened this morning has a value.
    """

    settings: PopularitySettings
    catalogue: Catalogue
    metadata: Content
    name: str = "popularity"
    gain: float = 10.0
    is_personal: bool = False

    @property
    def counted_by(self) -> str:
        """Its own name."""
        return self.name

    def count(self, histories: Histories, horizon: Horizon) -> Statistics:
        """Add up decayed `events` of each sale, shape (n_sales,)."""
        weights = histories.weights(self.settings.half_life_days, self.settings.purchase_weight)
        events = np.bincount(histories.sales, weights, minlength=histories.n_sales)
        return {"events": events.astype(np.float32)}

    def fit(self, statistics: Statistics, horizon: Horizon) -> "PopularityModel":
        """Turn events into rates."""
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
class PopularityModel:
    """Rate of each sale of the horizon, the shop's being 1."""

    rates: NDArray[np.float32]  # (n_horizon,)

    def score(self, histories: Histories) -> NDArray[np.float32]:
        """Return the same rates for every user."""
        return self.rates[None, :]

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the rates."""
        return {"rates": self.rates}


def decayed_days_open(catalogue: Catalogue, as_of: int, half_life_days: float) -> NDArray[np.float64]:
    """Return the days that each sale was open before as_of, a day long ago counting less, shape (n_sales,).

    This is the integral of 2^(-age / half life) over the time open.
    """
    ages_at_opening = np.maximum(as_of - catalogue.opens_at, 0) / DAY
    ages_at_closing = np.minimum(np.maximum(as_of - catalogue.closes_at, 0) / DAY, ages_at_opening)
    return (
        half_life_days
        / np.log(2)
        * (np.exp2(-ages_at_closing / half_life_days) - np.exp2(-ages_at_opening / half_life_days))
    )
