"""A number in a file that all processes of a machine see change at once."""

import fcntl
import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NUMBER = struct.Struct("<Q")


class SharedCounter:
    """Counts up in shared memory: reading takes no system call."""

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        with _locked(self._file.fileno()):
            if path.stat().st_size < _NUMBER.size:
                self._file.truncate(_NUMBER.size)
        self._memory = mmap.mmap(self._file.fileno(), _NUMBER.size)

    def value(self) -> int:
        """Return the number."""
        return _NUMBER.unpack_from(self._memory)[0]

    def increase(self) -> None:
        """Add 1."""
        with _locked(self._file.fileno()):
            _NUMBER.pack_into(self._memory, 0, self.value() + 1)

    def close(self) -> None:
        """Let go of the file."""
        self._memory.close()
        self._file.close()


@contextmanager
def _locked(file: int) -> Iterator[None]:
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)
