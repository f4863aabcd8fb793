"""Log files: files of JSON lines that processes of the service write and a job takes away.

    <folder>/<name>-<utc time>-<pid>-<number>.jsonl.open   being written, under a lock that its writer holds
             <name>-<utc time>-<pid>-<number>.jsonl        finished: it never changes any more

An open file without a lock was left by a writer that died; its last line may be incomplete.
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


class LogFile:
    """A log file that this process writes; no other process appends to it.

    Every method raises OSError if the disk refuses.
    """

    def __init__(self, folder: Path, name: str):
        """Create the file in an existing folder; raises FileExistsError if a finished file has the name."""
        self.size = 0
        self._open_path, self._path = folder / f"{name}{_OPEN}", folder / f"{name}{_FINISHED}"
        with _exclusive(folder):  # between its creation and its lock a file looks like a dead writer's
            if self._path.exists():
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(self._path))
            self._file = os.open(self._open_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_EX)
            to_disk(folder)

    def write(self, lines: bytes) -> None:
        """Append whole lines, all or none."""
        if os.fstat(self._file).st_nlink == 0:  # writing would succeed, into a file that has no name any more
            raise FileNotFoundError(errno.ENOENT, "the log file was removed while open", str(self._open_path))
        written = 0
        try:
            while written < len(lines):
                written += os.write(self._file, lines[written:])
        except OSError:
            os.ftruncate(self._file, self.size)
            raise
        self.size += len(lines)

    def sync(self) -> None:
        """Wait until all lines written are on the disk."""
        os.fsync(self._file)

    def finish(self) -> None:
        """Give the file its final name, or remove it if it is empty; if that fails, `recover` does it later."""
        try:
            os.fsync(self._file)
            _rename_or_remove(self._open_path, self.size)
        finally:
            os.close(self._file)


def finished(folder: Path) -> list[Path]:
    """Return the finished log files of a folder, the oldest first."""
    return sorted(folder.glob(f"*{_FINISHED}"))


def recover(folder: Path) -> None:
    """Finish the log files that dead writers left in an existing folder; those of living writers are not touched."""
    with _exclusive(folder):
        for path in folder.glob(f"*{_OPEN}"):
            try:
                _recover(path)
            except (BlockingIOError, FileNotFoundError):  # its writer is alive, or has finished it meanwhile
                continue


def _recover(path: Path) -> None:
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _rename_or_remove(path, os.fstat(file.fileno()).st_size)


def _rename_or_remove(open_path: Path, size: int) -> None:
    """Give a log file its final name, or remove it if it is empty."""
    if size:
        open_path.rename(open_path.with_suffix(""))
    else:
        open_path.unlink()


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """Keep other processes from creating or recovering log files of a folder.

    The lock is on the folder itself; it is not that of `recsys.storage`, which a job holds while it compacts the files.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
