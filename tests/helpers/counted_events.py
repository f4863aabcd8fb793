"""Live counts of whole histories, and what they must be: the reference for what stores count event by event."""

from collections.abc import Mapping, Sequence

from recsys.instants import DAY
from recsys.shop.live_counts import CountedMinutes, Event, LiveCounts, change_minute, changes_by_minute


def counts_by_sale(counts: LiveCounts) -> dict[str, tuple[int, int]]:
    """Return the number of visits and of purchases that count, by sale."""
    found: dict[str, list[int]] = {}
    for hour in counts.hours:
        for sale, (visits, purchases, *_) in zip(hour.sales.tolist(), hour.counts.tolist(), strict=True):
            sums = found.setdefault(counts.sale_ids[sale], [0, 0])
            sums[0] += visits
            sums[1] += purchases
    return {sale_id: (visits, purchases) for sale_id, (visits, purchases) in found.items()}


def counted_once(events: Mapping[str, Sequence[Event]]) -> list[Event]:
    """Return the events that count: of each user, sale and day the last purchase, or the last visit without one."""
    best: dict[tuple[str, str, int], Event] = {}
    for user_id, of_user in events.items():
        for event in sorted(set(of_user), key=lambda event: event[1:]):
            best[user_id, event[0], event[2] // DAY] = event
    return list(best.values())


def live_counts(events: Sequence[Event]) -> LiveCounts:
    """Return the counts of events that all count."""
    minutes = {}
    for minute, changes in changes_by_minute(events, []).items():
        change_minute(minutes.setdefault(minute, {}), changes)
    counted = CountedMinutes()
    counted.replace(minutes)
    return counted.since(0)
