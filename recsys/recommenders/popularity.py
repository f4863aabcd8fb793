"""Popularity: what many users look at and buy now."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.sparse import csr_matrix

from recsys.compiled import compiled
from recsys.instants import DAY, QUARTER, format_instant
from recsys.recommenders.base import Counted, Model, Statistics
from recsys.recommenders.content import Content
from recsys.settings import StepSettings
from recsys.shop.catalogue import Catalogue, Horizon
from recsys.shop.histories import Block, Histories

N_QUARTERS = DAY // QUARTER


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

    def count_later(self, block: Block, horizon: Horizon) -> Statistics:
        """Return what `events` gains in the day after the horizon's instant, by the quarter of an hour.

        Returns:
            `later`, shape (N_QUARTERS, n_horizon): the decayed number of the events from the horizon's instant on that
            occurred and were recorded before the beginning of each quarter; what counts is as in `count`.
        """
        settings, as_of, occurred_at = self.settings, horizon.as_of, block.occurred_at
        events = np.flatnonzero((as_of <= occurred_at) & (occurred_at < as_of + N_QUARTERS * QUARTER))
        events = events[self._is_open(block.sales[events], occurred_at[events])]
        columns = horizon.columns(block.sales[events])
        events, columns = events[columns >= 0], columns[columns >= 0]
        users = np.searchsorted(block.offsets, events, side="right") - 1
        groups = 2 * (users * block.n_sales + block.sales[events]) + (occurred_at[events] // DAY > as_of // DAY)
        order = np.argsort(2 * groups + block.purchases[events], kind="stable")
        events, columns, groups = events[order], columns[order], groups[order]
        known_from = np.maximum(occurred_at, block.recorded_at)[events]
        weights = np.where(block.purchases[events], settings.purchase_weight, 1.0)
        later = _decayed_by_quarter(
            groups,
            columns,
            (known_from - as_of) // QUARTER + 1,
            (occurred_at[events] - as_of) / QUARTER,
            weights,
            settings.half_life_days * DAY / QUARTER,
            len(horizon),
        )
        return {_LATER: later.astype(np.float32)}

    def _counted_events(self, histories: Histories) -> NDArray[np.int64]:
        """Return the numbers of the events that count: while its sale is open, one per user, sale and day."""
        is_open = self._is_open(histories.sales, histories.occurred_at)
        counts = _counts_once(
            histories.offsets, histories.sales, histories.occurred_at, histories.purchases, is_open, histories.n_sales
        )
        return np.flatnonzero(counts)

    def _is_open(self, sales: NDArray[np.int32], instants: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return whether each of the sales is open at the instant beside it."""
        return (self.catalogue.opens_at[sales] <= instants) & (instants < self.catalogue.closes_at[sales])

    def fit(self, statistics: Statistics, horizon: Horizon) -> "PopularityModel":
        """Return the model of the rates of the sales of the horizon."""
        has_attribute = self.metadata.features.counts
        events, later = statistics["events"], statistics.get(_LATER)
        return PopularityModel(self.settings, self.catalogue, has_attribute, horizon, events, later)

    def load(self, arrays: Mapping[str, np.ndarray], horizon: Horizon) -> "PopularityModel":
        """Return the model of saved arrays."""
        if _ATTRIBUTES in arrays:
            attributes = arrays[_ATTRIBUTES]
            shape = len(self.catalogue), int(attributes.max(initial=-1)) + 1
            has_attribute = csr_matrix((np.ones(len(attributes), np.float32), attributes, arrays[_OFFSETS]), shape)
        else:
            has_attribute = self.metadata.features.counts
        events, later = arrays["events"], arrays.get(_LATER)
        return PopularityModel(self.settings, self.catalogue, has_attribute, horizon, events, later)


_LATER = "later"
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
    later: NDArray[np.floating] | None = None
    """What it gains in the day after, see `Popularity.count_later`; None for a night, of which nothing later is known.
    """

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

    def counted_by(self, quarter: int) -> NDArray[np.float64]:
        """Return the decayed number of events from the horizon's instant to the beginning of a quarter, (n_sales,).

        Raises:
            ValueError: If the model is of a night.
        """
        if self.later is None:
            raise ValueError(f"as_of == {format_instant(self.horizon.as_of)}, must be the instant of a past day")
        counted = np.zeros(len(self.events))
        counted[self.horizon.sales] = self.later[quarter]
        return counted

    def write(self, histories: Histories, features: NDArray[np.float32], number: int) -> None:
        """Write the same rates for every user."""
        features[:, number] = self.rates

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the events of each sale."""
        later = {} if self.later is None else {_LATER: self.later.astype(np.float32)}
        return {"events": self.events.astype(np.float32), **later}

    def served_arrays(self) -> dict[str, np.ndarray]:
        """Return the attributes of each sale too."""
        return {**self.arrays(), _ATTRIBUTES: self.has_attribute.indices, _OFFSETS: self.has_attribute.indptr}


@compiled
def _counts_once(
    offsets: NDArray[np.int64],
    sales: NDArray[np.int32],
    occurred_at: NDArray[np.int64],
    purchases: NDArray[np.bool_],
    is_open: NDArray[np.bool_],
    n_sales: int,
) -> NDArray[np.bool_]:
    """Return which event counts for each user, sale and day (UTC): the last purchase, or else the last visit.

    Args:
        offsets: Of users' events, which are in order of time, shape (n_users + 1,).
        sales: Shape (n_events,).
        occurred_at: Shape (n_events,).
        purchases: Shape (n_events,).
        is_open: Whether the sale is open at that moment: other events do not count. Shape (n_events,).
        n_sales: Number of sales.
    """
    counts = np.zeros(len(sales), np.bool_)
    found = np.full(n_sales, len(sales))  # the event that counts so far, of the day in hand if before `end`
    for user in range(len(offsets) - 1):
        end, day = offsets[user + 1], np.int64(-1)
        for event in range(offsets[user + 1] - 1, offsets[user] - 1, -1):
            if occurred_at[event] // DAY != day:
                day = occurred_at[event] // DAY
                end = event + 1
            if is_open[event]:
                other = found[sales[event]]
                is_first = not (event < other < end)
                if is_first or (purchases[event] and not purchases[other]):
                    if not is_first:
                        counts[other] = False
                    counts[event] = True
                    found[sales[event]] = event
    return counts


@compiled
def _decayed_by_quarter(
    groups: NDArray[np.int64],
    columns: NDArray[np.int64],
    known_from: NDArray[np.int64],
    occurred_at: NDArray[np.float64],
    weights: NDArray[np.float64],
    half_life: float,
    n_columns: int,
) -> NDArray[np.float64]:
    """Return the decayed weight of the events that count at the beginning of each quarter, (N_QUARTERS, n_columns).

    Of each group, the last event that is known counts.

    Args:
        groups: Ascending, shape (n_events,).
        columns: Shape (n_events,).
        known_from: The first quarter at whose beginning each event is known.
        occurred_at: When each event occurred, in quarters.
        weights: Shape (n_events,).
        half_life: In quarters.
        n_columns: Number of columns.
    """
    found = np.zeros((N_QUARTERS, n_columns))
    fade = np.exp2(-1 / half_life)
    until = N_QUARTERS
    for event in range(len(groups) - 1, -1, -1):
        if event == len(groups) - 1 or groups[event] != groups[event + 1]:
            until = N_QUARTERS
        first = known_from[event]
        if first < until:
            left = weights[event] * np.exp2((occurred_at[event] - first) / half_life)
            for quarter in range(first, until):
                found[quarter, columns[event]] += left
                left *= fade
            until = first
    return found


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
