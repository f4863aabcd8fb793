"""Visits and purchases of a sale by the hour, from the events of the last night."""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc

from recsys.instants import DAY, HOUR, from_micros, to_micros
from recsys.snapshot.format import SnapshotSale
from recsys.storage.outputs import Outputs
from recsys.tables.event_parts import parts_of_days
from recsys.tables.parts import read_part

MOST_HOURS = 7 * 24
_EVENTS = "events"
_BATCH_ROWS = 200_000
_COLUMNS = ("sale_id", "kind", "occurred_at")


class Hour(NamedTuple):
    """What was counted in an hour."""

    start: datetime
    visits: int
    purchases: int


def events_by_hour(outputs: Outputs, sale: SnapshotSale, as_of: datetime) -> list[Hour]:
    """Return the hours in which a sale was open before a night, at most the last MOST_HOURS, the earliest first.

    Args:
        outputs: Of the night.
        sale: The sale.
        as_of: The instant of the night, whose events are known.
    """
    until = min(to_micros(as_of), to_micros(sale.closes_at))
    since = max(to_micros(sale.opens_at) // HOUR * HOUR, until - MOST_HOURS * HOUR)
    n_hours = max(-(-(until - since) // HOUR), 0)
    if not n_hours or not (outputs / _EVENTS).exists():
        return []
    counts = np.zeros((2, n_hours), np.int64)
    for name in parts_of_days(outputs / _EVENTS, range(since // DAY * DAY, until, DAY)):
        for batch in read_part(outputs / _EVENTS, name, _BATCH_ROWS, _COLUMNS):
            own = batch.filter(pc.equal(batch.column("sale_id"), sale.sale_id))
            instants = own.column("occurred_at").cast("int64").to_numpy()
            bought = pc.equal(own.column("kind"), "purchase").to_numpy(zero_copy_only=False)
            is_within = (instants >= since) & (instants < until)
            hours = (instants[is_within] - since) // HOUR
            np.add.at(counts, (bought[is_within].astype(np.int64), hours), 1)
    start = from_micros(since).astimezone(UTC)
    return [
        Hour(start + timedelta(hours=hour), int(visits), int(purchases))
        for hour, (visits, purchases) in enumerate(counts.T)
    ]
