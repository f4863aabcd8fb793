"""What the service keeps outside its processes: one small interface, whatever keeps it."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict

from recsys.snapshot.format import Snapshot


class WithdrawnSale(BaseModel):
    """A sale that is on no page, whatever its window."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sale_id: str
    closed: bool
    """Whether it was closed, which is final, rather than hidden."""
    since: int
    """Microseconds since 1970 UTC."""
    until: int | None = None
    """The instant from which it is shown again."""
    comment: str = ""
    by: str = ""
    """Who asked."""

    def is_withdrawn(self, now: int) -> bool:
        """Tell whether it is on no page at an instant."""
        return self.until is None or now < self.until


class SessionEvent(NamedTuple):
    """What a visitor did a moment ago."""

    sale_id: str
    is_purchase: bool
    occurred_at: int
    """Microseconds since 1970 UTC."""


class Store(Protocol):
    """Snapshots, withdrawn sales and running sessions; any number of threads may ask.

    A method raises StoreError where what it asks for is damaged or out of reach, unless it says otherwise.
    """

    def current(self) -> str | None:
        """Return the name of the snapshot to serve; None before the first one is published."""
        ...

    def open(self, name: str) -> Snapshot:
        """Open a snapshot, checked.

        Raises:
            SnapshotError: If it is absent or damaged.
        """
        ...

    def stamp(self, name: str) -> object:
        """Return what changes when a snapshot's files do: a damaged one is looked at again once it is mended."""
        ...

    def poll(self) -> None:
        """Look for what others changed; called some times a second."""
        ...

    def version(self) -> int:
        """Return a number that changes whenever `withdrawn` does: cheap enough for each request; never raises."""
        ...

    def withdrawn(self) -> Mapping[str, WithdrawnSale]:
        """Return the withdrawn sales by id."""
        ...

    def withdraw(self, sale: WithdrawnSale) -> None:
        """Add a withdrawn sale: every request that begins after this one has returned knows of it.

        A sale that is closed already stays as it was closed.
        """
        ...

    def restore(self, sale_id: str) -> None:
        """Remove a withdrawn sale, if it is one."""
        ...

    def session(self, user_id: str, since: int) -> Sequence[SessionEvent]:
        """Return what a user did from an instant on, at most a day ago, the latest last."""
        ...

    def add_to_sessions(self, events: Mapping[str, Sequence[SessionEvent]]) -> None:
        """Add what some users did."""
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...
