"""The background thread of a process, for everything except answering requests."""

import logging
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

_log = logging.getLogger(__name__)


class Background:
    """Calls functions periodically; one that fails is logged and called again in the next round."""

    def __init__(self, tasks: Sequence[Callable[[], None]], seconds: float):
        self._tasks = tasks
        self._seconds = seconds
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="background", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop after the current round, and wait for its end."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def once(self) -> None:
        """Call each function once."""
        for task in self._tasks:
            try:
                task()
            except Exception:
                _log.exception("a background task failed")

    def _run(self) -> None:
        with suppress(OSError):  # where the system has thread priorities: answers take precedence
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
        while not self._stopped.wait(self._seconds):
            self.once()
