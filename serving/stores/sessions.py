"""Running sessions and live counts in LMDB: one memory-mapped file per day, shared by all processes of a machine."""

import shutil
import struct
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import lmdb
import orjson

from recsys.errors import StoreError
from recsys.instants import DAY
from recsys.shop.live_counts import (
    CountedMinutes,
    CountsBySale,
    Event,
    LiveCounts,
    change_minute,
    changes_by_minute,
    changes_of_counted,
)
from recsys.snapshot.users import encode_user
from recsys.storage.local import reserve
from serving.clocks import Clock
from serving.stores.base import SessionEvent
from serving.stores.recent_users import RecentUsers

_MAP_BYTES = 1 << 36  # address space that LMDB reserves, not disk space
_READERS = 2048
_LOCK_BYTES = 64 * (_READERS + 64)  # a cache line per reader, and the header
_MAX_EVENTS = 100  # stored per user and day
_MINUTE = struct.Struct(">cI")
"""The key of a minute's counts: a byte that is in no UTF-8, so in no user's key, and the minutes since 1970 UTC."""
_REVISION = struct.Struct(">Q")
"""The head of a minute's counts: the number of the transaction that wrote them; JSON follows."""


class SessionFiles:
    """Users' events of today and yesterday, and what counts of them by minute; files of earlier days are removed.

    An event is in the file of the day (UTC) on which it occurred, and so are all events of its user on that day, by
    which it counts once (see `recsys.shop.live_counts`), whichever process of the machine it arrives at. Of a user with
    more than 100 events on a day, the first 100 that arrive count. Events of earlier days are kept with those of
    yesterday and do not count; nor do those of tomorrow, from a caller whose clock is ahead.

    Events survive the end of a process but not always a power failure: files are not synced, since the nightly run
    reads events from the durable log.
    """

    def __init__(self, folder: Path, clock: Clock):
        self._folder = folder
        self._clock = clock
        self._recent = RecentUsers(folder / "recent_users")
        self._days: dict[int, lmdb.Environment] = {}
        self._inodes: dict[int, int | None] = {}
        self._opening = threading.Lock()
        self._counted = CountedMinutes()
        self._read: dict[int, tuple[lmdb.Environment, int]] = {}
        """By day, the file whose counts are known, and the number of its latest transaction that is read."""
        self._reading = threading.Lock()

    def get(self, user_id: str, since: int) -> list[SessionEvent]:
        """Return a user's events from an instant on, in the order in which they were added."""
        key = encode_user(user_id)
        found: list[SessionEvent] = []
        if not self._recent.may_have_events(key, since):
            return found
        today = self._clock() // DAY
        try:
            for day in range(max(since // DAY, today - 1), today + 1):
                with self._day_file(day).begin() as transaction:
                    found += _events(transaction.get(key))
        except (lmdb.Error, ValueError) as error:
            raise StoreError(f"{self._folder} cannot be read ({error}): check the disk, or remove it") from None
        return [event for event in found if event.occurred_at >= since]

    def add(self, events: Mapping[str, Sequence[SessionEvent]]) -> None:
        """Add events to users' sessions and to the counts, all or none of them."""
        today = self._clock() // DAY
        days: dict[int, dict[str, list[SessionEvent]]] = {}
        for user_id, of_user in events.items():
            for event in of_user:
                day = min(max(event.occurred_at // DAY, today - 1), today)
                days.setdefault(day, {}).setdefault(user_id, []).append(event)
        try:
            with ExitStack() as stack:
                for day in sorted(days):  # every process in this order: none waits for one that waits for it
                    self._add_to_day(stack.enter_context(self._day_file(day).begin(write=True)), day, days[day])
        except (lmdb.Error, ValueError, TypeError) as error:
            raise StoreError(f"{self._folder} cannot be written ({error}): check the disk, or remove it") from None

    def _add_to_day(self, transaction: lmdb.Transaction, day: int, events: Mapping[str, list[SessionEvent]]) -> None:
        added: list[Event] = []
        subtracted: list[Event] = []
        for user_id, of_user in events.items():
            key = encode_user(user_id)
            known = _events(transaction.get(key))
            new = [event for event in dict.fromkeys(of_user) if event not in known]  # delivered twice, it counts once
            transaction.put(key, orjson.dumps([*known, *new][-_MAX_EVENTS:], default=tuple))
            self._recent.note(key, max(event.occurred_at for event in of_user))
            of_day = [event for event in new[: _MAX_EVENTS - len(known)] if event.occurred_at // DAY == day]
            more, less = changes_of_counted(known, of_day)
            added += more
            subtracted += less
        for minute, changes in changes_by_minute(added, subtracted).items():
            key = _MINUTE.pack(b"\xff", minute)
            counts = _counts(transaction.get(key))
            change_minute(counts, changes)
            transaction.put(key, _REVISION.pack(transaction.id()) + orjson.dumps(counts))

    def live_counts(self, since: int) -> LiveCounts:
        """Return what counts from the hour of an instant on, as far as it is of today or yesterday; reads changes."""
        today = self._clock() // DAY
        try:
            with self._reading:
                files = {day: self._present_file(day) for day in (today - 1, today)}
                self._read = {day: read for day, read in self._read.items() if files.get(day) is read[0]}
                self._counted.keep_days(self._read)
                for day, file in files.items():
                    self._read_changes(day, file)
                return self._counted.since(since)
        except (lmdb.Error, ValueError, TypeError, struct.error) as error:
            raise StoreError(f"{self._folder} cannot be read ({error}): check the disk, or remove it") from None

    def _read_changes(self, day: int, file: lmdb.Environment) -> None:
        """Read the counts of the minutes that were written since they were read last."""
        _, known = self._read.get(day, (file, 0))
        with file.begin(buffers=True) as transaction:
            revision, changed = transaction.id(), {}
            cursor = transaction.cursor()
            if revision > known and cursor.set_range(b"\xff"):
                for key, value in cursor:
                    if _REVISION.unpack_from(value)[0] > known:
                        changed[_MINUTE.unpack(key)[1]] = _counts(value)
        self._counted.replace(changed)
        self._read[day] = file, revision

    def remove(self, user_id: str) -> int:
        """Remove a user's events of all days, and return their number."""
        key, removed = encode_user(user_id), 0
        for day in sorted(int(path.name) for path in self._folder.glob("[0-9]*")):
            try:
                with self._day_file(day).begin(write=True) as transaction:
                    removed += len(_events(transaction.pop(key)))
            except (lmdb.Error, ValueError) as error:
                raise StoreError(f"{self._folder} cannot be written ({error}): check the disk, or remove it") from None
        return removed

    def close(self) -> None:
        """Close the files."""
        for file in self._days.values():
            file.close()
        self._recent.close()

    def _day_file(self, day: int) -> lmdb.Environment:
        return self._days.get(day) or self._open_day(day)

    def _present_file(self, day: int) -> lmdb.Environment:
        """Return the file of a day, opened anew where it was removed: other processes would write to another one."""
        self._day_file(day)
        with self._opening:
            if self._inodes[day] != _inode(self._folder / str(day)):
                self._days.pop(day, None)  # closed when no thread reads it any more
        return self._day_file(day)

    def _open_day(self, day: int) -> lmdb.Environment:
        with self._opening:
            if day not in self._days:
                self._remove_before(day - 1)
                path = self._folder / str(day)
                try:
                    path.mkdir(parents=True, exist_ok=True)
                    reserve(path / "lock.mdb", _LOCK_BYTES)  # LMDB maps it without reserving it
                    file = lmdb.open(str(path), map_size=_MAP_BYTES, sync=False, max_readers=_READERS)
                except (lmdb.Error, OSError) as error:
                    raise StoreError(f"{path} cannot be opened ({error}): check the disk, or remove it") from None
                file.reader_check()  # frees the reader slots of killed processes
                self._days[day], self._inodes[day] = file, _inode(path)
            return self._days[day]

    def _remove_before(self, day: int) -> None:
        for path in self._folder.glob("[0-9]*"):
            if int(path.name) < day:
                shutil.rmtree(path, ignore_errors=True)
        for old in [known for known in self._days if known < day - 1]:  # no longer read by any thread
            self._days.pop(old).close()


def _inode(folder: Path) -> int | None:
    try:
        return (folder / "data.mdb").stat().st_ino
    except FileNotFoundError:
        return None


def _events(data: bytes | memoryview | None) -> list[SessionEvent]:
    return [SessionEvent(*event) for event in orjson.loads(data)] if data else []


def _counts(data: bytes | memoryview | None) -> CountsBySale:
    return orjson.loads(data[_REVISION.size :]) if data else {}
