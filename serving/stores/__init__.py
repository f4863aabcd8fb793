"""Where the service keeps what outlives a process."""

from pathlib import Path

from recsys.config.serving import StoreSettings
from serving.clocks import Clock
from serving.stores.base import Store
from serving.stores.folder import FolderStore


def open_store(settings: StoreSettings, folder: Path, clock: Clock, poll_seconds: float) -> Store:
    """Open the store that the settings name.

    Args:
        settings: Of the store.
        folder: The shop's.
        clock: What time it is.
        poll_seconds: How often `poll` is called.
    """
    if settings.kind == "redis":
        from serving.stores.redis import RedisStore

        return RedisStore(settings, folder / "serving", clock, poll_seconds)
    return FolderStore(folder / "snapshots", folder / "serving", clock)
