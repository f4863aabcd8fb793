"""One thread for all that a process does beside answering."""

import logging
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

_log = logging.getLogger(__name__)


class Background:
    """Calls functions again and again; one that fails is logged, and called again."""

    def __init__(self, tasks: Sequence[Callable[[], None]], seconds: float):
        self._tasks = tasks
        self._seconds = seconds
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="background", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the present round, and wait for it."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def once(self) -> None:
        """Call each function once."""
        for task in self._tasks:
            try:
                task()
            except Exception:
                _log.exception("in the background")

    def _run(self) -> None:
        with suppress(OSError):  # where threads have priorities: to read a snapshot can wait, an answer cannot
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
        while not self._stopped.wait(self._seconds):
            self.once()
