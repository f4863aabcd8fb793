"""Removes a user from published snapshots: each is written again without the user, and takes the old one's place."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from recsys.errors import SnapshotError
from recsys.snapshot import store
from recsys.snapshot.format import MANIFEST, Manifest, describe, is_of_users, read_manifest
from recsys.snapshot.publishing import Publisher
from recsys.snapshot.users import EVENTS, HASHES, OFFSETS, ROWS, UserIndex, encode_user, mapped, unpack_history
from recsys.snapshot.writer import put_under_free_name
from recsys.storage.local import held, scratch_folder, tree_to_disk


def erase_from_snapshots(publisher: Publisher, user_id: str) -> list[str]:
    """Remove a user's rankings and history from all snapshots of a shop, and return the names of the new ones.

    Those in an object store are brought to this machine first. A service goes on with the old snapshot until it has
    loaded the new one. If the process is killed, `current` names a whole snapshot, and a second call does what is left.

    Raises:
        SnapshotError: If a snapshot is damaged, so that it cannot be told whether it holds the user.
    """
    publisher.pull_all()
    user, names = encode_user(user_id), store.names(publisher.root)
    return [new for name in names if (new := _without_user(publisher, name, user))]


def _without_user(publisher: Publisher, name: str, user_id: bytes) -> str | None:
    root = publisher.root
    path = root / name
    try:
        manifest = read_manifest(path)
    except SnapshotError as error:
        raise SnapshotError(f"{error}; or remove {path}, and erase the user again") from None
    row = UserIndex(path).row(user_id)
    if row is None:
        return None
    with scratch_folder(root) as folder:
        for file in manifest.files:
            if not is_of_users(file):
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                os.link(path / file, folder / file)
        n_visits = _write_users_without(path, folder, row, manifest)
        changes: dict[str, Any] = {"n_users": manifest.n_users - 1, "n_visits": n_visits, "users_of": None}
        changes["files"] = {file: describe(folder / file) for file in manifest.files}
        (folder / MANIFEST).write_text(manifest.model_copy(update=changes).to_json(), "utf-8")
        tree_to_disk(folder)
        with held(root):
            new = put_under_free_name(folder, root, name)
    publisher.replace(name, new)
    return new


def _write_users_without(path: Path, folder: Path, row: int, manifest: Manifest) -> int | None:
    """Write the files of users without those of a row, and return the number of visits that are left."""
    events = mapped(path / "history_events.bin", EVENTS)
    start, end = mapped(path / "history_offsets.bin", OFFSETS)[row : row + 2].tolist()
    _copy_without(path, folder, "history_events.bin", start * EVENTS.itemsize, end * EVENTS.itemsize)
    _write_offsets(path, folder, "history_offsets.bin", row)
    first, last = mapped(path / "user_id_offsets.bin", OFFSETS)[row : row + 2].tolist()
    _copy_without(path, folder, "user_ids.bin", first, last)
    _write_offsets(path, folder, "user_id_offsets.bin", row)
    for policy in manifest.policies:
        size = (path / f"ranking_{policy}.bin").stat().st_size // manifest.n_users
        _copy_without(path, folder, f"ranking_{policy}.bin", row * size, (row + 1) * size)
    rows, hashes = mapped(path / "user_rows.bin", ROWS), mapped(path / "user_hashes.bin", HASHES)
    others = rows != row
    (rows[others] - (rows[others] > row).astype(ROWS)).tofile(folder / "user_rows.bin")
    hashes[others].tofile(folder / "user_hashes.bin")
    if manifest.n_visits is None:
        return None
    return manifest.n_visits - int(np.count_nonzero(~unpack_history(events[start:end]).purchases))


def _write_offsets(path: Path, folder: Path, name: str, row: int) -> None:
    offsets = mapped(path / name, OFFSETS)
    removed = offsets[row + 1] - offsets[row]
    np.concatenate((offsets[: row + 1], offsets[row + 2 :] - removed)).tofile(folder / name)


def _copy_without(path: Path, folder: Path, name: str, start: int, end: int) -> None:
    """Copy a file without its bytes from `start` to `end`."""
    with (path / name).open("rb") as source, (folder / name).open("wb") as target:
        for chunk in _chunks(source.fileno(), 0, start):
            target.write(chunk)
        for chunk in _chunks(source.fileno(), end, os.fstat(source.fileno()).st_size):
            target.write(chunk)


def _chunks(file: int, start: int, end: int) -> Iterator[bytes]:
    for position in range(start, end, 1 << 24):
        yield os.pread(file, min(1 << 24, end - position), position)
