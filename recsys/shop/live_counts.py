"""Live counts: visits and purchases of each sale up to a moment ago, counted by minute when they are recorded.

What counts is the rule of `Popularity`: a user's events of one sale on one day (UTC) count once, as the last purchase,
or as the last visit of a day without a purchase. An event is counted in the minute in which it occurred; when a later
one takes its place, it is subtracted from there. So counts depend neither on the order in which events arrive nor on
how often one is delivered.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from recsys.instants import DAY, HOUR, LATEST, MINUTE

MAX_SALES = 10_000
"""Maximum number of sales counted in one minute: ids that callers invent must not make it too large to write."""

Event = tuple[str, bool, int]
"""The id of a sale, whether the event is a purchase, and when it occurred, in microseconds since 1970 UTC."""

CountsBySale = dict[str, Sequence[int]]
"""By sale id what counts in one minute: the number of visits, that of purchases, and for each of the two the sum of the
microseconds within the minute at which they occurred."""


def changes_of_counted(known: Iterable[Event], new: Iterable[Event]) -> tuple[list[Event], list[Event]]:
    """Return which of a user's new events count, and which of the known ones count no more.

    Args:
        known: The user's events on the days of the new ones, as far as they were counted before, in any order.
        new: The events that arrive, in any order; also ones that are known.
    """
    best: dict[tuple[str, int], tuple[bool, int]] = {}
    for sale_id, is_purchase, occurred_at in new:
        group = sale_id, occurred_at // DAY
        best[group] = max(best.get(group, (False, -1)), (is_purchase, occurred_at))
    before: dict[tuple[str, int], tuple[bool, int]] = {}
    for sale_id, is_purchase, occurred_at in known:
        group = sale_id, occurred_at // DAY
        if group in best:
            before[group] = max(before.get(group, (False, -1)), (is_purchase, occurred_at))
    changed = [group for group in best if group not in before or best[group] > before[group]]
    return (
        [(group[0], *best[group]) for group in changed],
        [(group[0], *before[group]) for group in changed if group in before],
    )


def changes_by_minute(added: Iterable[Event], subtracted: Iterable[Event]) -> dict[int, CountsBySale]:
    """Return what changes in each minute, in minutes since 1970 UTC, when events are counted and others no more."""
    changes: dict[int, dict[str, list[int]]] = defaultdict(dict)
    for events, sign in ((added, 1), (subtracted, -1)):
        for sale_id, is_purchase, occurred_at in events:
            minute, within = divmod(occurred_at, MINUTE)
            counts = changes[minute].setdefault(sale_id, [0, 0, 0, 0])
            counts[is_purchase] += sign
            counts[2 + is_purchase] += sign * within
    return changes  # type: ignore[return-value]  # lists are sequences


def change_minute(counts: CountsBySale, changes: CountsBySale) -> None:
    """Add changes to the counts of a minute; where events were lost that would be subtracted, counts stop at 0."""
    for sale_id, change in changes.items():
        if sale_id not in counts and len(counts) >= MAX_SALES:
            continue
        sums = [max(old + new, 0) for old, new in zip(counts.get(sale_id, (0, 0, 0, 0)), change, strict=True)]
        if sums[0] or sums[1]:
            counts[sale_id] = sums
        else:
            counts.pop(sale_id, None)


_Bounds = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class CountedHour:
    """What counts in the minutes of one hour, UTC: one row per minute and sale that has events, in no order."""

    hour: int  # since 1970
    minutes: NDArray[np.int64]  # (n_rows,) since 1970
    sales: NDArray[np.int32]  # (n_rows,) positions in the list of sales
    counts: NDArray[np.int64]  # (n_rows, 4) visits, purchases, and the sums of their microseconds within the minute
    _known: dict[tuple[float, float], tuple[_Bounds, NDArray[np.float64]]] = field(default_factory=dict, repr=False)
    """By half-life and weight, what the whole hour adds up to at its end, and the bounds within it."""

    def decayed(self, at: int, bounds: _Bounds, half_life_days: float, purchase_weight: float) -> NDArray[np.float64]:
        """Return the decayed weighted number of events of each sale before `at`, up to the last one that has any.

        What a whole hour adds up to at its end is computed once, and again where other bounds fall inside the hour.

        Args:
            at: The present, in microseconds since 1970 UTC.
            bounds: From when on, and until before when, events of each sale count, shape (2, n_sales).
            half_life_days: Half-life of the weight of an event, in days.
            purchase_weight: Weight of a purchase.
        """
        start, end = self.hour * HOUR, (self.hour + 1) * HOUR
        bounds = np.clip(bounds[:, : self._n_sales], start, min(at, end))
        if at < end:
            return self._decayed(at, bounds, half_life_days, purchase_weight)
        settings = half_life_days, purchase_weight
        known = self._known.get(settings)
        if known is None or not np.array_equal(known[0], bounds):
            known = self._known[settings] = bounds, self._decayed(end, bounds, half_life_days, purchase_weight)
        return np.exp2((end - at) / (half_life_days * DAY)) * known[1]

    @cached_property
    def _n_sales(self) -> int:
        return int(self.sales.max()) + 1

    def _decayed(self, at: int, bounds: _Bounds, half_life_days: float, purchase_weight: float) -> NDArray[np.float64]:
        events, within = self.counts[:, :2], self.counts[:, 2:]
        occurred_at = self.minutes[:, None] * MINUTE + within / np.maximum(events, 1)
        since, until = bounds[:, self.sales, None]
        is_inside = (since <= occurred_at) & (occurred_at < until)
        weights = np.exp2(np.where(is_inside, occurred_at - at, -np.inf) / (half_life_days * DAY))
        weighted = (events * weights) @ np.array([1, purchase_weight])
        return np.bincount(self.sales, weighted)  # type: ignore[return-value]  # floats, since there are weights

    @cached_property
    def n_events(self) -> int:
        """Number of visits and purchases that count."""
        return int(self.counts[:, :2].sum())


@dataclass(frozen=True)
class LiveCounts:
    """The visits and purchases that count, of the last two days at most; immutable."""

    sale_ids: Sequence[str] = ()
    """The sales that have events, in no particular order, those of `unknown_sales: record` included."""
    hours: Sequence[CountedHour] = ()
    """In ascending order; an hour without events is left out."""

    def decayed(
        self,
        at: int,
        since: int | NDArray[np.int64],
        half_life_days: float,
        purchase_weight: float,
        until: int | NDArray[np.int64] = LATEST,
    ) -> NDArray[np.float64]:
        """Return the decayed weighted number of events of each sale in [since, until) and before `at`, (n_sales,).

        A visit weighs 1 and a purchase `purchase_weight`, times 2^(-age / half life). The visits of a sale within one
        minute are taken at their mean instant, and so are its purchases: with a half-life of two days, an error of at
        most 7e-9 of the result. A bound within a minute is compared with the mean instant.

        Args:
            at: The present, in microseconds since 1970 UTC.
            since: Where the counts begin, such as the `as_of` of a snapshot, in microseconds since 1970 UTC; one for
                all sales, or one for each.
            half_life_days: Half-life of the weight of an event, in days.
            purchase_weight: Weight of a purchase.
            until: Where they end, such as the closing of each sale; one for all sales, or one for each.
        """
        found, bounds = np.zeros(len(self.sale_ids)), np.empty((2, len(self.sale_ids)), np.int64)
        bounds[0], bounds[1] = since, until
        for hour in self.hours:
            if hour.hour * HOUR < at:
                events = hour.decayed(at, bounds, half_life_days, purchase_weight)
                found[: len(events)] += events
        return found

    @property
    def n_events(self) -> int:
        """Number of visits and purchases that count."""
        return sum(hour.n_events for hour in self.hours)


class CountedMinutes:
    """The minutes of counts that a process has read so far; not to be used by two threads at once."""

    def __init__(self) -> None:
        self._position: dict[str, int] = {}
        """By sale id, in ascending order of the position."""
        self._hours: dict[int, CountedHour] = {}

    def replace(self, minutes: Mapping[int, Mapping[str, Sequence[int]]]) -> None:
        """Put the counts of some minutes in place of what was known of them; a minute without sales is removed."""
        position = self._position
        for hour, of_hour in groupby(sorted(minutes), key=lambda minute: minute // 60):
            changed = list(of_hour)
            rows = np.empty((sum(len(minutes[minute]) for minute in changed), 6), np.int64)
            end = 0
            for minute in changed:
                start, end = end, end + len(minutes[minute])
                rows[start:end, 0] = minute
                rows[start:end, 1] = [position.setdefault(sale_id, len(position)) for sale_id in minutes[minute]]
                rows[start:end, 2:] = list(minutes[minute].values()) or 0
            if known := self._hours.pop(hour, None):
                others = ~np.isin(known.minutes, changed)
                before = np.column_stack((known.minutes, known.sales, known.counts))[others]
                rows = np.concatenate((before, rows))
            if len(rows):
                counts = np.ascontiguousarray(rows[:, 2:])
                self._hours[hour] = CountedHour(hour, rows[:, 0].copy(), rows[:, 1].astype(np.int32), counts)

    def keep_days(self, days: Collection[int]) -> None:
        """Forget the minutes of all other days, in days since 1970 UTC, and the sales that have no other minutes."""
        kept = {hour: counted for hour, counted in self._hours.items() if hour // 24 in days}
        if len(kept) < len(self._hours):
            sales = np.unique(np.concatenate([np.empty(0, np.int32), *(counted.sales for counted in kept.values())]))
            sale_ids = list(self._position)
            self._position = {sale_ids[sale]: position for position, sale in enumerate(sales.tolist())}
            self._hours = {
                hour: CountedHour(hour, each.minutes, np.searchsorted(sales, each.sales).astype(np.int32), each.counts)
                for hour, each in kept.items()
            }

    def since(self, instant: int) -> LiveCounts:
        """Return the counts of all hours that end after an instant, in microseconds since 1970 UTC."""
        hours = [self._hours[hour] for hour in sorted(self._hours) if (hour + 1) * HOUR > instant]
        return LiveCounts(list(self._position), hours)
