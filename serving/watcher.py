"""Follows the current snapshot of a folder; requests see the old one or the new one, never neither."""

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from recsys import snapshot_store
from recsys.errors import SnapshotError
from recsys.snapshot import Snapshot
from serving.top_sales import TopSales

_log = logging.getLogger(__name__)


class SnapshotWatcher:
    """Loads what is published; a snapshot that cannot be served is refused, and the one before it stays.

    Args:
        root: The folder of snapshots; it may not be there yet.
        prepare: Makes a snapshot ready to serve; raises SnapshotError to refuse it.
        loaded: Called after each swap.
    """

    def __init__(self, root: Path, prepare: Callable[[Snapshot], TopSales], loaded: Callable[[], None]):
        self._root = root
        self._prepare = prepare
        self._loaded = loaded
        self._served: TopSales | None = None
        self._refused: object = None
        self._logged: set[str] = set()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def served(self) -> TopSales:
        """Return what answers requests now.

        Raises:
            SnapshotError: If no snapshot is loaded yet.
        """
        if self._served is None:
            raise SnapshotError(
                "no snapshot is loaded, the service needs one: publish it with 'recsys nightly', or see in "
                "the service's log why the published one was refused"
            )
        return self._served

    def poll(self) -> None:
        """Look once for a newly published snapshot, and load it."""
        name = None
        try:
            name = snapshot_store.current(self._root)
            if name is not None and not self._serves(name):
                self._load(self._root / name)
        except SnapshotError as error:
            self._warn(name or str(error), "refused: %s", error)
        except Exception:  # a bug in one snapshot must not end the watch
            self._warn(name or "", "refused snapshot %s: unexpected error", name, exc_info=True)

    def start(self, poll_seconds: float) -> None:
        """Poll in the background until stopped."""
        self._thread = threading.Thread(target=self._watch, args=(poll_seconds,), name="snapshots", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop polling."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self, poll_seconds: float) -> None:
        while not self._stopped.wait(poll_seconds):
            self.poll()

    def _serves(self, name: str) -> bool:
        return self._served is not None and self._served.snapshot.name == name

    def _load(self, path: Path) -> None:
        # Checksums read all of a snapshot: a refused one is read again only when its files have changed.
        state = _state(path)
        if state == self._refused:
            return
        self._refused = state
        self._served = self._prepare(Snapshot.open(path))
        self._refused = None
        self._loaded()
        _log.info("serving snapshot %s", path.name)

    def _warn(self, key: str, message: str, *values: object, exc_info: bool = False) -> None:
        if key not in self._logged:
            self._logged.add(key)
            _log.warning(f"{message}; %s", *values, self._meanwhile(), exc_info=exc_info)

    def _meanwhile(self) -> str:
        return f"still serving {self._served.snapshot.name}" if self._served else "no snapshot is served"


def _state(path: Path) -> object:
    found = []
    for file in sorted(path.rglob("*")):
        stat = file.stat()
        found.append((str(file), stat.st_size, stat.st_mtime_ns))
    return path, found
