"""The store in files, for the processes of one machine; the default."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from recsys.errors import StoreError
from recsys.snapshot import store as snapshot_store
from recsys.snapshot.format import Snapshot
from recsys.storage.local import held, write_whole
from serving.clocks import Clock
from serving.stores.base import SessionEvent, WithdrawnSale
from serving.stores.sessions import SessionFiles
from serving.stores.shared_counter import SharedCounter

_WITHDRAWN = TypeAdapter(list[WithdrawnSale])


class FolderStore:
    """Reads snapshots where the nightly run publishes them, and keeps the rest in the service's own folder.

    <folder>/withdrawn.json   closed and hidden sales
             changes          number of changes of withdrawn.json, mapped into the memory of every process
             sessions/        events of running sessions, one LMDB file per day
    """

    def __init__(self, snapshots: Path, folder: Path, clock: Clock):
        self._snapshots = snapshots
        self._file = folder / "withdrawn.json"
        self._changes = SharedCounter(folder / "changes")
        self._sessions = SessionFiles(folder / "sessions", clock)
        self._known: Mapping[str, WithdrawnSale] | None = None

    def current(self) -> str | None:
        """Return the name of the snapshot to serve; None before the first one is published."""
        return snapshot_store.current(self._snapshots)

    def open(self, name: str) -> Snapshot:
        """Open a snapshot and verify its files."""
        return Snapshot.open(self._snapshots / name)

    def stamp(self, name: str) -> object:
        """Return a value that changes when a snapshot's files do."""
        try:
            files = sorted((self._snapshots / name).rglob("*"))
            return name, [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        except FileNotFoundError:  # removed in the meantime
            return name

    def poll(self) -> None:
        """Check that the withdrawn sales can be read; their changes are announced by the shared counter."""
        self._known = self._read_withdrawn()

    def version(self) -> int:
        """Return a number that changes whenever `withdrawn` does."""
        return self._changes.value()

    def withdrawn(self) -> Mapping[str, WithdrawnSale]:
        """Return the withdrawn sales by id; while their file is damaged, the last ones that could be read."""
        try:
            self._known = self._read_withdrawn()
        except StoreError:
            if self._known is None:
                raise
        return self._known

    def withdraw(self, sale: WithdrawnSale) -> None:
        """Close or hide a sale."""
        self._change({sale.sale_id: sale})

    def restore(self, sale_id: str) -> None:
        """Show a hidden sale again; no effect on a sale that is not withdrawn."""
        self._change({sale_id: None})

    def session(self, user_id: str, since: int) -> Sequence[SessionEvent]:
        """Return a user's events from an instant on, in the order in which they were added."""
        return self._sessions.get(user_id, since)

    def add_to_sessions(self, events: Mapping[str, Sequence[SessionEvent]]) -> None:
        """Add events to users' sessions."""
        self._sessions.add(events)

    def close(self) -> None:
        """Close the files."""
        self._sessions.close()
        self._changes.close()

    def _change(self, changes: Mapping[str, WithdrawnSale | None]) -> None:
        try:
            with held(self._file.parent):
                known = self._read_withdrawn()
                closed = {sale_id: sale for sale_id, sale in known.items() if sale.closed and changes.get(sale_id)}
                sales = {**known, **changes, **closed}  # closing is final: a concurrent hide must not replace it
                known = {sale_id: sale for sale_id, sale in sorted(sales.items()) if sale}
                write_whole(self._file, _WITHDRAWN.dump_json(list(known.values()), indent=1))
                self._known = known
        except OSError as error:
            raise StoreError(f"{self._file} cannot be written ({error.strerror}): check the disk") from None
        self._changes.increase()

    def _read_withdrawn(self) -> Mapping[str, WithdrawnSale]:
        try:
            sales = _WITHDRAWN.validate_json(self._file.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValidationError) as error:
            raise StoreError(f"{self._file} cannot be read ({error}): correct or remove it") from None
        return {sale.sale_id: sale for sale in sales}
