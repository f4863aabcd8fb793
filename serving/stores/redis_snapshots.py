"""Snapshots in Redis: pushed there by the night, fetched by each machine, users read one by one."""

import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import redis

from recsys.config.serving import StoreSettings
from recsys.errors import SnapshotError, StoreError
from recsys.instants import DAY, SECOND
from recsys.snapshot import store as snapshot_store
from recsys.snapshot.format import MANIFEST, Snapshot, is_of_users, parse_manifest, read_manifest
from recsys.snapshot.users import MappedUsers, PackedUser, RecordLayout, UserPacking
from recsys.storage.local import put_in_place, scratch_folder
from serving.stores.redis_server import RedisServer, connect, text_of, why_failed, without_password

_EXPIRY = 7 * DAY // SECOND
"""Seconds after which a snapshot expires: no rollback goes further back."""
_BATCH = 1000
_MAX_EARLIER = 9

Progress = Callable[[int, int], object]


class RedisSnapshots:
    """Reads the snapshots of a Redis server.

    Args:
        server: The server.
        folder: The folder for copies of the snapshots' files.
    """

    def __init__(self, server: RedisServer, folder: Path):
        self._server = server
        self._folder = folder
        self._fetching = threading.Lock()

    def current(self) -> str | None:
        """Return the name of the snapshot to serve; None before the first one is pushed."""
        name = self._server.get("current")
        return _checked_name(name) if name else None

    def open(self, name: str) -> Snapshot:
        """Fetch the files of a snapshot, open it and verify its files."""
        folder = self._folder / _checked_name(name.encode())
        if folder.exists():
            try:
                return self._open_copy(folder)
            except SnapshotError:  # the local copy is damaged, the one in Redis may be intact
                shutil.rmtree(folder, ignore_errors=True)
        self._fetch(name, folder)
        return self._open_copy(folder)

    def stamp(self, name: str) -> object:
        """Return a value that changes when a snapshot is pushed again."""
        with self._server.errors():
            return name, self._server.client.hget(self._server.key(f"snapshot:{name}"), MANIFEST)

    def earlier(self) -> Sequence[str]:
        """Return the names of the snapshots published before the current one, the latest first."""
        with self._server.errors():
            current = self._server.client.get(self._server.key("current"))
            names: Sequence[Any] = self._server.client.lrange(self._server.key("published"), 0, -1)
        return [text_of(name) for name in names if name != current and snapshot_store.is_name(text_of(name))]

    def _open_copy(self, folder: Path) -> Snapshot:
        return Snapshot.open(folder, users=partial(_RedisUsers, self._server, _users_key(folder)))

    def _fetch(self, name: str, folder: Path) -> None:
        key = self._server.key(f"snapshot:{name}")
        with self._server.errors():
            manifest: Any = self._server.client.hget(key, MANIFEST)  # bytes: the connection decodes nothing
        if manifest is None:
            raise SnapshotError(f"{key} is not in Redis: push it with 'recsys snapshots push'")
        names = [file for file in parse_manifest(manifest, key).files if not is_of_users(file)]
        with self._server.errors():
            contents: Sequence[Any] = self._server.client.hmget(key, names)
        try:
            self._write_copy(folder, {MANIFEST: manifest, **dict(zip(names, contents, strict=True))})
        except OSError as error:  # says nothing about the snapshot: it is tried again
            raise StoreError(f"{folder} cannot be written ({error.strerror}): check the disk") from None

    def _write_copy(self, folder: Path, files: Mapping[str, bytes | None]) -> None:
        with scratch_folder(self._folder) as aside, self._fetching:
            for file, data in files.items():
                if data is None:
                    raise SnapshotError(f"{folder.name} in Redis lacks {file}, which its manifest lists: push it again")
                path = aside / file  # within the folder: the manifest was checked
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            try:
                put_in_place(aside, folder)
            except OSError:
                if not folder.exists():  # otherwise another process of this machine fetched it first
                    raise


