"""The store in files, for the processes of one machine; the default."""

import json
import math
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from recsys.errors import StoreError
from recsys.shop.live_counts import LiveCounts
from recsys.snapshot.format import Snapshot
from recsys.storage.local import held, write_whole
from serving.clocks import Clock
from serving.stores.base import Change, SessionEvent, WithdrawnSale
from serving.stores.folder_snapshots import FolderSnapshots
from serving.stores.sessions import SessionFiles
from serving.stores.shared_counter import SharedCounter
from serving.stores.withdrawals import Decisions, KnownSales, after, closed_as_unreadable, in_force, joined, shown_again


class _Stored(NamedTuple):
    """The content of the file of withdrawn sales."""

    decisions: dict[str, WithdrawnSale]
    unreadable: dict[str, Any]
    """By sale, the records that cannot be read: they are kept as they are."""


class FolderStore:
    """Reads snapshots where the nightly run publishes them, and keeps the rest in the service's own folder.

    <folder>/withdrawn.json   closed and hidden sales, and those shown again
             changes          number of changes of withdrawn.json, mapped into the memory of every process
             sessions/        events of running sessions and live counts, one LMDB file per day

    Every request reads the number of changes. So each process of the machine acknowledges a change by its next request:
    it has the change, or, where it cannot read the file, sends no page.
    """

    def __init__(self, snapshots: Path, folder: Path, clock: Clock):
        self._snapshots = FolderSnapshots(snapshots)
        self._file = folder / "withdrawn.json"
        self._changes = SharedCounter(folder / "changes")
        self._sessions = SessionFiles(folder / "sessions", clock)
        self._clock = clock
        self._known = KnownSales()
        self._version = -1
        """The number of changes as of which the file was read; -1 before the first time."""
        self._stat: object = None
        self._known_at = -math.inf
        self._reading = threading.RLock()

    def current(self) -> str | None:
        """Return the name of the snapshot to serve; None before the first one is published."""
        return self._snapshots.current()

    def open(self, name: str) -> Snapshot:
        """Open a snapshot and verify its files, unless the process that brought them here has done so."""
        return self._snapshots.open(name)

    def stamp(self, name: str) -> object:
        """Return a value that changes when a snapshot's files do."""
        return self._snapshots.stamp(name)

    def earlier(self) -> Sequence[str]:
        """Return the names of the snapshots published before the current one, the latest first."""
        return self._snapshots.earlier()

    def poll(self) -> None:
        """Read the file of withdrawn sales if it has changed, and write back what it has lost."""
        began = time.monotonic()
        with self._reading:
            version = self._changes.value()
            if version != self._version:
                self._read(version)
            elif self._file_state() != self._stat:  # by a person, or by a process that was killed before it said so
                self._read(version)
                if self._changes.increase() == version + 1:  # otherwise there is another change to be read
                    self._version = version + 1
        self._known_at = began
        self._known.check_readable(str(self._file))

    def known_at(self) -> float:
        """Return the instant of the monotonic clock as of which all withdrawn sales are known."""
        return self._known_at

    def version(self) -> int:
        """Return a number that changes whenever `withdrawn` does."""
        return self._changes.value()

    def withdrawn(self) -> Mapping[str, WithdrawnSale]:
        """Return the decisions about sales by id; while nothing changes and their file is damaged, the last known."""
        version = self._changes.value()
        if version != self._version:
            self._read(version)
        return self._known.withdrawn

    def withdraw(self, sale: WithdrawnSale) -> Change:
        """Close or hide a sale."""
        return self._decide(sale)

    def restore(self, sale_id: str) -> Change | None:
        """Show a hidden sale again; None for a sale that is not withdrawn."""
        now, known = self._clock(), self.withdrawn().get(sale_id)
        return self._decide(shown_again(sale_id, now)) if known is not None and known.is_withdrawn(now) else None

    def session(self, user_id: str, since: int) -> Sequence[SessionEvent]:
        """Return a user's events from an instant on, in the order in which they were added."""
        return self._sessions.get(user_id, since)

    def add_to_sessions(self, events: Mapping[str, Sequence[SessionEvent]]) -> None:
        """Add events to users' sessions and to the live counts."""
        self._sessions.add(events)

    def live_counts(self, since: int) -> LiveCounts:
        """Return what all processes of the machine have counted from the hour of an instant on."""
        return self._sessions.live_counts(since)

    def close(self) -> None:
        """Close the files."""
        self._sessions.close()
        self._changes.close()

    def _decide(self, new: WithdrawnSale) -> Change:
        """Write a decision, and announce it to the other processes; also again, for it may not have been announced."""
        sale_id = new.sale_id
        with self._reading:  # also while it is announced: `poll` would announce the same change again
            with self._held():
                stored = self._stored()
                known = joined(self._known.decisions, stored.decisions)
                if sale_id in stored.unreadable and not new.closed:
                    decision = closed_as_unreadable(sale_id)
                else:
                    decision = known[sale_id] = after(known.get(sale_id), new)
                    stored.unreadable.pop(sale_id, None)
                if known != stored.decisions:
                    self._write(known, stored.unreadable)
            self._read(self._changes.increase())
        return Change(decision)

    def _read(self, version: int) -> None:
        """Read the file, which holds at least the changes of a version."""
        with self._reading:
            stat = self._file_state()  # before the content: if that changes meanwhile, it is read again
            stored = self._stored()
            lost = self._known.learn(stored.decisions, stored.unreadable)
            self._stat, self._version = stat, version
        if lost:
            with self._held():
                stored = self._stored()
                self._write(joined(self._known.decisions, stored.decisions), stored.unreadable)

    @contextmanager
    def _held(self) -> Iterator[None]:
        try:
            with held(self._file.parent):
                yield
        except OSError as error:
            raise StoreError(f"{self._file} cannot be written ({error.strerror}): check the disk") from None

    def _file_state(self) -> object:
        try:
            stat = self._file.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino

    def _write(self, decisions: Decisions, unreadable: Mapping[str, Any]) -> None:
        """Write all decisions, and the records that cannot be read as they are."""
        kept = {sale_id: record for sale_id, record in unreadable.items() if sale_id not in decisions}
        records = {sale_id: sale.model_dump() for sale_id, sale in decisions.items()} | kept
        rows = [record for _, record in sorted(records.items())]
        write_whole(self._file, json.dumps(rows, indent=1))

    def _stored(self) -> _Stored:
        found = _Stored({}, {})
        try:
            records = json.loads(self._file.read_bytes())
            if not isinstance(records, list):
                raise TypeError(f"it holds a {type(records).__name__}, must hold a list of sales")
            for record in records:
                sale_id = str(record["sale_id"])
                try:
                    sale = WithdrawnSale.model_validate(record)
                    found.decisions[sale_id] = in_force(found.decisions.get(sale_id, sale), sale)
                except ValidationError:
                    found.unreadable[sale_id] = record
        except FileNotFoundError:
            if self._version < 0 < self._changes.value():
                raise StoreError(
                    f"{self._file} is gone, and {self._changes.value()} changes were made to it: closed sales would "
                    "open; restore it from a backup, or write [] into it if no sale is closed"
                ) from None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise StoreError(
                f"{self._file} cannot be read ({error}): correct it, or restore it from a backup; without it closed "
                "sales would open"
            ) from None
        return found
