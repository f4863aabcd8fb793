"""Clocks of the service: the system's time, or a replay of the past."""

import time
from collections.abc import Callable
from datetime import datetime

from recsys.errors import SnapshotError
from recsys.instants import HOUR, to_micros

Clock = Callable[[], int]
"""Returns the present instant in microseconds since 1970 UTC."""


def system_clock() -> int:
    """Return the system's time in microseconds since 1970 UTC."""
    return time.time_ns() // 1000


class ReplayClock:
    """Replays the hours after a snapshot's `as_of` in real time, for shops whose data lies in the past."""

    def __init__(self, start_hours: float, elapsed: Callable[[], int] = time.monotonic_ns):
        self._start_hours = start_hours
        self._elapsed = elapsed
        self._shift: int | None = None

    def begin(self, as_of: datetime) -> None:
        """Start the replay at the configured hour after `as_of`; no effect on a clock that has started."""
        if self._shift is None:
            self._shift = to_micros(as_of) + int(self._start_hours * HOUR) - self._elapsed() // 1000

    def __call__(self) -> int:
        """Return the replayed time.

        Raises:
            SnapshotError: If the replay has not begun, since no snapshot is loaded.
        """
        if self._shift is None:
            raise SnapshotError("no snapshot is loaded, the replay clock needs one: run 'recsys nightly'")
        return self._shift + self._elapsed() // 1000
