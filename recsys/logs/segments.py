"""Segments: files of JSON lines that processes of the service write and a job takes away.

    <folder>/<name>-<utc time>-<pid>-<number>.jsonl.open   being written, under a lock that its writer holds
             <name>-<utc time>-<pid>-<number>.jsonl        finished: it never changes again

Whatever is open without a lock was left by a writer that died; its last line may be torn.
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recsys.storage.local import to_disk

_FINISHED = ".jsonl"
_OPEN = ".jsonl.open"


class Segment:
    """A segment that this process writes; nobody else ever appends to it.

    Every method raises OSError where the disk refuses.
    """

    def __init__(self, folder: Path, name: str):
        """Create the segment in an existing folder; raises FileExistsError where the name was given before."""
        self.size = 0
        self._open_path, self._path = folder / f"{name}{_OPEN}", folder / f"{name}{_FINISHED}"
        with _exclusive(folder):  # between its making and its lock a segment looks like a dead writer's
            if self._path.exists():
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(self._path))
            self._file = os.open(self._open_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
            fcntl.flock(self._file, fcntl.LOCK_EX)
            to_disk(folder)

    def write(self, lines: bytes) -> None:
        """Append whole lines, all or none."""
        if os.fstat(self._file).st_nlink == 0:  # writing would succeed, into a file that nobody will ever read
            raise FileNotFoundError(errno.ENOENT, "somebody removed the segment", str(self._open_path))
        written = 0
        try:
            while written < len(lines):
                written += os.write(self._file, lines[written:])
        except OSError:
            os.ftruncate(self._file, self.size)
            raise
        self.size += len(lines)

    def sync(self) -> None:
        """Wait until all that was written is on the disk."""
        os.fsync(self._file)

    def finish(self) -> None:
        """Give the segment its final name, or remove it if it is empty; where that fails, `recover` does it later."""
        try:
            os.fsync(self._file)
            _settle(self._open_path, self.size)
        finally:
            os.close(self._file)


def finished(folder: Path) -> list[Path]:
    """Return the finished segments of a folder, the oldest first."""
    return sorted(folder.glob(f"*{_FINISHED}"))


def recover(folder: Path) -> None:
    """Finish what dead writers left in an existing folder; those who live are not disturbed."""
    with _exclusive(folder):
        for path in folder.glob(f"*{_OPEN}"):
            try:
                _recover(path)
            except (BlockingIOError, FileNotFoundError):  # its writer lives, or has finished it meanwhile
                continue


def _recover(path: Path) -> None:
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _settle(path, os.fstat(file.fileno()).st_size)


def _settle(open_path: Path, size: int) -> None:
    if size:
        open_path.rename(open_path.with_suffix(""))
    else:
        open_path.unlink()


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """Keep others from making or recovering segments of a folder.

    The folder itself is locked: a job that compacts its segments holds it, meanwhile, in the sense of `recsys.storage`.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
