"""Writes records to log files in the background, so that requests never wait for a disk.

`append` puts a record into a queue. One thread encodes what is queued and writes it, at least every `flush_seconds`:
a process that is killed loses no more than that. While the disk refuses, records wait; once `max_queued` wait, the ones
that stay are drawn so that each had the same chance. A durable log makes its caller wait for the disk instead.
"""

import logging
import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from recsys import instants
from recsys.logs.log_files import LogFile
from serving.errors import NotRecordedError

Record = TypeVar("Record")
# Encoding holds the interpreter, writing lets go of it: 64 records keep a request waiting for 0.4 ms at most.
_CHUNK = 64
_MAX_BACKOFF_SECONDS = 2.0

_log = logging.getLogger(__name__)


class LogState(NamedTuple):
    """How a log does."""

    queued: int
    """Records that wait to be written."""
    written: int
    lost: int
    """Records that found no room, could not be encoded, or were refused by the disk until the log was closed."""
    files: int
    """Log files begun."""
    problem: str | None
    """Why records wait; None while they are written."""


class RecordLog(Generic[Record]):
    """A log of one process; any number of threads may append.

    Args:
        folder: Where the log files go; it is made when the first record is written.
        name: What the names of log files begin with.
        encode: Returns a record as one JSON line, with its line feed.
        flush_seconds: A record is handed to the system within this time.
        durable: Whether `append` waits until the record is on the disk; those who wait together share one flush.
        timeout_seconds: How long a durable `append` waits.
        max_queued: Records that may wait; as many again may be on their way to the disk.
        file_bytes: A log file is finished when it has reached this size,
        file_seconds: or this age.
        seed: Of the draw of records that stay when there is no room for all.
        new_file: Creates a log file of a name in a folder.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        encode: Callable[[Record], bytes],
        *,
        flush_seconds: float = 1.0,
        durable: bool = False,
        timeout_seconds: float = 5.0,
        max_queued: int = 100_000,
        file_bytes: int = 64 << 20,
        file_seconds: float = 60.0,
        seed: int | None = None,
        new_file: Callable[[Path, str], LogFile] = LogFile,
    ):
        self._folder, self._name, self._encode, self._new_file = folder, name, encode, new_file
        self._flush_seconds, self._timeout_seconds = flush_seconds, timeout_seconds
        self._file_bytes, self._file_seconds = file_bytes, file_seconds
        self._durable, self._max_queued = durable, max_queued
        self._random = random.Random(seed)
        self._lock = threading.Condition(threading.Lock())
        self._wake, self._closed = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

        self._queue: deque[Any] = deque()  # records, or lines where the log is durable
        self._overflowed = 0  # records that found no room since the queue was last taken
        self._taken: deque[Any] = deque()
        self._chunk: list[bytes] = []
        self._file: LogFile | None = None
        self._opened_at = self._backoff = 0.0
        self._accepted = self._written = self._lost = self._files = 0
        self._unencodable = False
        self._problem: str | None = None

    def append(self, record: Record) -> None:
        """Log a record.

        Raises:
            NotRecordedError: If the log is durable and the record is not on the disk in time, or there is no room.
        """
        if self._durable:
            self._append_durably([self._encode(record)])
        elif len(self._queue) < self._max_queued:
            self._queue.append(record)
        else:
            self._overflow(record)

    def append_all(self, records: Sequence[Record]) -> None:
        """Log some records; a durable log takes all or none, and waits once for all of them.

        Raises:
            NotRecordedError: As `append`.
        """
        if self._durable:
            self._append_durably([self._encode(record) for record in records])
        else:
            for record in records:
                self.append(record)

    def state(self) -> LogState:
        """Return how the log does."""
        queued = len(self._queue) + len(self._taken) + len(self._chunk)
        return LogState(queued, self._written, self._lost, self._files, self._problem)

    def start(self) -> None:
        """Write in the background until closed; to be called after the last fork."""
        self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write all that is queued, and finish the log file; what the disk refuses then, or comes later, is lost."""
        self._max_queued, self._file_seconds = 0, 0.0
        self._closed.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        self._flush()
        self._give_up()

    def _overflow(self, record: Record) -> None:
        """Keep a record instead of another one, or lose it.

        Source:
            Algorithm R of Vitter 1985: of n records since the queue was taken, each is among the k that stay with
            probability k / n.
        """
        with self._lock:
            room = len(self._queue)
            if room < self._max_queued:  # it was taken meanwhile
                self._queue.append(record)
                return
            self._lost += 1
            self._overflowed += 1
            place = self._random.randrange(room + self._overflowed)
            if place < room:
                self._queue[place] = record

    def _append_durably(self, lines: Sequence[bytes]) -> None:
        with self._lock:
            if len(self._queue) + len(lines) > self._max_queued:
                raise self._not_recorded(f"{len(self._queue)} records wait, must be fewer than {self._max_queued}")
            self._queue.extend(lines)
            self._accepted += len(lines)
            number = self._accepted
            self._wake.set()
            if not self._lock.wait_for(lambda: self._written >= number, self._timeout_seconds):
                raise self._not_recorded(f"not on the disk within {self._timeout_seconds} s")

    def _not_recorded(self, rule: str) -> NotRecordedError:
        why = "the log is closed" if self._closed.is_set() else rule
        return NotRecordedError(f"{self._name}: {why}: {self._problem or 'send it again later'}")

    def _work(self) -> None:
        while not self._closed.is_set():
            self._wait()
            self._flush()

    def _wait(self) -> None:
        if self._backoff:
            self._closed.wait(self._backoff)
            return
        self._wake.wait(self._flush_seconds / 2)  # the other half is for writing
        self._wake.clear()

    def _flush(self) -> None:
        try:
            self._write_queued()
            self._finish_file(self._file_seconds)
        except Exception as error:  # nothing may end the thread: what was not written is tried again
            self._fail(error)
        else:
            if self._problem is not None:
                _log.info("%s are written again", self._name)
            self._problem, self._backoff = None, 0.0

    def _write_queued(self) -> None:
        self._write_taken()
        # All at once: a part of the queue would not be a fair draw of those that found no room.
        with self._lock:
            self._overflowed = 0
            self._taken.extend([self._queue.popleft() for _ in range(len(self._queue))])
        self._write_taken()

    def _write_taken(self) -> None:
        while self._fill_chunk():
            log_file = self._file or self._begin_file()
            log_file.write(b"".join(self._chunk))
            if self._durable:
                log_file.sync()
            with self._lock:
                self._written += len(self._chunk)
                self._chunk = []
                self._lock.notify_all()
            if log_file.size >= self._file_bytes:
                self._finish_file()

    def _fill_chunk(self) -> bool:
        """Encode the next records, unless some are still to be written, and tell whether there are any."""
        while self._taken and not self._chunk:
            records = [self._taken.popleft() for _ in range(min(_CHUNK, len(self._taken)))]
            self._chunk = records if self._durable else [line for record in records if (line := self._line(record))]
        return bool(self._chunk)

    def _line(self, record: Record) -> bytes:
        try:
            return self._encode(record)
        except Exception:  # one record that cannot be encoded must not hold up the others
            if not self._unencodable:
                _log.exception("%s: a record cannot be encoded and is lost; further ones are only counted", self._name)
            with self._lock:
                self._unencodable = True
                self._lost += 1
            return b""

    def _begin_file(self) -> LogFile:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._files += 1
        self._opened_at = time.monotonic()
        now = instants.compact(time.time_ns() // 1000)
        self._file = self._new_file(self._folder, f"{self._name}-{now}-{os.getpid()}-{self._files}")
        return self._file

    def _finish_file(self, min_seconds: float = 0.0) -> None:
        if self._file is not None and time.monotonic() - self._opened_at >= min_seconds:
            log_file, self._file = self._file, None
            log_file.finish()

    def _fail(self, error: Exception) -> None:
        with suppress(OSError):  # its lines are whole, so others may have it; the next try begins a new one
            self._finish_file()
        problem = f"{self._name} cannot be written to {self._folder} ({error}): make room, or correct its permissions"
        if self._problem is None:
            _log.warning("%s; records wait in memory", problem)
        self._problem = problem
        self._backoff = min(2 * self._backoff or self._flush_seconds, _MAX_BACKOFF_SECONDS)

    def _give_up(self) -> None:
        left = self.state().queued
        if left:
            self._lost += left
            _log.error("%d records are lost: %s", left, self._problem)
        for records in (self._queue, self._taken, self._chunk):
            records.clear()
