"""Where the service keeps what outlives a process."""

from pathlib import Path

from recsys.serving_settings import StoreSettings
from serving.clocks import Clock
from serving.stores.base import Store
from serving.stores.folder import FolderStore


def open_store(settings: StoreSettings, folder: Path, clock: Clock) -> Store:
    """Open the store that the settings name.

    Args:
        settings: Of the store.
        folder: The shop's.
        clock: What time it is.
    """
    if settings.kind == "redis":
        from serving.stores.redis import RedisStore

        return RedisStore(settings, folder / "serving", clock)
    return FolderStore(folder / "snapshots", folder / "serving", clock)
