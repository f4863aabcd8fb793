"""Files and folders of this machine that are written whole, then pointed to: what is half-written is never found.

Whoever writes asks for a scratch folder, writes into it, and puts the result in its place; a file that names what is in
force is replaced whole. Both are on the disk when the call returns. A process that is killed, however, leaves the old
state or the new one, and at most a scratch folder:

    <folder>/.lock                one process at a time changes the folder; see `held`
             .tmp-<random>/       being written, or being removed
             .tmp-<random>.lock   held by who writes it: what lies under a free lock was left by a killed process

Locks are those of `filelock`: the system frees them however a process ends, and a forked child holds none.
"""

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from recsys.errors import BusyError

_SCRATCH = re.compile(r"(\.tmp-[0-9a-f]{16})(?:\.lock)?")


@contextmanager
def held(folder: Path, wait: bool = True) -> Iterator[None]:
    """Hold a folder, so that nobody else who asks for it changes it meanwhile; readers need not ask.

    Args:
        folder: Made if absent. Folders in it are held on their own.
        wait: Whether to wait until no other process or thread holds it.

    Raises:
        BusyError: If it is held, and `wait` is False.
        RuntimeError: If this thread holds it already, and would wait for itself.
    """
    _make_folder(folder)
    try:
        lock = FileLock(folder / ".lock", fallback_to_soft=False).acquire(blocking=wait)
    except Timeout:
        raise BusyError(f"another run works in {folder}: wait for it to end, or give another 'folder'") from None
    with lock:
        yield


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """Give an empty folder below `parent` to write in, which no reader looks into, and remove what is left of it.

    What killed processes left in `parent` is removed first; the scratch folder of a living one stays. The name is
    another one each time: the Java side of a killed run may still be writing into the last one.

    Args:
        parent: Where the result will lie, so that `put_in_place` need not copy it; made if absent.
    """
    _make_folder(parent)
    remove_leftovers(parent)
    folder = _name_out_of_sight(parent)
    with _held_by_its_writer(folder):
        try:
            folder.mkdir()
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers(parent: Path) -> None:
    """Remove the scratch folders of killed processes; those of living ones, and what cannot be removed, stay."""
    for name in {match[1] for path in parent.glob(".tmp-*") if (match := _SCRATCH.fullmatch(path.name))}:
        with suppress(OSError), _held_by_its_writer(parent / name, wait=False):
            shutil.rmtree(parent / name, ignore_errors=True)


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file, in place of the one of that name: readers find the old content or the new.

    The new content is on the disk on return. Where the disk refuses, or the process is killed, the old file stays as it
    was. Folders above are made; of two who write at once, the later one counts.

    Raises:
        OSError: If the disk refuses.
    """
    with scratch_folder(path.parent) as scratch:
        aside = scratch / path.name
        aside.write_bytes(content.encode() if isinstance(content, str) else content)
        put_in_place(aside, path)


def put_in_place(source: Path, target: Path) -> None:
    """Give what was written aside its name: it is there whole, and on the disk on return, or it is not there.

    Args:
        source: A file or folder below a scratch folder, or the scratch folder itself.
        target: On the same disk. A file takes the place of a file; a folder's name must be free, see `remove_folder`.

    Raises:
        OSError: If the disk refuses, or if a folder that is not empty has the name.
    """
    (tree_to_disk if source.is_dir() else to_disk)(source)
    _make_folder(target.parent)
    source.rename(target)
    to_disk(target.parent)


def remove_folder(folder: Path) -> None:
    """Remove a folder, if there is one: a reader who opens it finds all of it or nothing.

    A process that is killed meanwhile leaves the folder, or a leftover that the next writer removes.
    """
    gone = _name_out_of_sight(folder.parent)
    with suppress(FileNotFoundError):
        folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def tree_to_disk(folder: Path) -> None:
    """Wait until a folder and all that is below it is on the disk."""
    with ThreadPoolExecutor() as pool:  # a disk writes at once what several wait for: 0.2 ms a file instead of 1.7
        list(pool.map(to_disk, [*folder.rglob("*"), folder]))


def to_disk(path: Path) -> None:
    """Wait until the content of a file is on the disk, or of a folder the names that it holds."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        to_disk(folder.parent)


def _name_out_of_sight(parent: Path) -> Path:
    return parent / f".tmp-{secrets.token_hex(8)}"


@contextmanager
def _held_by_its_writer(folder: Path, wait: bool = True) -> Iterator[None]:
    """Hold the lock beside a scratch folder, which is there before the folder is and goes after it."""
    lock = folder.with_name(f"{folder.name}.lock")
    with FileLock(lock, blocking=wait, fallback_to_soft=False):
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
