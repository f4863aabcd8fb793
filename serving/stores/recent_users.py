"""Which users did something lately: a table in shared memory that says no without a look into the session files."""

import mmap
from pathlib import Path
from zlib import crc32

from recsys.instants import SECOND

_SLOTS = 1 << 20
_BYTES = 4 * _SLOTS


class RecentUsers:
    """Holds, by hash of the user, the second of the latest event; users with the same hash share a place.

    A look into LMDB costs more, and lets other threads have the interpreter: most users did nothing lately.
    """

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            file.truncate(_BYTES)
            self._memory = mmap.mmap(file.fileno(), _BYTES)
        self._seconds = memoryview(self._memory).cast("I")

    def note(self, key: bytes, instant: int) -> None:
        """Note an event of a user."""
        slot = crc32(key) % _SLOTS
        self._seconds[slot] = max(self._seconds[slot], instant // SECOND + 1)

    def may_have_events(self, key: bytes, since: int) -> bool:
        """Tell whether a user may have an event at an instant or later; always right when it says no."""
        return self._seconds[crc32(key) % _SLOTS] > since // SECOND

    def close(self) -> None:
        """Let go of the file."""
        self._seconds.release()
        self._memory.close()
