"""The store in Redis, which the machines of a fleet share: users' rankings, withdrawn sales and running sessions.

    <prefix>current                     name of the snapshot to serve
    <prefix>snapshot:<name>             hash of the snapshot's files by name, without those of users; written last
    <prefix>snapshot:<name>:user:<id>   a user's rankings in the order of the policies, their history, and a CRC-32
    <prefix>published                   list of the snapshots served so far, the current one first
    <prefix>withdrawn                   hash of the closed and hidden sales by id, and of those shown again
    <prefix>withdrawn:version           a random number, another one after each change of the withdrawn sales
    <prefix>withdrawn:changes           list of the latest of these numbers, the latest first
    <prefix>leases                      hash of the serving processes: the version that each one has applied (`ended`
                                        for one that has ended), and the millisecond until which it vouches for it
    <prefix>session:<id>                list of a user's events, the latest last

Each machine copies the snapshot's files to its own disk and maps them into memory; users are fetched one by one.

Each process reads the withdrawn sales into its memory whenever their version differs from the one that it has applied,
and acknowledges it by its lease; requests read memory alone. Versions are random, not counted: after a failover to a
replica that lags behind, a counter would count to the same number again. Whether a process has applied a change is
decided by the list of changes: what Redis has lost is not in it, and acknowledges nothing. A process writes back the
decisions that it knows and Redis has lost, and remembers the leases that it has seen.
"""

import math
import os
import secrets
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import redis
from pydantic import ValidationError

from recsys.config.serving import StoreSettings
from recsys.errors import ConfigurationError, SnapshotError, StoreError
from recsys.instants import DAY, SECOND
from recsys.snapshot import store as snapshot_store
from recsys.snapshot.format import MANIFEST, Snapshot, is_of_users, parse_manifest
from recsys.snapshot.users import MappedUsers, PackedUser, RecordLayout, UserPacking
from recsys.storage.local import put_in_place, scratch_folder
from serving.clocks import Clock
from serving.stores.base import Change, SessionEvent, WithdrawnSale
from serving.stores.withdrawals import KnownSales, after, closed_as_unreadable, in_force, shown_again

USERNAME_VARIABLE = "RECSYS_REDIS_USERNAME"
PASSWORD_VARIABLE = "RECSYS_REDIS_PASSWORD"
_EXPIRY = 7 * DAY // SECOND
"""Seconds after which a snapshot expires: no rollback goes further back."""
_BATCH = 1000
_MAX_EVENTS = 100  # stored per session
_PAUSE_SECONDS = 1.0

_MAX_EARLIER = 9
_FORGOTTEN_SECONDS = 600.0
"""Time after which a process that has stopped vouching is no longer named."""
_WAIT_SECONDS = 0.01
_ENDED = b"ended"
_SPARE_SECONDS = 1.0
"""Time for which a lease outlasts the vouching of its process, so that no process vouches without one."""

_REPLACE = """
local changed = 0
for i = 2, #ARGV, 3 do
    if (redis.call('hget', KEYS[1], ARGV[i]) or '') == ARGV[i + 1] then
        redis.call('hset', KEYS[1], ARGV[i], ARGV[i + 2])
        changed = changed + 1
    end
end
if changed > 0 then
    redis.call('set', KEYS[2], ARGV[1])
    redis.call('lpush', KEYS[3], ARGV[1])
    redis.call('ltrim', KEYS[3], 0, 199)
end
return changed
"""
"""Writes records of sales that are still as the writer has read them, and then a new version; returns their number."""

_RENEW = """
local time = redis.call('time')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('hset', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. string.format('%.0f', now + ARGV[3]))
return {redis.call('get', KEYS[2]) or '', now, redis.call('hgetall', KEYS[1])}
"""
"""Renews the lease of a process; returns the version, the present in milliseconds, and all leases."""

Progress = Callable[[int, int], object]


