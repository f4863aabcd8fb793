"""A counter in shared memory, whose changes all processes of a machine see at once."""

import mmap
import struct
from pathlib import Path

from recsys.storage.local import held

_NUMBER = struct.Struct("<Q")


class SharedCounter:
    """Counts in a memory-mapped file; reading it takes no system call."""

    def __init__(self, path: Path):
        self._folder = path.parent
        with held(self._folder), path.open("a+b") as file:
            if path.stat().st_size < _NUMBER.size:
                file.truncate(_NUMBER.size)
            self._memory = mmap.mmap(file.fileno(), _NUMBER.size)

    def value(self) -> int:
        """Return the number."""
        return _NUMBER.unpack_from(self._memory)[0]

    def increase(self) -> int:
        """Add 1, and return the number."""
        with held(self._folder):
            number = self.value() + 1
            _NUMBER.pack_into(self._memory, 0, number)
        return number

    def close(self) -> None:
        """Close the file."""
        self._memory.close()
