"""Atomic, durable changes of local files and folders: readers see the old state or the new one, never a partial one.

A writer creates a scratch folder, writes into it, and renames the result to its final name; a file that points to the
current state is replaced atomically. Both are on disk when the call returns. A killed process leaves the old state or
the new one, and at most a scratch folder:

    <folder>/.lock                locked by the one process that changes the folder; see `held`
             .tmp-<random>/       being written, or being removed
             .tmp-<random>.lock   locked by its writer; if it is free, a killed process left the folder of that name

Locks are those of `filelock`: the operating system releases them however a process ends, and a forked child does not
hold them.
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
    """Lock a folder against other writers that lock it too; readers need no lock.

    Args:
        folder: The folder, created if absent; its subfolders have locks of their own.
        wait: Whether to wait until no other process or thread holds the lock.

    Raises:
        BusyError: If the lock is held elsewhere, and `wait` is False.
        RuntimeError: If this thread holds the lock already: it would wait for itself.
    """
    create_folder(folder)
    try:
        lock = FileLock(folder / ".lock", fallback_to_soft=False).acquire(blocking=wait)
    except Timeout:
        raise BusyError(f"another run works in {folder}: wait for it to end, or give another 'folder'") from None
    with lock:
        yield


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """Create an empty folder in `parent` for writing, which readers ignore; remove it and its content at the end.

    The scratch folders of killed processes in `parent` are removed first; those of running processes stay. Every folder
    has a new name, as the Java side of a killed run may still be writing into an earlier one.

    Args:
        parent: The folder that the result will be in, so that `put_in_place` need not copy it; created if absent.
    """
    create_folder(parent)
    remove_leftovers(parent)
    folder = _random_hidden_path(parent)
    with _scratch_lock(folder):
        try:
            folder.mkdir()
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers(parent: Path) -> None:
    """Remove the scratch folders of killed processes; those of running ones, and files that cannot be removed, stay."""
    for name in {match[1] for path in parent.glob(".tmp-*") if (match := _SCRATCH.fullmatch(path.name))}:
        with suppress(OSError), _scratch_lock(parent / name, wait=False):
            shutil.rmtree(parent / name, ignore_errors=True)


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file atomically, replacing one of that name: readers find the old content or the new content.

    The new content is on disk on return. If writing fails or the process is killed, the old file is unchanged. Missing
    parent folders are created. If two processes write at the same time, the later one wins.

    Raises:
        OSError: If the file cannot be written.
    """
    with scratch_folder(path.parent) as scratch:
        new = scratch / path.name
        new.write_bytes(content.encode() if isinstance(content, str) else content)
        put_in_place(new, path)


def reserve(path: Path, size: int) -> None:
    """Create a file, or extend one, so that at least `size` bytes of it have their place on the disk.

    A file that is mapped into memory and written needs this: the kernel kills (SIGBUS) a process that writes where the
    disk has no room left. Bytes that the file already has stay; the others are 0.

    Raises:
        OSError: If the disk has no room; the file is then as before, or empty.
    """
    with path.open("ab") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        elif path.stat().st_size < size:  # macOS
            file.write(bytes(size - path.stat().st_size))


def put_in_place(source: Path, target: Path) -> None:
    """Rename a file or folder to its final name, atomically; it is on disk on return.

    Args:
        source: A file or folder in a scratch folder, or the scratch folder itself.
        target: The final name, on the same disk. An existing file is replaced; an existing folder must be removed
            before, see `remove_folder`.

    Raises:
        OSError: If it cannot be written or renamed, or if `target` is a folder that is not empty.
    """
    (tree_to_disk if source.is_dir() else to_disk)(source)
    create_folder(target.parent)
    source.rename(target)
    to_disk(target.parent)


def remove_folder(folder: Path) -> None:
    """Remove a folder if it exists, atomically: a reader who opens it finds all of it or nothing.

    A process that is killed meanwhile leaves the folder, or a hidden one that the next writer removes.
    """
    hidden = _random_hidden_path(folder.parent)
    with suppress(FileNotFoundError):
        folder.rename(hidden)
    shutil.rmtree(hidden, ignore_errors=True)


def tree_to_disk(folder: Path) -> None:
    """Wait until a folder and everything below it is on disk."""
    with ThreadPoolExecutor() as pool:  # a disk combines concurrent syncs: 0.2 ms per file instead of 1.7
        list(pool.map(to_disk, [*folder.rglob("*"), folder]))


def to_disk(path: Path) -> None:
    """Wait until the content of a file, or the list of names in a folder, is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def create_folder(folder: Path) -> None:
    """Create a folder and those above it, if absent; they are on disk on return."""
    if not folder.is_dir():
        create_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        to_disk(folder.parent)


def _random_hidden_path(parent: Path) -> Path:
    return parent / f".tmp-{secrets.token_hex(8)}"


@contextmanager
def _scratch_lock(folder: Path, wait: bool = True) -> Iterator[None]:
    """Hold the lock of a scratch folder: a file beside it, created before the folder and removed after it."""
    lock = folder.with_name(f"{folder.name}.lock")
    with FileLock(lock, blocking=wait, fallback_to_soft=False):
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
