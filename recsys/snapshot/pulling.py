"""Takes the snapshots of a fleet from an object store to the disk of a machine, where they are mapped into memory.

    <root>/.pulled/<SHA-256>          a whole file of a snapshot that is being pulled
                   <SHA-256>.part     one that is being written
                   .lock              held by the one process of the machine that pulls
                   known.json         number of the entry that this machine follows, names of snapshots in the store

A snapshot appears in <root> whole and compared with its checksums, or not at all; so one that is damaged in the store
changes nothing here. A pull that was killed or failed goes on with the files that it has.
"""

import json
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from recsys.errors import SnapshotError, StoreError
from recsys.snapshot import store
from recsys.snapshot.format import MANIFEST, FileEntry, Snapshot, describe, parse_manifest, read_manifest
from recsys.snapshot.shared import FILES_AT_ONCE, Entry, SharedSnapshots
from recsys.snapshot.verified import is_verified, mark_verified, remove_marks
from recsys.storage.local import (
    held,
    put_in_place,
    remove_folder,
    scratch_folder,
    to_disk,
    tree_to_disk,
    write_whole,
)

_PULLED = ".pulled"
_KNOWN = "known.json"
_SHA256_DIGITS = 64
_RANGE = 16 << 20
"""Bytes of a request: eight at a time are held in memory."""


def pull(shared: SharedSnapshots, root: Path) -> Entry | None:
    """Bring the snapshot that a fleet serves to a folder of snapshots, and serve it there too.

    Snapshots that were in the store and are no more are removed here as well.

    Args:
        shared: The store.
        root: The folder of snapshots on this machine.

    Returns:
        What the fleet serves; None before the first publication, then nothing is changed.

    Raises:
        SnapshotError: If the snapshot is damaged in the store. Where the folder has none yet, an earlier one is served.
        StoreError: If the store does not answer, or the disk has no room.
    """
    with _pulling(root):
        entry, known = shared.newest(), _known(root)
        if entry is None or (known["number"] == entry.number and _is_served(root, entry.name)):
            return entry
        try:
            _fetch(shared, root, entry.name)
        except SnapshotError:
            if store.in_use(root) is None:
                _serve_earlier(shared, root, entry)
            raise
        store.follow(root, entry.publications)
        every = shared.names()
        for gone in {*known["names"]} - {*every, entry.name}:
            remove_folder(root / gone)
        remove_marks(root)
        write_whole(root / _PULLED / _KNOWN, json.dumps({"number": entry.number, "names": every}))
        return entry


def fetch(shared: SharedSnapshots, root: Path, name: str) -> None:
    """Bring a snapshot to a folder of snapshots, unless it is there already, in place of another one of that name.

    Raises:
        SnapshotError: If it is not in the store, or damaged there.
        StoreError: If the store does not answer, or the disk has no room.
    """
    with _pulling(root):
        _fetch(shared, root, name)


@contextmanager
def _pulling(root: Path) -> Iterator[None]:
    try:
        with held(root / _PULLED):
            yield
    except OSError as error:
        raise StoreError(f"{root} cannot be written ({error}): make room, or check the disk") from error


def _fetch(shared: SharedSnapshots, root: Path, name: str) -> None:
    content = shared.manifest_bytes(name)
    if content is None:
        raise SnapshotError(f"snapshot {name} is not in {shared}: publish one with 'recsys nightly'")
    manifest = parse_manifest(content, f"manifest {name} in {shared}")
    if _has(root / name, content):
        return
    missing = {entry.sha256: entry for entry in manifest.files.values()}
    here = {sha256: file for sha256, file in _verified_files(root).items() if sha256 in missing}
    here |= _download(shared, root / _PULLED, {sha: entry for sha, entry in missing.items() if sha not in here})
    with scratch_folder(root) as folder:
        for file, entry in manifest.files.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            os.link(here[entry.sha256], folder / file)
        (folder / MANIFEST).write_bytes(content)
        tree_to_disk(folder)
        with held(root):
            remove_folder(root / name)
            put_in_place(folder, root / name)
            mark_verified(root / name)
    for left in (root / _PULLED).iterdir():
        if len(left.name.removesuffix(".part")) == _SHA256_DIGITS:
            left.unlink()


