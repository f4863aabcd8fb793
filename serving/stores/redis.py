"""The store in Redis, which the machines of a fleet share: users' rankings, withdrawn sales and running sessions.

    <prefix>current                     name of the snapshot to serve
    <prefix>snapshot:<name>             hash of the snapshot's files by name, without those of users; written last
    <prefix>snapshot:<name>:user:<id>   a user's rankings in the order of the policies, their history, and a CRC-32
    <prefix>withdrawn                   hash of the closed and hidden sales by id
    <prefix>withdrawn:version           number of changes of the withdrawn sales
    <prefix>session:<id>                list of a user's events, the latest last

Each machine copies the snapshot's files to its own disk and maps them into memory; users are fetched one by one.
"""

import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import orjson
import redis
from pydantic import ValidationError

from recsys.config.serving import StoreSettings
from recsys.errors import SnapshotError, StoreError
from recsys.instants import DAY, SECOND
from recsys.snapshot import store as snapshot_store
from recsys.snapshot.format import MANIFEST, Snapshot, is_of_users
from recsys.snapshot.users import MappedUsers, PackedUser, RecordLayout, UserPacking
from recsys.storage.local import put_in_place, scratch_folder
from serving.clocks import Clock
from serving.stores.base import SessionEvent, WithdrawnSale

_EXPIRY = 7 * DAY // SECOND
"""Seconds after which a snapshot expires: no rollback goes further back."""
_BATCH = 1000
_MAX_EVENTS = 100  # stored per session
_PAUSE_SECONDS = 1.0

_WITHDRAW = """
local known = redis.call('hget', KEYS[1], ARGV[1])
if not known or not cjson.decode(known).closed then redis.call('hset', KEYS[1], ARGV[1], ARGV[2]) end
"""
"""Closing is final: a concurrent hide must not replace it."""

Progress = Callable[[int, int], object]


