"""Snapshots on the disk of a machine: where a night publishes them, or where they are pulled from an object store."""

from collections.abc import Sequence
from pathlib import Path

from recsys.snapshot import store as snapshot_store
from recsys.snapshot.format import Snapshot
from recsys.snapshot.verified import is_verified


class FolderSnapshots:
    """Reads the snapshots of a folder.

    Args:
        root: The folder of snapshots.
    """

    def __init__(self, root: Path):
        self._root = root

    def current(self) -> str | None:
        """Return the name of the snapshot to serve; None before the first one is published."""
        return snapshot_store.current(self._root)

    def open(self, name: str) -> Snapshot:
        """Open a snapshot and verify its files, unless the process that brought them here has done so."""
        path = self._root / name
        return Snapshot.open(path, verify=not is_verified(path))

    def stamp(self, name: str) -> object:
        """Return a value that changes when a snapshot's files do."""
        try:
            files = sorted((self._root / name).rglob("*"))
            return name, [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        except FileNotFoundError:  # removed in the meantime
            return name

    def earlier(self) -> Sequence[str]:
        """Return the names of the snapshots published before the current one, the latest first."""
        return snapshot_store.published_before_current(self._root)