def _has(snapshot: Path, content: bytes) -> bool:
    """Return whether a snapshot is here with this manifest, and whole; compared with its checksums once."""
    try:
        if (snapshot / MANIFEST).read_bytes() != content:
            return False
        if not is_verified(snapshot):
            Snapshot.open(snapshot)
            mark_verified(snapshot)
    except (OSError, SnapshotError):
        return False
    return True


def _verified_files(root: Path) -> dict[str, Path]:
    """Return the files of the snapshots that are here, by checksum, if they still are as when that was compared."""
    found: dict[str, Path] = {}
    for name in store.names(root):
        with suppress(SnapshotError):
            if is_verified(root / name):
                found |= {entry.sha256: root / name / file for file, entry in read_manifest(root / name).files.items()}
    return found


def _download(shared: SharedSnapshots, folder: Path, wanted: Mapping[str, FileEntry]) -> dict[str, Path]:
    """Return the places of files on this machine, after those that are not there yet were downloaded and compared."""
    sizes = shared.sizes() if wanted else {}
    for sha256, entry in wanted.items():
        if sizes.get(sha256) != entry.size:
            found = f"has {sizes[sha256]} bytes, must have {entry.size}" if sha256 in sizes else "is missing"
            raise SnapshotError(f"{shared.file(sha256)} {found}: push the snapshot again with 'recsys snapshots push'")
    missing = [sha256 for sha256 in wanted if not (folder / sha256).exists()]
    ranges = [(each, start) for each in missing for start in range(0, max(wanted[each].size, 1), _RANGE)]
    with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
        for sha256 in missing:
            (folder / f"{sha256}.part").write_bytes(b"")
        done = pool.map(lambda each: _download_range(shared, folder, each[0], each[1], wanted[each[0]].size), ranges)
        try:
            list(done)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
        list(pool.map(lambda each: _finish(shared, folder, each), missing))
    return {sha256: folder / sha256 for sha256 in wanted}


def _download_range(shared: SharedSnapshots, folder: Path, sha256: str, start: int, size: int) -> None:
    """Download a part of a file, to the disk at once: gigabytes that are written later would stop other writers."""
    if not size:
        return
    source: Any = shared.file(sha256)
    end = min(start + _RANGE, size)
    try:
        with shared.errors():
            content = source.fs.cat_file(source.path, start=start, end=end)
    except FileNotFoundError:
        raise SnapshotError(f"{source} was removed meanwhile: the next pull looks for a newer snapshot") from None
    if len(content) != end - start:
        raise StoreError(f"{source}: {len(content)} bytes came of {end - start}: the next pull tries again")
    with (folder / f"{sha256}.part").open("r+b") as file:
        file.seek(start)
        file.write(content)
    to_disk(folder / f"{sha256}.part")


def _finish(shared: SharedSnapshots, folder: Path, sha256: str) -> None:
    part = folder / f"{sha256}.part"
    if (found := describe(part).sha256) != sha256:
        part.unlink()
        raise SnapshotError(
            f"{shared.file(sha256)} is damaged, its SHA-256 is {found}: push the snapshot again with "
            "'recsys snapshots push' from a machine that has it whole, or run 'recsys nightly'"
        )
    part.rename(folder / sha256)


def _serve_earlier(shared: SharedSnapshots, root: Path, entry: Entry) -> None:
    """Serve the latest of the earlier snapshots that is whole, on a machine that has none."""
    for name in shared.earlier(entry):
        with suppress(SnapshotError):
            _fetch(shared, root, name)
            last = max(number for number, each in enumerate(entry.publications) if each.name == name)
            store.follow(root, entry.publications[: last + 1])
            return


def _is_served(root: Path, name: str) -> bool:
    try:
        return store.current(root) == name and is_verified(root / name)
    except SnapshotError:
        return False


def _known(root: Path) -> dict[str, Any]:
    try:
        return json.loads((root / _PULLED / _KNOWN).read_bytes())
    except (OSError, ValueError):
        return {"number": 0, "names": []}