class RedisStore:
    """Reads and writes a Redis server; while it is unreachable, at most one attempt per second waits for a timeout.

    Args:
        settings: Address, prefix and timeout.
        folder: The folder for copies of the snapshots' files.
        clock: Returns the present time.
        poll_seconds: The interval at which processes look for changes of the withdrawn sales.
    """

    def __init__(self, settings: StoreSettings, folder: Path, clock: Clock, poll_seconds: float = 0.2):
        self._settings = settings
        self._address = without_password(settings.url)
        self._folder = folder / "redis"
        self._clock = clock
        self._poll_seconds = poll_seconds
        self._server = _connect(settings)
        self._down_until, self._why = 0.0, ""
        self._polled_at = 0.0
        self._version = -1
        self._withdrawn: Mapping[str, WithdrawnSale] = {}
        self._refreshing, self._polling = threading.Lock(), threading.Lock()

    def current(self) -> str | None:
        """Return the name of the snapshot to serve; None before the first one is pushed."""
        name = self._get("current")
        return name.decode() if name else None

    def open(self, name: str) -> Snapshot:
        """Fetch the files of a snapshot, open it and verify its files."""
        folder = self._folder / name
        if folder.exists():
            try:
                return self._open_copy(name, folder)
            except SnapshotError:  # the local copy is damaged, the one in Redis may be intact
                shutil.rmtree(folder, ignore_errors=True)
        self._fetch(name, folder)
        return self._open_copy(name, folder)

    def stamp(self, name: str) -> object:
        """Return a value that changes when a snapshot is pushed again."""
        with self._store_errors():
            return name, self._server.hget(self._key(f"snapshot:{name}"), MANIFEST)

    def poll(self) -> None:
        """Read the withdrawn sales, if they have changed."""
        with self._polling:  # an older read of one thread must not replace a newer one of another
            began = time.monotonic()
            version = int(self._get("withdrawn:version") or 0)
            if version < self._version:  # Redis lost its data: closed sales must not open again
                version = self._write_back()
            if version != self._version:
                self._read_withdrawn(version)
            self._polled_at = began

    def _write_back(self) -> int:
        """Write the known withdrawn sales where Redis lacks them, and return the new version."""
        with self._store_errors(), self._server.pipeline(transaction=True) as pipeline:
            for sale_id, sale in self._withdrawn.items():
                pipeline.hsetnx(self._key("withdrawn"), sale_id, sale.model_dump_json())
            pipeline.set(self._key("withdrawn:version"), self._version + 1)
            pipeline.execute()
        return self._version + 1

    def _read_withdrawn(self, version: int) -> None:
        with self._store_errors():
            found = self._server.hgetall(self._key("withdrawn"))
        try:
            sales = [WithdrawnSale.model_validate_json(text) for text in found.values()]
        except ValidationError as error:
            raise StoreError(
                f"{self._key('withdrawn')} holds an entry that is not a sale ({error}): remove that field of the hash"
            ) from None
        self._withdrawn = {sale.sale_id: sale for sale in sales}
        self._version = version

    def version(self) -> int:
        """Return a number that changes whenever `withdrawn` does."""
        # The polling thread may be busy loading a snapshot: then requests poll.
        if time.monotonic() - self._polled_at > 2 * self._poll_seconds:
            with suppress(StoreError):
                self.poll()
        return self._version

    def withdrawn(self) -> Mapping[str, WithdrawnSale]:
        """Return the withdrawn sales by id, as of the last poll."""
        return self._withdrawn

    def withdraw(self, sale: WithdrawnSale) -> None:
        """Close or hide a sale."""
        with self._withdrawn_change() as pipeline:
            pipeline.eval(_WITHDRAW, 1, self._key("withdrawn"), sale.sale_id, sale.model_dump_json())

    def restore(self, sale_id: str) -> None:
        """Show a hidden sale again; no effect on a sale that is not withdrawn."""
        with self._withdrawn_change() as pipeline:
            pipeline.hdel(self._key("withdrawn"), sale_id)

    def session(self, user_id: str, since: int) -> Sequence[SessionEvent]:
        """Return a user's events from an instant on, in the order in which they were added."""
        with self._store_errors():
            rows = self._server.lrange(self._key("session:") + user_id, 0, -1)
        try:
            events = [SessionEvent(*orjson.loads(row)) for row in rows]
        except (ValueError, TypeError):
            raise StoreError(
                f"a key of {self._key('session:')}* holds no events: remove it, or wait until it expires within a day"
            ) from None
        # An event that is delivered twice counts once.
        return [event for event in dict.fromkeys(events) if event.occurred_at >= since]

    def add_to_sessions(self, events: Mapping[str, Sequence[SessionEvent]]) -> None:
        """Add events to users' sessions."""
        with self._store_errors(), self._server.pipeline() as pipeline:
            for user_id, of_user in events.items():
                key = self._key("session:") + user_id
                pipeline.rpush(key, *(orjson.dumps(list(event)) for event in of_user))
                pipeline.ltrim(key, -_MAX_EVENTS, -1)
                pipeline.expire(key, DAY // SECOND)
            pipeline.execute()

    def close(self) -> None:
        """Close the connections."""
        self._server.close()

    def user(self, key: str) -> bytes | None:
        """Return the stored record of a user; None for one without a ranking."""
        return self._get(key)

    def _get(self, key: str) -> bytes | None:
        with self._store_errors():
            found = self._server.get(self._key(key))
        assert not isinstance(found, str)  # the connection decodes nothing
        return found

    def _key(self, name: str) -> str:
        return self._settings.prefix + name

    @contextmanager
    def _store_errors(self) -> Iterator[None]:
        """Raise errors of Redis as StoreError; fail at once for a second after Redis was unreachable."""
        if time.monotonic() < self._down_until:
            raise StoreError(self._why)
        try:
            yield
        except redis.ResponseError as error:  # Redis is reachable, but a key has another type, or memory is full
            raise StoreError(f"{self._address} refuses a command ({error}): check its configuration") from None
        except redis.RedisError as error:
            self._why = f"{self._address} is out of reach ({error}): check that Redis runs"
            self._down_until = time.monotonic() + _PAUSE_SECONDS
            raise StoreError(self._why) from None

    @contextmanager
    def _withdrawn_change(self) -> Iterator[redis.client.Pipeline]:
        """Change the withdrawn sales in a transaction, then wait until every process of the fleet has polled."""
        with self._store_errors(), self._server.pipeline(transaction=True) as pipeline:
            yield pipeline
            pipeline.incr(self._key("withdrawn:version"))
            pipeline.execute()
        self.poll()
        time.sleep(3 * self._poll_seconds)

    def _open_copy(self, name: str, folder: Path) -> Snapshot:
        return Snapshot.open(folder, users=partial(_RedisUsers, self, f"snapshot:{name}:user:"))

    def _fetch(self, name: str, folder: Path) -> None:
        with self._store_errors():
            files = self._server.hgetall(self._key(f"snapshot:{name}"))
        if not files:
            raise SnapshotError(
                f"{self._key(f'snapshot:{name}')} is not in Redis: push it with 'recsys snapshots push'"
            )
        with scratch_folder(self._folder) as aside, self._refreshing:
            for file, data in files.items():
                assert isinstance(file, bytes)  # the connection decodes nothing
                assert isinstance(data, bytes)
                path = aside / file.decode()
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            try:
                put_in_place(aside, folder)
            except OSError:
                if not folder.exists():  # otherwise another process of this machine fetched it first
                    raise


class _RedisUsers:
    """The users of a snapshot in Redis."""

    def __init__(self, store: RedisStore, prefix: str, layout: RecordLayout):
        self._store = store
        self._prefix = prefix
        self._packing = UserPacking(layout)

    def find(self, user_id: str) -> PackedUser | None:
        """Return a user; None for one without a ranking."""
        data = self._store.user(self._prefix + user_id)
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
    server = _connect(settings, timeout=30.0)
    key = f"{settings.prefix}snapshot:{name}"
    try:
        manifest = (snapshot.path / MANIFEST).read_bytes()
        if server.hget(key, MANIFEST) != manifest:
            _push_users(server, snapshot, f"{key}:user:", progress)
            files = [MANIFEST, *(file for file in snapshot.manifest.files if not is_of_users(file))]
            server.hset(key, mapping={file: (snapshot.path / file).read_bytes() for file in files})
        server.expire(key, _EXPIRY)
        server.set(f"{settings.prefix}current", name)
    except redis.RedisError as error:
        raise StoreError(
            f"{without_password(settings.url)} is out of reach ({error}): check that Redis runs, then push again"
        ) from None
    finally:
        server.close()
    return name


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


def _connect(settings: StoreSettings, timeout: float | None = None) -> redis.Redis:
    seconds = timeout or settings.timeout_seconds
    return redis.Redis.from_url(settings.url, socket_timeout=seconds, socket_connect_timeout=seconds, retry=None)


def without_password(url: str) -> str:
    """Return an address without its user name and password."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
