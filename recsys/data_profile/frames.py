"""The aggregates of a shop's tables that a data profile is made of: few rows, however many users there are."""

from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd


class Repeats(NamedTuple):
    """Purchases of a sale that the user had bought before, in an earlier session."""

    all: int
    soon: int
    """Those within `hours` of the purchase before."""
    hours: float


class Photos(NamedTuple):
    """How many photos of a sample were there when they were looked for."""

    tried: int
    readable: int


@dataclass(frozen=True)
class ProfileFrames:
    """Aggregates of tables sales, sale_images and events; instants in microseconds since 1970 UTC."""

    hours: pd.DataFrame
    """One row per hour and kind with events: hour (its start), kind, events, open_events (those while their sale was
    open)."""
    users: pd.DataFrame
    """One row per number of events and of purchases of a user: events, purchases (2: two or more), users."""
    sales: pd.DataFrame
    """One row per sale: sale_id, title, opens_at, closes_at, has_price, has_attributes, photos (their number), cover
    (address or None), events, first_event, last_event (0 where it has no event)."""
    repeats: Repeats
    times_of_day: tuple[str, ...]
    """Times of day of the events in UTC: all of them if there are one or two, otherwise three."""
