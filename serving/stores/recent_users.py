"""A table in shared memory of the users with recent events: it saves most reads of the session files."""

import mmap
from contextlib import suppress
from pathlib import Path
from zlib import crc32

from recsys.errors import StoreError
from recsys.instants import SECOND
from recsys.storage.local import reserve

_SLOTS = 1 << 20
_BYTES = 4 * _SLOTS


class RecentUsers:
    """Holds, by hash of the user, the second of the latest event; users with the same hash share a slot.

    Most users have no recent events. A read of LMDB costs more, and releases the interpreter to other threads.

    Without room on the disk there is no table: then every user may have events, and none can be noted.
    """

    def __init__(self, path: Path):
        self._path = path
        self._seconds: memoryview | None = None
        with suppress(StoreError):
            self._seconds = self._mapped()

    def note(self, key: bytes, instant: int) -> None:
        """Record the instant of a user's event, in microseconds since 1970 UTC.

        Raises:
            StoreError: If there is no table, and no room for one.
        """
        if self._seconds is None:
            self._seconds = self._mapped()
        slot = crc32(key) % _SLOTS
        self._seconds[slot] = max(self._seconds[slot], instant // SECOND + 1)

    def may_have_events(self, key: bytes, since: int) -> bool:
        """Tell whether a user may have an event at an instant or later; False is always right, True may be wrong."""
        return self._seconds is None or self._seconds[crc32(key) % _SLOTS] > since // SECOND

    def close(self) -> None:
        """Unmap the table."""
        if self._seconds is not None:
            self._seconds.release()
            self._seconds = None

    def _mapped(self) -> memoryview:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            reserve(self._path, _BYTES)
            with self._path.open("r+b") as file:
                return memoryview(mmap.mmap(file.fileno(), _BYTES)).cast("I")
        except OSError as error:
            raise StoreError(f"{self._path} cannot be written ({error.strerror}): make room") from None
