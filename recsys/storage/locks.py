"""One writer at a time in a folder on any store: by a lock of the operating system on a disk, by a lease elsewhere."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from recsys.errors import BusyError
from recsys.storage.journal import leased
from recsys.storage.local import held
from recsys.storage.places import Place

_PAUSE_S = 0.2


@contextmanager
def locked(folder: Place, wait: bool = True) -> Iterator[None]:
    """Lock a folder against other writers that lock it too; readers need no lock.

    In an object store a writer that slept for longer than its lease may write at the same time as the next one: where
    that would lose something, what is written must be created under a name of its own.

    Args:
        folder: The folder, created if absent.
        wait: Whether to wait until no other process or thread holds the lock.

    Raises:
        BusyError: If the lock is held elsewhere, and `wait` is False.
    """
    if isinstance(folder, Path):
        with held(folder, wait):
            yield
        return
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(leased(folder))
                break
            except BusyError:
                if not wait:
                    raise
                threading.Event().wait(_PAUSE_S)
        yield
