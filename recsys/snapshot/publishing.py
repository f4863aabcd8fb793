"""Changes which snapshot is served: in the folder of a machine, and in the object store that a fleet takes it from."""

import logging
from collections.abc import Container
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from recsys.errors import BusyError, SnapshotError
from recsys.snapshot import store
from recsys.snapshot.pulling import fetch, pull
from recsys.snapshot.shared import SharedSnapshots
from recsys.snapshot.store import ListedSnapshot, Publication

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Publisher:
    """What is published of a shop. Where the store does not answer, every method raises StoreError."""

    root: Path
    """The folder of snapshots on this machine, which mirrors the store as of the last `pull`."""
    shared: SharedSnapshots | None = None
    """The store; None for a shop on one disk, where `root` is all there is."""

    def pull(self) -> None:
        """Bring what the fleet serves to this machine.

        Raises:
            SnapshotError: If it is damaged in the store.
        """
        if self.shared is not None:
            pull(self.shared, self.root)

    def pull_if_whole(self) -> None:
        """Bring what the fleet serves to this machine; one that is damaged in the store is left there, with a warning.

        So a night can publish another one in its place.
        """
        try:
            self.pull()
        except SnapshotError as error:
            _log.warning(f"the snapshot that is served cannot be brought to this machine: {error}")

    def pull_all(self) -> None:
        """Bring all snapshots of the store to this machine; see `pull`."""
        if self.shared is not None:
            pull(self.shared, self.root)
            for name in self.shared.names():
                fetch(self.shared, self.root, name)

    def fetch(self, name: str) -> None:
        """Bring a snapshot of the store to this machine.

        Raises:
            SnapshotError: If it is not in the store, or damaged there.
        """
        if self.shared is not None:
            fetch(self.shared, self.root, name)

    def has(self, name: str) -> bool:
        """Return whether a snapshot still exists: on this machine, or in the store."""
        return (self.root / name).is_dir() or (self.shared is not None and name in self.shared.names())

    def keep(self, name: str) -> None:
        """Let every machine have a snapshot of this one, without serving it.

        If the store has another one of that name, that one is kept: names are those of all inputs and settings, so a
        driver that was killed wrote it for the same night.
        """
        if self.shared is not None and not self.shared.push(self.root / name):
            fetch(self.shared, self.root, name)

    def push_again(self) -> str:
        """Copy all files of this machine's current snapshot to the store, and return its name.

        Raises:
            SnapshotError: If there is none, it is damaged, or the store has another one of that name.
        """
        name = store.current(self.root)
        if name is None:
            raise SnapshotError(f"{self.root} has no current snapshot: publish one with 'recsys nightly'")
        if self.shared is not None and not self.shared.push(self.root / name, again=True):
            raise SnapshotError(f"{self.shared} has another snapshot named {name}: run 'recsys snapshots pull'")
        return name

    def in_use(self) -> tuple[str | None, datetime | None]:
        """Return name and `as_of` of the snapshot that is served, the latter None if it cannot be read."""
        if self.shared is None:
            found = store.in_use(self.root)
            return (found.name, found.as_of) if found else (None, None)
        entry = self.shared.newest()
        if entry is None:
            return None, None
        try:
            return entry.name, self.shared.manifest(entry.name).as_of
        except SnapshotError:
            return entry.name, None

    def publish(self, name: str, published_at: datetime, instead_of: str | None = None) -> None:
        """Serve a snapshot, see `store.publish`.

        Raises:
            SnapshotError: If there is no such snapshot, or it is damaged.
            BusyError: If another process published meanwhile, or another one than `instead_of` is served.
        """
        if self.shared is None:
            store.publish(self.root, name, published_at, instead_of)
            return
        if (self.root / name).is_dir():
            self.keep(name)
        self.shared.manifest(name)  # raises without one
        before = self.shared.newest()
        now = before.name if before else None
        if now != name:
            if instead_of not in (None, now):
                raise BusyError(
                    f"{now} took the place of {instead_of} meanwhile, so {name} is not published: run again"
                )
            publication = Publication(published_at=published_at, action="publish", name=name)
            self.shared.announce(before, [*(before.publications if before else ()), publication])
        self.pull()

    def rollback(self, rolled_back_at: datetime) -> str:
        """Serve the snapshot that was published before the current one, and return its name; see `store.rollback`.

        Raises:
            SnapshotError: If no earlier snapshot exists.
            BusyError: If another process published meanwhile.
        """
        if self.shared is None:
            return store.rollback(self.root, rolled_back_at)
        before = self.shared.newest()
        earlier = self.shared.earlier(before) if before else []
        if before is None or not earlier:
            raise SnapshotError(
                f"{self.shared} has no snapshot published before {before.name if before else 'the first'}, a rollback "
                "needs one: publish another with 'recsys nightly'"
            )
        publication = Publication(published_at=rolled_back_at, action="rollback", name=earlier[0])
        self.shared.announce(before, [*before.publications, publication])
        self.pull()
        return earlier[0]

    def replace(self, name: str, other: str) -> None:
        """Let a snapshot of this machine take the place of another one, and remove that; see `store.replace`.

        Raises:
            SnapshotError: If the store has another snapshot named `other`.
            BusyError: If another process published meanwhile.
        """
        if self.shared is not None:
            if not self.shared.push(self.root / other):
                raise SnapshotError(f"{self.shared} has another snapshot named {other}: run again")
            before = self.shared.newest()
            if before and any(each.name == name for each in before.publications):
                changed = [
                    each.model_copy(update={"name": other} if each.name == name else {}) for each in before.publications
                ]
                self.shared.announce(before, changed)
            self.shared.remove(name)
        store.replace(self.root, name, other)

    def prune(self, keep: int, keep_hourly: int, hourly: Container[str], at: datetime) -> None:
        """Remove all but the latest snapshots, see `store.prune`."""
        if self.shared is not None:
            self.shared.prune(keep, keep_hourly, hourly, at)
        store.prune(self.root, keep, keep_hourly, hourly)

    def listing(self) -> list[ListedSnapshot]:
        """Return all snapshots, see `store.listing`."""
        return store.listing(self.root) if self.shared is None else self.shared.listing()
