"""A table in shared memory of the users with recent events: it saves most reads of the session files."""

import mmap
from pathlib import Path
from zlib import crc32

from recsys.instants import SECOND

_SLOTS = 1 << 20
_BYTES = 4 * _SLOTS


class RecentUsers:
    """Holds, by hash of the user, the second of the latest event; users with the same hash share a slot.

    Most users have no recent events. A read of LMDB costs more, and releases the interpreter to other threads.
    """

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            file.truncate(_BYTES)
            self._memory = mmap.mmap(file.fileno(), _BYTES)
        self._seconds = memoryview(self._memory).cast("I")

    def note(self, key: bytes, instant: int) -> None:
        """Record the instant of a user's event, in microseconds since 1970 UTC."""
        slot = crc32(key) % _SLOTS
        self._seconds[slot] = max(self._seconds[slot], instant // SECOND + 1)

    def may_have_events(self, key: bytes, since: int) -> bool:
        """Tell whether a user may have an event at an instant or later; False is always right, True may be wrong."""
        return self._seconds[crc32(key) % _SLOTS] > since // SECOND

    def close(self) -> None:
        """Close the file."""
        self._seconds.release()
        self._memory.close()