class _RedisUsers:
    """The users of a snapshot in Redis."""

    def __init__(self, server: RedisServer, prefix: str, layout: RecordLayout):
        self._server = server
        self._prefix = prefix
        self._packing = UserPacking(layout)

    def find(self, user_id: str) -> PackedUser | None:
        """Return a user; None for one without a ranking."""
        data = self._server.get(self._prefix + user_id)
        return None if data is None else self._packing.unpack(data)

    def sample(self, count: int) -> Sequence[str]:  # noqa: ARG002
        """Return no users: Redis could only find some by a scan of all keys."""
        return []


def push(settings: StoreSettings, snapshots: Path, progress: Progress) -> str:
    """Copy the current snapshot to Redis, make it the one that the fleet serves, and return its name.

    Idempotent: a snapshot that is already in Redis is not copied again, and an interrupted push can be repeated.

    Args:
        settings: The store's settings.
        snapshots: The folder of snapshots.
        progress: Called with the number of users copied so far and in all.

    Raises:
        SnapshotError: If there is no current snapshot, or it is damaged.
        StoreError: If Redis is unreachable.
    """
    name = snapshot_store.current(snapshots)
    if name is None:
        raise SnapshotError(f"{snapshots} has no current snapshot: publish one with 'recsys nightly'")
    snapshot = Snapshot.open(snapshots / name)
    server = connect(settings, timeout=30.0)
    key = f"{settings.prefix}snapshot:{name}"
    try:
        manifest = (snapshot.path / MANIFEST).read_bytes()
        if server.hget(key, MANIFEST) != manifest:
            if not _has_users_of(server, settings.prefix, snapshot):
                _push_users(server, snapshot, f"{settings.prefix}{_users_key(snapshot.path)}", progress)
            files = [MANIFEST, *(file for file in snapshot.manifest.files if not is_of_users(file))]
            server.hset(key, mapping={file: (snapshot.path / file).read_bytes() for file in files})
        server.expire(key, _EXPIRY)
        _point_at(server, settings.prefix, name)
    except redis.RedisError as error:
        raise StoreError(f"{why_failed(without_password(settings.url), error)}, then push again") from None
    finally:
        server.close()
    return name


def _users_key(folder: Path) -> str:
    """Return what the keys of a snapshot's users begin with: a refreshed snapshot shares those of its night."""
    return f"snapshot:{read_manifest(folder, with_users=False).users_of or folder.name}:user:"


def _has_users_of(server: redis.Redis, prefix: str, snapshot: Snapshot) -> bool:
    """Return whether the users of a refreshed snapshot are in Redis, as those of its night: their files are equal."""
    night: Any = server.hget(f"{prefix}snapshot:{snapshot.manifest.users_of}", MANIFEST)
    if night is None:
        return False
    files = parse_manifest(night, "the night's manifest").files
    return all(files.get(name) == entry for name, entry in snapshot.manifest.files.items() if is_of_users(name))


def _point_at(server: redis.Redis, prefix: str, name: str) -> None:
    """Make a snapshot the current one; after a rollback, those published after it are no longer among the earlier."""
    published = server.lrange(f"{prefix}published", 0, -1)
    earlier = published[published.index(name.encode()) + 1 :] if name.encode() in published else published
    with server.pipeline(transaction=True) as pipeline:
        pipeline.delete(f"{prefix}published")
        pipeline.rpush(f"{prefix}published", name, *earlier[:_MAX_EARLIER])
        pipeline.set(f"{prefix}current", name)
        pipeline.execute()


def _push_users(server: redis.Redis, snapshot: Snapshot, prefix: str, progress: Progress) -> None:
    users = snapshot.users
    assert isinstance(users, MappedUsers)
    packing = UserPacking(users.layout)
    for start in range(0, len(users.index), _BATCH):
        rows = range(start, min(start + _BATCH, len(users.index)))
        with server.pipeline(transaction=False) as pipeline:
            for row in rows:
                key = prefix.encode() + users.index.user_id(row)
                pipeline.set(key, packing.pack(users, row), ex=_EXPIRY)
            pipeline.execute()
        progress(rows.stop, len(users.index))


def _checked_name(name: bytes) -> str:
    if not snapshot_store.is_name(text_of(name)):
        raise SnapshotError(f"current == {text_of(name)!r} in Redis, must be a snapshot's name: push a snapshot again")
    return name.decode()
