"""The live counts that a process knows, for its pages."""

import time

from recsys.errors import SnapshotError, StoreError
from recsys.shop.live_counts import LiveCounts
from serving.stores.base import Store


class LatestCounts:
    """What the process last read of the store's counts; read by one thread, for use by all.

    Args:
        store: The store that counts.
    """

    def __init__(self, store: Store):
        self._store = store
        self._latest = LiveCounts(), time.monotonic()
        self.problem = "the store has not answered yet"
        """Why the latest attempt to read failed; empty if it did not."""

    def latest(self) -> tuple[LiveCounts, float]:
        """Return the counts, and the instant of the monotonic clock, in seconds, at which they were read.

        Before the first time, there are none, as of the start of the process.
        """
        return self._latest

    def read(self) -> None:
        """Read the counts; where the store is out of reach, those known before stay."""
        began = time.monotonic()
        try:
            self._latest = self._store.live_counts(0), began
            self.problem = ""
        except (StoreError, SnapshotError) as error:  # SnapshotError: a replay clock that has not begun
            self.problem = str(error)
