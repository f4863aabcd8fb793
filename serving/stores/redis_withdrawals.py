"""Withdrawn sales in Redis, and the leases by which the processes of a fleet acknowledge them.

Each process reads the withdrawn sales into its memory whenever their version differs from the one that it has applied,
and acknowledges it by its lease; requests read memory alone. Versions are random, not counted: after a failover to a
replica that lags behind, a counter would count to the same number again. Whether a process has applied a change is
decided by the list of changes: what Redis has lost is not in it, and acknowledges nothing. A process writes back the
decisions that it knows and Redis has lost, and remembers the leases that it has seen.
"""

import math
import os
import secrets
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

import redis
from pydantic import ValidationError

from recsys.config.serving import StoreSettings
from recsys.errors import StoreError
from serving.clocks import Clock
from serving.stores.base import Change, WithdrawnSale
from serving.stores.redis_server import RedisServer, text_of
from serving.stores.withdrawals import KnownSales, after, closed_as_unreadable, in_force, shown_again

_BATCH = 1000
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


class RedisWithdrawals:
    """The withdrawn sales as one serving process knows them; safe for concurrent use by threads.

    Args:
        server: The server.
        settings: For how long a process vouches, and how long a decision waits for acknowledgements.
        clock: Returns the present time.
        poll_seconds: The interval at which every process calls `poll`.
    """

    def __init__(self, server: RedisServer, settings: StoreSettings, clock: Clock, poll_seconds: float):
        self._server = server
        self._settings = settings
        self._clock = clock
        self._poll_seconds = poll_seconds
        self._replace = server.client.register_script(_REPLACE)
        self._renew = server.client.register_script(_RENEW)
        self._renewed_keys = [server.key("leases"), server.key("withdrawn:version")]
        self.process = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._known = KnownSales()
        self._known_at = -math.inf
        self._applied = b""
        """The version in Redis up to which all decisions are known; empty before the first change."""
        self._is_read = False
        """Whether that version was read since the process started, and since it last decided something itself."""
        self._leases: dict[str, _Lease] = {}
        self._reading, self._noting = threading.Lock(), threading.Lock()

    @property
    def peers(self) -> list[str]:
        """The other processes whose leases this one has seen, in ascending order."""
        return sorted(self._leases)

    def poll(self) -> None:
        """Renew the lease of the process, and read the withdrawn sales if they have changed."""
        self._read_changes()
        self._known.check_readable(f"{self._server.address}: {self._server.key('withdrawn')}")

    def known_at(self) -> float:
        """Return the instant of the monotonic clock as of which all withdrawn sales are known."""
        return self._known_at

    def version(self) -> int:
        """Return a number that changes whenever `withdrawn` does."""
        return self._known.version

    def withdrawn(self) -> Mapping[str, WithdrawnSale]:
        """Return the decisions about sales by id, as of the last poll."""
        if self._known_at == -math.inf:
            raise StoreError(f"{self._server.address}: the closed sales were not read yet, no page is sent before")
        return self._known.withdrawn

    def withdraw(self, sale: WithdrawnSale) -> Change:
        """Close or hide a sale."""
        return self._decide(sale)

    def restore(self, sale_id: str) -> Change | None:
        """Show a hidden sale again; None for a sale that is not withdrawn."""
        self._read_changes()
        now, known = self._clock(), self.withdrawn().get(sale_id)
        return self._decide(shown_again(sale_id, now)) if known is not None and known.is_withdrawn(now) else None

    def end_lease(self) -> None:
        """Tell the other processes that this one has ended."""
        if self._known_at > -math.inf:
            with suppress(redis.RedisError):
                self._renew(self._renewed_keys, [self.process, _ENDED, 0])

    def _read_changes(self) -> None:
        """Renew the lease; read the decisions if their version is another one, then acknowledge that version."""
        with self._reading, self._server.errors(waits=True):
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
            with self._server.client.pipeline(transaction=True) as pipeline:
                pipeline.get(self._server.key("withdrawn:version"))
                pipeline.hgetall(self._server.key("withdrawn"))
                version, records = pipeline.execute()
            stored = {text_of(sale_id): _parsed(sale_id, record) for sale_id, record in records.items()}
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
        keys = [self._server.key(name) for name in ("withdrawn", "withdrawn:version", "withdrawn:changes")]
        values = [value for sale, record in records for value in (sale.sale_id, record, sale.model_dump_json())]
        return self._replace(keys, [version, *values]) > 0, version

    def _decide(self, new: WithdrawnSale) -> Change:
        """Write a decision, and wait until the processes that serve have acknowledged it."""
        decision, version = self._write_decision(new)
        return Change(decision, *self._wait_for_acknowledgements(version))

    def _write_decision(self, new: WithdrawnSale) -> tuple[WithdrawnSale, bytes]:
        """Return the decision in force, and a version that holds it."""
        while True:
            with self._server.errors(waits=True), self._server.client.pipeline(transaction=True) as pipeline:
                pipeline.get(self._server.key("withdrawn:version"))
                pipeline.hget(self._server.key("withdrawn"), new.sale_id)
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
        with self._server.errors(waits=True), self._server.client.pipeline(transaction=True) as pipeline:
            pipeline.time()
            pipeline.hgetall(self._server.key("leases"))
            pipeline.lrange(self._server.key("withdrawn:changes"), 0, -1)
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
                known = leases.pop(text_of(name), None)
                if known is not None and version != _ENDED:  # a replica that lags behind may hold an earlier end
                    left = max(left, known.until - at)
                if left > -_FORGOTTEN_SECONDS:
                    leases[text_of(name)] = _Lease(version, at + left)
                else:
                    self._server.client.hdel(self._server.key("leases"), name)
            leases.pop(self.process, None)
            self._leases = leases


class _Lease(NamedTuple):
    """The lease of a serving process."""

    version: bytes
    """The version of the withdrawn sales that it has applied."""
    until: float
    """The instant of this process's monotonic clock until which the other one vouches."""


def _parsed(sale_id: bytes, record: bytes) -> WithdrawnSale | None:
    """Return the decision of a record; None if it cannot be read."""
    try:
        sale = WithdrawnSale.model_validate_json(record)
    except ValidationError:
        return None
    return sale if sale.sale_id.encode() == sale_id else None
