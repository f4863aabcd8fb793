"""Stores: the state of the service that outlives a process."""

from pathlib import Path

from recsys.config.serving import StoreSettings
from serving.clocks import Clock
from serving.stores.base import Store
from serving.stores.folder import FolderStore
from serving.stores.folder_snapshots import FolderSnapshots


def open_store(settings: StoreSettings, folder: Path, clock: Clock, poll_seconds: float) -> Store:
    """Open the store that the settings name.

    Args:
        settings: The store's settings.
        folder: The folder of the shop on this machine's disk.
        clock: Returns the present time.
        poll_seconds: The interval between calls of `poll`.
    """
    if settings.kind == "redis":
        from serving.stores.redis import RedisStore

        on_disk = FolderSnapshots(folder / "snapshots") if settings.has_snapshots_on_disk else None
        return RedisStore(settings, folder / "serving", clock, poll_seconds, on_disk)
    return FolderStore(folder / "snapshots", folder / "serving", clock)
