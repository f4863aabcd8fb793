"""The interface of stores: the state of the service outside its processes, in files or in Redis."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict

from recsys.shop.live_counts import LiveCounts
from recsys.snapshot.format import Snapshot


class WithdrawnSale(BaseModel):
    """A decision of staff about a sale: while it is closed or hidden, it is on no page, even within its window."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sale_id: str
    closed: bool
    """Whether the sale is closed, which is final; otherwise it is hidden."""
    since: int
    """The instant at which it was closed or hidden, in microseconds since 1970 UTC."""
    until: int | None = None
    """The instant from which, included, it is shown again, in microseconds since 1970 UTC; None where there is none."""
    comment: str = ""
    by: str = ""
    """The name of the caller who closed or hid it; empty where the service requires no authentication."""

    def is_withdrawn(self, now: int) -> bool:
        """Tell whether the sale is closed or hidden at an instant."""
        return self.until is None or now < self.until


class Change(NamedTuple):
    """The outcome of a decision about a sale."""

    sale: WithdrawnSale
    """The decision in force now: for a sale that was closed before, that closing."""
    unacknowledged: Sequence[str] = ()
    """The processes, HOST:PID:ID, that serve and may still show the sale: they have not acknowledged the decision."""
    stopped: Sequence[str] = ()
    """The processes that stopped vouching before they acknowledged it: cut off from the store, or killed."""


class SessionEvent(NamedTuple):
    """A visit or purchase of a running session."""

    sale_id: str
    is_purchase: bool
    occurred_at: int
    """Microseconds since 1970 UTC."""


class Store(Protocol):
    """Snapshots, withdrawn (closed or hidden) sales, running sessions and live counts; safe for use by many threads.

    Unless stated otherwise, a method raises StoreError where the data is damaged or the store is unreachable.
    """

    def current(self) -> str | None:
        """Return the name of the snapshot to serve; None before the first one is published."""
        ...

    def open(self, name: str) -> Snapshot:
        """Open a snapshot and verify its files.

        Raises:
            SnapshotError: If it is missing or damaged.
        """
        ...

    def stamp(self, name: str) -> object:
        """Return a value that changes when a snapshot's files do, so that a repaired snapshot is tried again."""
        ...

    def earlier(self) -> Sequence[str]:
        """Return the names of the snapshots published before the current one, the latest first."""
        ...

    def poll(self) -> None:
        """Look for changes by other processes, and acknowledge them; called several times a second by one thread.

        Raises:
            StoreError: Also if the record of a sale cannot be read: the sale is closed until it can.
        """
        ...

    def known_at(self) -> float:
        """Return the instant of the monotonic clock, in seconds, as of which all withdrawn sales are known.

        Minus infinity before they were read for the first time.
        """
        ...

    def version(self) -> int:
        """Return a number that changes whenever `withdrawn` does; cheap enough for each request; never raises."""
        ...

    def withdrawn(self) -> Mapping[str, WithdrawnSale]:
        """Return the decisions about sales by id; some have ended, see `is_withdrawn`.

        Raises:
            StoreError: If they were never read, or are known to have changed and cannot be read.
        """
        ...

    def withdraw(self, sale: WithdrawnSale) -> Change:
        """Close or hide a sale; takes effect for every request that begins after this call has returned.

        Requests to a process that the result names are excepted. A sale that is already closed stays unchanged.
        """
        ...

    def restore(self, sale_id: str) -> Change | None:
        """Show a hidden sale again; a sale that is closed stays closed. None for a sale that is not withdrawn."""
        ...

    def session(self, user_id: str, since: int) -> Sequence[SessionEvent]:
        """Return a user's events from an instant on, at most a day ago, in the order in which they were added."""
        ...

    def add_to_sessions(self, events: Mapping[str, Sequence[SessionEvent]]) -> None:
        """Add events to users' sessions and to the live counts; one that is delivered again counts once."""
        ...

    def live_counts(self, since: int) -> LiveCounts:
        """Return what all processes have counted from the hour of an instant on; cheap while little has changed.

        Counts are of today and yesterday (UTC). They begin at 0 when the store has lost them.
        """
        ...

    def close(self) -> None:
        """Close files and connections."""
        ...
