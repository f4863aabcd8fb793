"""Running sessions and live counts in Redis: events are added by one script per call, and changed minutes are read."""

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from recsys.errors import StoreError
from recsys.instants import DAY, SECOND
from recsys.shop.live_counts import MAX_SALES, CountedMinutes, CountsBySale, LiveCounts
from serving.clocks import Clock
from serving.stores.base import SessionEvent
from serving.stores.redis_server import RedisServer

_MAX_EVENTS = 100  # stored per session, and sales counted per user and day
_EXPIRY = 2 * DAY // SECOND
"""Seconds for which counts outlast their latest change."""
_MINUTES_PER_READ = 30

_ADD = """
local prefix, first_day, last_day = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local max_events, session_expiry, max_sales, expiry = ARGV[4], ARGV[5], tonumber(ARGV[6]), ARGV[7]
local changes, is_changed = {}, false

local function change(sale, event, sign)
    local kind, at = 1 + string.sub(event, 1, 1), tonumber(string.sub(event, 2))
    local minute = math.floor(at / 60e6)
    local name = string.format('%.0f', minute)
    changes[name] = changes[name] or {}
    local counts = changes[name][sale] or {0, 0, 0, 0}
    counts[kind] = counts[kind] + sign
    counts[kind + 2] = counts[kind + 2] + sign * (at - minute * 60e6)
    changes[name][sale] = counts
    is_changed = true
end

local function is_later(event, known)
    local kind, known_kind = string.sub(event, 1, 1), string.sub(known, 1, 1)
    if kind ~= known_kind then return kind > known_kind end
    return tonumber(string.sub(event, 2)) > tonumber(string.sub(known, 2))
end

for i = 8, #ARGV, 4 do
    local user, sale, event, row = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
    local session = prefix .. 'session:' .. user
    redis.call('rpush', session, row)
    redis.call('ltrim', session, -max_events, -1)
    redis.call('expire', session, session_expiry)
    local day = math.floor(tonumber(string.sub(event, 2)) / 86400e6)
    if first_day <= day and day <= last_day then
        local counted = prefix .. 'counted:' .. day .. ':' .. user
        local known = redis.call('hget', counted, sale)
        if known and is_later(event, known) or not known and redis.call('hlen', counted) < tonumber(max_events) then
            redis.call('hset', counted, sale, event)
            redis.call('expire', counted, expiry)
            change(sale, event, 1)
            if known then change(sale, known, -1) end
        end
    end
end
if not is_changed then return end

local revisions = prefix .. 'counts:revisions'
local time = redis.call('time')
local now = time[1] * 1e6 + time[2]
local latest = redis.call('zrange', revisions, -1, -1, 'withscores')[2]
local revision = string.format('%.0f', math.max(now, (tonumber(latest or 0)) + 1))
for minute, sales in pairs(changes) do
    local key = prefix .. 'counts:' .. minute
    for sale, change in pairs(sales) do
        local old = redis.call('hget', key, sale)
        if old or redis.call('hlen', key) < max_sales then
            local known, sums = {}, {}
            for number in string.gmatch(old or '0 0 0 0', '%S+') do known[#known + 1] = tonumber(number) end
            for i = 1, 4 do sums[i] = math.max(known[i] + change[i], 0) end
            if sums[1] > 0 or sums[2] > 0 then
                redis.call('hset', key, sale, string.format('%.0f %.0f %.0f %.0f', unpack(sums)))
            else
                redis.call('hdel', key, sale)
            end
        end
    end
    redis.call('expire', key, expiry)
    redis.call('zadd', revisions, revision, minute)
end
redis.call('zremrangebyscore', revisions, '-inf', string.format('%.0f', now - expiry * 1e6))
redis.call('expire', revisions, expiry)
redis.call('set', prefix .. 'counts:began', revision, 'nx')
redis.call('expire', prefix .. 'counts:began', expiry)
"""
"""Adds events to sessions, and counts those of the given days by the rule of `recsys.shop.live_counts`.

An event is written as its kind, 0 for a visit and 1 for a purchase, followed by the microsecond. The keys of users and
minutes are made here, which a Redis cluster would refuse. Of a user, at most a hundred sales count on a day.
"""


class RedisSessions:
    """Users' events of the last day, and what counts of them by minute, as one serving process knows them.

    Args:
        server: The server.
        clock: Returns the present time.
    """

    def __init__(self, server: RedisServer, clock: Clock):
        self._server = server
        self._clock = clock
        self._add = server.client.register_script(_ADD)
        self._counted = CountedMinutes()
        self._began: bytes | None = None
        """The value in Redis that is another one when it has lost the counts; None before counts are known."""
        self._revision = 0.0
        """The latest revision of a minute that is read."""
        self._reading = threading.Lock()

    def get(self, user_id: str, since: int) -> list[SessionEvent]:
        """Return a user's events from an instant on, in the order in which they were added."""
        with self._server.errors():
            rows: Any = self._server.client.lrange(self._server.key("session:") + user_id, 0, -1)
        try:
            events = [SessionEvent(*orjson.loads(row)) for row in rows]
        except (ValueError, TypeError):
            raise StoreError(
                f"a key of {self._server.key('session:')}* holds no events: remove it, or wait until it expires within "
                "a day"
            ) from None
        # An event that is delivered twice counts once.
        return [event for event in dict.fromkeys(events) if event.occurred_at >= since]

    def add(self, events: Mapping[str, Sequence[SessionEvent]]) -> None:
        """Add events to users' sessions and to the counts."""
        today = self._clock() // DAY
        arguments: list[Any] = [self._server.key(""), today - 1, today, _MAX_EVENTS, DAY // SECOND, MAX_SALES, _EXPIRY]
        for user_id, of_user in events.items():
            for event in of_user:
                written = f"{event.is_purchase:d}{event.occurred_at}"
                arguments += (user_id, event.sale_id, written, orjson.dumps(list(event)))
        with self._server.errors():
            self._add([], arguments)

    def live_counts(self, since: int) -> LiveCounts:
        """Return what counts from the hour of an instant on, as far as it is of today or yesterday; reads changes."""
        today = self._clock() // DAY
        try:
            with self._reading, self._server.errors():
                self._read_changes()
                self._counted.keep_days((today - 1, today))
                return self._counted.since(since)
        except ValueError:
            raise StoreError(
                f"a key of {self._server.key('counts:')}* holds no counts: remove all of them, counts begin anew"
            ) from None

    def _read_changes(self) -> None:
        """Read the minutes that were written since they were read last; all, where Redis has lost what was known."""
        began = self._server.get("counts:began")
        if began != self._began:
            self._counted, self._revision, self._began = CountedMinutes(), 0.0, began
        client = self._server.client
        earliest = f"({self._revision:.0f}"
        changed: Any = client.zrangebyscore(self._server.key("counts:revisions"), earliest, "+inf", withscores=True)
        for start in range(0, len(changed), _MINUTES_PER_READ):
            minutes = [minute for minute, _ in changed[start : start + _MINUTES_PER_READ]]
            with client.pipeline(transaction=False) as pipeline:
                for minute in minutes:
                    pipeline.hgetall(self._server.key("counts:") + minute.decode())
                rows = pipeline.execute()
            self._counted.replace({int(minute): _counts(row) for minute, row in zip(minutes, rows, strict=True)})
        if changed:
            self._revision = changed[-1][1]


def _counts(row: Mapping[bytes, bytes]) -> CountsBySale:
    return {sale_id.decode(): [int(number) for number in counts.split()] for sale_id, counts in row.items()}
