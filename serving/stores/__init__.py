"""Stores: the state of the service that outlives a process."""

from pathlib import Path

from recsys.config.serving import StoreSettings
from serving.clocks import Clock
from serving.stores.base import Store
from serving.stores.folder import FolderStore


def open_store(settings: StoreSettings, folder: Path, clock: Clock) -> Store:
    """Open the store that the settings name.

    Args:
        settings: The store's settings.
        folder: The shop's folder.
        clock: Returns the present time.
    """
    if settings.kind == "redis":
        from serving.stores.redis import RedisStore

        return RedisStore(settings, folder / "serving", clock)
    return FolderStore(folder / "snapshots", folder / "serving", clock)
