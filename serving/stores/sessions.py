"""Running sessions in LMDB: one memory-mapped file per day, shared by all processes of a machine."""

import shutil
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import lmdb
import orjson

from recsys.errors import StoreError
from recsys.instants import DAY
from recsys.snapshot.users import encode_user
from recsys.storage.local import reserve
from serving.clocks import Clock
from serving.stores.base import SessionEvent
from serving.stores.recent_users import RecentUsers

_MAP_BYTES = 1 << 36  # address space that LMDB reserves, not disk space
_READERS = 2048
_LOCK_BYTES = 64 * (_READERS + 64)  # a cache line per reader, and the header
_MAX_EVENTS = 100  # stored per user and day


class SessionFiles:
    """Users' events of today and yesterday; files of earlier days are removed.

    Events survive the end of a process but not always a power failure: files are not synced, since the nightly run
    reads events from the durable log.
    """

    def __init__(self, folder: Path, clock: Clock):
        self._folder = folder
        self._clock = clock
        self._recent = RecentUsers(folder / "recent_users")
        self._days: dict[int, lmdb.Environment] = {}
        self._opening = threading.Lock()

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
        """Add events to users' sessions, all or none of them."""
        try:
            with self._day_file(self._clock() // DAY).begin(write=True) as transaction:
                for user_id, of_user in events.items():
                    key = encode_user(user_id)
                    # An event that is delivered twice counts once.
                    known = list(dict.fromkeys([*_events(transaction.get(key)), *of_user]))[-_MAX_EVENTS:]
                    transaction.put(key, orjson.dumps(known, default=tuple))
                    self._recent.note(key, max(event.occurred_at for event in of_user))
        except lmdb.Error as error:
            raise StoreError(f"{self._folder} cannot be written ({error}): check the disk") from None

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
                self._days[day] = file
            return self._days[day]

    def _remove_before(self, day: int) -> None:
        for path in self._folder.glob("[0-9]*"):
            if int(path.name) < day:
                shutil.rmtree(path, ignore_errors=True)
        for old in [known for known in self._days if known < day - 1]:  # no longer read by any thread
            self._days.pop(old).close()


def _events(data: bytes | None) -> list[SessionEvent]:
    return [SessionEvent(*event) for event in orjson.loads(data)] if data else []