class RedisStore:
    """Reads and writes a Redis server; while it is unreachable, at most one attempt per second waits for a timeout.

    Args:
        settings: Address, prefix and timeout.
        folder: The folder for copies of the snapshots' files.
        clock: Returns the present time.
        poll_seconds: The interval at which every process calls `poll`.
    """

    def __init__(self, settings: StoreSettings, folder: Path, clock: Clock, poll_seconds: float = 0.2):
        self._settings = settings
        self._poll_seconds = poll_seconds
        self._address = without_password(settings.url)
        self._folder = folder / "redis"
        self._clock = clock
        self._server = connect(settings)
        self._replace = self._server.register_script(_REPLACE)
        self._renew = self._server.register_script(_RENEW)
        self._renewed_keys = [self._key("leases"), self._key("withdrawn:version")]
        self._down_until, self._why = 0.0, ""
        self.process = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._known = KnownSales()
        self._known_at = -math.inf
        self._applied = b""
        """The version in Redis up to which all decisions are known; empty before the first change."""
        self._is_read = False
        """Whether that version was read since the process started, and since it last decided something itself."""
        self._leases: dict[str, _Lease] = {}
        self._fetching, self._reading, self._noting = threading.Lock(), threading.Lock(), threading.Lock()

    def current(self) -> str | None:
        """Return the name of the snapshot to serve; None before the first one is pushed."""
        name = self._get("current")
        return _checked_name(name) if name else None

    def open(self, name: str) -> Snapshot:
        """Fetch the files of a snapshot, open it and verify its files."""
        folder = self._folder / _checked_name(name.encode())
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

    def earlier(self) -> Sequence[str]:
        """Return the names of the snapshots published before the current one, the latest first."""
        with self._store_errors():
            current = self._server.get(self._key("current"))
            names: Sequence[Any] = self._server.lrange(self._key("published"), 0, -1)
        return [_text(name) for name in names if name != current and snapshot_store.is_name(_text(name))]

    def poll(self) -> None:
        """Renew the lease of the process, and read the withdrawn sales if they have changed."""
        self._read_changes()
        self._known.check_readable(f"{self._address}: {self._key('withdrawn')}")

    def known_at(self) -> float:
        """Return the instant of the monotonic clock as of which all withdrawn sales are known."""
        return self._known_at

    def version(self) -> int:
        """Return a number that changes whenever `withdrawn` does."""
        return self._known.version

    def withdrawn(self) -> Mapping[str, WithdrawnSale]:
        """Return the decisions about sales by id, as of the last poll."""
        if self._known_at == -math.inf:
            raise StoreError(f"{self._address}: the closed sales were not read yet, no page is sent before")
        return self._known.withdrawn

    def withdraw(self, sale: WithdrawnSale) -> Change:
        """Close or hide a sale."""
        return self._decide(sale)

    def restore(self, sale_id: str) -> Change | None:
        """Show a hidden sale again; None for a sale that is not withdrawn."""
        self._read_changes()
        now, known = self._clock(), self.withdrawn().get(sale_id)
        return self._decide(shown_again(sale_id, now)) if known is not None and known.is_withdrawn(now) else None

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
        """End the lease, and close the connections."""
        if self._known_at > -math.inf:
            with suppress(redis.RedisError):
                self._renew(self._renewed_keys, [self.process, _ENDED, 0])
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
    def _store_errors(self, waits: bool = False) -> Iterator[None]:
        """Raise errors of Redis as StoreError.

        Args:
            waits: Whether the caller may wait for a timeout; others fail at once for a second after one.
        """
        if not waits and time.monotonic() < self._down_until:
            raise StoreError(self._why)
        try:
            yield
        except redis.RedisError as error:
            self._why = _why(self._address, error)
            if not isinstance(error, redis.ResponseError):
                self._down_until = time.monotonic() + _PAUSE_SECONDS
            raise StoreError(self._why) from None

    def _read_changes(self) -> None:
        """Renew the lease; read the decisions if their version is another one, then acknowledge that version."""
        with self._reading, self._store_errors(waits=True):
            began = time.monotonic()
            version = self._renew_lease()
            if version != self._applied or not self._is_read:
                self._applied = self._read_decisions()
                self._is_read = True
                self._renew_lease()
            self._known_at = began

    def _renew_lease(self) -> bytes:
        """Acknowledge what is applied, note the leases of all processes, and return the version in Redis."""
        milliseconds = int(1000 * (self._settings.vouch_seconds + _SPARE_SECONDS))
        version, now, rows = self._renew(self._renewed_keys, [self.process, self._applied, milliseconds])
        self._note_leases(now, dict(zip(rows[::2], rows[1::2], strict=True)))
        return version

    def _read_decisions(self) -> bytes:
        """Learn the decisions in Redis, write back those that it has lost, and return their version."""
        while True:
            with self._server.pipeline(transaction=True) as pipeline:
                pipeline.get(self._key("withdrawn:version"))
                pipeline.hgetall(self._key("withdrawn"))
                version, records = pipeline.execute()
            stored = {_text(sale_id): _parsed(sale_id, record) for sale_id, record in records.items()}
            readable = {sale_id: sale for sale_id, sale in stored.items() if sale is not None}
            lost = self._known.learn(readable, stored.keys() - readable.keys())
            if not lost:
                return version or b""
            sales = list(lost)
            for start in range(0, len(sales), _BATCH):
                chosen = sales[start : start + _BATCH]
                self._replace_records([(lost[each], records.get(each.encode(), b"")) for each in chosen])

    def _replace_records(self, records: Sequence[tuple[WithdrawnSale, bytes]]) -> tuple[bool, bytes]:
        """Write decisions in place of the given records; return whether any was, and the version that this made."""
        version = str(secrets.randbits(62)).encode()
        keys = [self._key(name) for name in ("withdrawn", "withdrawn:version", "withdrawn:changes")]
        values = [value for sale, record in records for value in (sale.sale_id, record, sale.model_dump_json())]
        return self._replace(keys, [version, *values]) > 0, version

    def _decide(self, new: WithdrawnSale) -> Change:
        """Write a decision, and wait until the processes that serve have acknowledged it."""
        decision, version = self._write_decision(new)
        return Change(decision, *self._wait_for_acknowledgements(version))

    def _write_decision(self, new: WithdrawnSale) -> tuple[WithdrawnSale, bytes]:
        """Return the decision in force, and a version that holds it."""
        while True:
            with self._store_errors(waits=True), self._server.pipeline(transaction=True) as pipeline:
                pipeline.get(self._key("withdrawn:version"))
                pipeline.hget(self._key("withdrawn"), new.sale_id)
                version, record = pipeline.execute()
                stored = None if record is None else _parsed(new.sale_id.encode(), record)
                if record is not None and stored is None and not new.closed:
                    return closed_as_unreadable(new.sale_id), version or b""
                known = self._known.decisions.get(new.sale_id)
                if stored is not None:
                    known = in_force(known or stored, stored)
                decision = after(known, new)
                is_written = decision == stored
                if not is_written:
                    is_written, version = self._replace_records([(decision, record or b"")])
            if is_written:
                with self._reading:
                    self._known.add(decision)
                    self._is_read = False
                return decision, version or b""

    def _wait_for_acknowledgements(self, version: bytes) -> tuple[list[str], list[str]]:
        """Return the processes that have not acknowledged a version: those that serve, and those that stopped."""
        # Redis may have lost the leases: in two intervals, all processes that reach it have renewed theirs.
        earliest = time.monotonic() + 2 * self._poll_seconds
        deadline = max(earliest, time.monotonic() + self._settings.acknowledge_seconds)
        acknowledged = {_ENDED}
        while True:
            with suppress(StoreError):  # the decision is written: who has acknowledged it is told as far as known
                changes = self._changes()
                if version in changes:
                    acknowledged.update(changes[: changes.index(version) + 1])
                else:  # lost by Redis, or long ago
                    self._read_changes()
                    version, acknowledged = self._applied, {_ENDED, self._applied}
            now = time.monotonic()
            missing = {name: lease for name, lease in self._leases.items() if lease.version not in acknowledged}
            serving = sorted(name for name, lease in missing.items() if lease.until > now)
            if (not serving and now >= earliest) or now >= deadline:
                return serving, sorted(missing.keys() - set(serving))
            time.sleep(_WAIT_SECONDS)

    def _changes(self) -> list[bytes]:
        """Note the leases of all processes, and return the latest versions, the latest first."""
        with self._store_errors(waits=True), self._server.pipeline(transaction=True) as pipeline:
            pipeline.time()
            pipeline.hgetall(self._key("leases"))
            pipeline.lrange(self._key("withdrawn:changes"), 0, -1)
            (seconds, micros), leases, changes = pipeline.execute()
            self._note_leases(1000 * seconds + micros // 1000, leases)
        return changes

    def _note_leases(self, now: int, rows: Mapping[bytes, bytes]) -> None:
        """Note the leases of the other processes; one that Redis has lost is remembered until it ends.

        Args:
            now: The present by the clock of Redis, in milliseconds.
            rows: The leases in Redis.
        """
        at = time.monotonic()
        with self._noting:
            leases = {name: lease for name, lease in self._leases.items() if lease.until > at - _FORGOTTEN_SECONDS}
            for name, row in rows.items():
                version, _, until = row.partition(b" ")
                left = (int(until) - now) / 1000 if until.isdigit() else 0.0
                known = leases.pop(_text(name), None)
                if known is not None and version != _ENDED:  # a replica that lags behind may hold an earlier end
                    left = max(left, known.until - at)
                if left > -_FORGOTTEN_SECONDS:
                    leases[_text(name)] = _Lease(version, at + left)
                else:
                    self._server.hdel(self._key("leases"), name)
            leases.pop(self.process, None)
            self._leases = leases

    def _open_copy(self, name: str, folder: Path) -> Snapshot:
        return Snapshot.open(folder, users=partial(_RedisUsers, self, f"snapshot:{name}:user:"))

    def _fetch(self, name: str, folder: Path) -> None:
        key = self._key(f"snapshot:{name}")
        with self._store_errors():
            manifest: Any = self._server.hget(key, MANIFEST)  # bytes: the connection decodes nothing
        if manifest is None:
            raise SnapshotError(f"{key} is not in Redis: push it with 'recsys snapshots push'")
        names = [file for file in parse_manifest(manifest, key).files if not is_of_users(file)]
        with self._store_errors():
            contents: Sequence[Any] = self._server.hmget(key, names)
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


class _Lease(NamedTuple):
    """The lease of a serving process."""

    version: bytes
    """The version of the withdrawn sales that it has applied."""
    until: float
    """The instant of this process's monotonic clock until which the other one vouches."""


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
    server = connect(settings, timeout=30.0)
    key = f"{settings.prefix}snapshot:{name}"
    try:
        manifest = (snapshot.path / MANIFEST).read_bytes()
        if server.hget(key, MANIFEST) != manifest:
            _push_users(server, snapshot, f"{key}:user:", progress)
            files = [MANIFEST, *(file for file in snapshot.manifest.files if not is_of_users(file))]
            server.hset(key, mapping={file: (snapshot.path / file).read_bytes() for file in files})
        server.expire(key, _EXPIRY)
        _point_at(server, settings.prefix, name)
    except redis.RedisError as error:
        raise StoreError(f"{_why(without_password(settings.url), error)}, then push again") from None
    finally:
        server.close()
    return name


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


def connect(settings: StoreSettings, timeout: float | None = None) -> redis.Redis:
    """Return a client of the Redis server that the settings name.

    Args:
        settings: The store's settings.
        timeout: Timeout of a call in seconds; that of the settings by default.

    Raises:
        ConfigurationError: If the address is none of Redis, or a file cannot be read. No message holds the password.
    """
    address, seconds = without_password(settings.url), timeout or settings.timeout_seconds
    options: dict[str, Any] = {"socket_timeout": seconds, "socket_connect_timeout": seconds, "retry": None}
    if username := settings.username or os.environ.get(USERNAME_VARIABLE):
        options["username"] = username
    if password := _password(settings):
        options["password"] = password
    if settings.authority:
        if not settings.url.startswith("rediss://"):
            raise ConfigurationError(f"serving.store.url == {address!r}, must begin with rediss:// to use 'authority'")
        options["ssl_ca_certs"] = settings.authority
    try:
        return redis.Redis.from_url(settings.url, **options)
    except ValueError:  # its message may hold the password
        raise ConfigurationError(
            f"serving.store.url == {address!r}, must be redis://HOST:PORT/0, or rediss://HOST:PORT/0 for TLS"
        ) from None


def _password(settings: StoreSettings) -> str | None:
    if settings.password_file is None:
        return os.environ.get(PASSWORD_VARIABLE)
    try:
        return Path(settings.password_file).read_text("utf-8").strip()
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"serving.store.password_file == {settings.password_file!r}, must be a file that holds the password "
            f"({getattr(error, 'strerror', 'not UTF-8')})"
        ) from None


def without_password(url: str) -> str:
    """Return an address without its user name, password and options."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('?')[0].rpartition('@')[2]}"


def _why(address: str, error: redis.RedisError) -> str:
    """Return why a call of Redis failed, and the next step."""
    if isinstance(error, redis.AuthenticationError):
        advice = f"set {PASSWORD_VARIABLE}, or 'serving.store.password_file' and 'username'"
        return f"{address} refuses the user or the password ({error}): {advice}"
    if isinstance(error, redis.ResponseError):  # a key has another type, the memory is full, the user lacks a right
        return f"{address} refuses a command ({error}): check its configuration"
    return f"{address} is out of reach ({error}): check that Redis runs"


def _checked_name(name: bytes) -> str:
    if not snapshot_store.is_name(_text(name)):
        raise SnapshotError(f"current == {_text(name)!r} in Redis, must be a snapshot's name: push a snapshot again")
    return name.decode()


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")


def _parsed(sale_id: bytes, record: bytes) -> WithdrawnSale | None:
    """Return the decision of a record; None if it cannot be read."""
    try:
        sale = WithdrawnSale.model_validate_json(record)
    except ValidationError:
        return None
    return sale if sale.sale_id.encode() == sale_id else None
