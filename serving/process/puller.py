"""The process of a machine that brings published snapshots from an object store to its disk, beside the workers.

Downloading and checking gigabytes in a worker would hold up its pages; so this is done once per machine, at a low
priority, and workers map the result. Killed at any moment, it goes on where it was.
"""

import logging
import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

from recsys.errors import RecsysError, SnapshotError
from recsys.snapshot import store
from recsys.snapshot.publishing import Publisher
from recsys.snapshot.pulling import pull
from recsys.snapshot.shared import SharedSnapshots
from serving.telemetry.pull_status import PullStatus, write_status

_SLOWEST_SECONDS = 300.0
"""Longest time between two tries to pull a snapshot that is damaged in the store: each may download much."""
_LOW_PRIORITY = 10

_log = logging.getLogger(__name__)


def run_puller(publisher: Publisher, folder: Path, seconds: float, parent: int) -> None:
    """Pull until a signal ends the process, or its parent has ended.

    Args:
        publisher: What is published; never used in the parent, since connections do not survive a fork.
        folder: The service's own folder.
        seconds: Time between two looks.
        parent: The process id of the parent.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent forwards it as SIGTERM
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT))
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, _LOW_PRIORITY)
    puller = Puller(publisher, folder, seconds)
    while os.getppid() == parent:
        time.sleep(puller.look() * random.uniform(0.8, 1.2))  # a fleet must not ask at the same moment


class Puller:
    """Looks for a newer snapshot, pulls it, and writes what happened for the workers.

    Args:
        publisher: What is published.
        folder: The service's own folder.
        seconds: Time between two looks.
    """

    def __init__(self, publisher: Publisher, folder: Path, seconds: float):
        assert publisher.shared is not None
        self._shared: SharedSnapshots = publisher.shared
        self._root = publisher.root
        self._folder = folder
        self._seconds = seconds
        self._refused = 0
        self._status = PullStatus(interval_seconds=seconds, looked_at=time.time())

    def look(self) -> float:
        """Look once, pull if there is something new, and return the time until the next look, in seconds."""
        before, began = self._served(), time.monotonic()
        changes: dict[str, object] = {}
        wait = self._seconds
        try:
            entry = pull(self._shared, self._root)
            self._refused = 0
            changes = {"looked_at": time.time(), "problem": None}
            if entry is not None:
                changes |= {"newest": entry.name, "published_at": entry.publications[-1].published_at.timestamp()}
        except SnapshotError as error:
            self._refused += 1
            wait = max(self._seconds, min(self._seconds * 2**self._refused, _SLOWEST_SECONDS))
            changes = {"looked_at": time.time(), "problem": str(error)}
        except RecsysError as error:
            changes = {"problem": str(error)}
        except Exception as error:  # a bug must not end the looking
            _log.exception("snapshots cannot be pulled")
            changes = {"problem": f"unexpected {type(error).__name__}: see the service's log"}
        if (now := self._served()) != before:
            seconds = time.monotonic() - began
            changes["pulled_seconds"] = seconds
            _log.info("pulled snapshot %s in %.1f s", now, seconds)
        self._status = self._status.model_copy(update=changes)
        with suppress(OSError):  # a full disk: the workers see that nothing was written
            write_status(self._folder, self._status)
        return wait

    def _served(self) -> str | None:
        try:
            return store.current(self._root)
        except SnapshotError:
            return None
