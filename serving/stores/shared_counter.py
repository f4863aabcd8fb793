"""A counter in shared memory, whose changes all processes of a machine see at once."""

import mmap
import struct
from pathlib import Path

from recsys.errors import StoreError
from recsys.storage.local import held, reserve

_NUMBER = struct.Struct("<Q")


class SharedCounter:
    """Counts in a memory-mapped file; reading it takes no system call.

    Raises:
        StoreError: If the file cannot be created or has no room on the disk.
    """

    def __init__(self, path: Path):
        self._folder = path.parent
        try:
            with held(self._folder):
                reserve(path, _NUMBER.size)
            with path.open("r+b") as file:
                self._memory = mmap.mmap(file.fileno(), _NUMBER.size)
        except OSError as error:
            raise StoreError(f"{path} cannot be written ({error.strerror}): make room, or check the disk") from None

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
