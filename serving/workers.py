"""Runs the service: a parent that keeps worker processes alive, and never answers itself.

The parent imports everything before it forks, so that the workers share that memory, and it never starts a thread or a
connection, so that it can fork again. Workers listen on the same ports (SO_REUSEPORT): the system spreads connections.

A parent that is killed leaves its workers answering. The next parent on the same folder starts workers of its own, and
once these are ready the orphans finish their requests and end: no request fails in between.
"""

import fcntl
import logging
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from recsys.errors import BusyError, RecsysError
from recsys.serving_settings import ServingSettings
from serving.stores.shared_counter import SharedCounter
from serving.telemetry import logs
from serving.telemetry.metrics_folder import FOLDER_VARIABLE, clean

_READY_SECONDS = 60.0
_WATCH_SECONDS = 0.2
_SLOWEST_RESTART_SECONDS = 5.0

_log = logging.getLogger(__name__)


def serve(settings: ServingSettings, folder: Path) -> None:
    """Run the service until SIGTERM or SIGINT; in the main thread only.

    Args:
        settings: Of the service.
        folder: The shop's.

    Raises:
        ConfigurationError: If an address cannot be listened on.
        BusyError: If a service runs on the folder already.
    """
    logs.configure(settings.log)
    state = folder / "serving"
    state.mkdir(parents=True, exist_ok=True)
    # Small products of matrices only: threads of the linear algebra would be in each other's way.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ[FOLDER_VARIABLE] = str(state / "metrics")
    with _the_only_parent(state):
        clean(state / "metrics")
        import serving.server  # noqa: F401  here: it must find the folder of metrics set

        _warn_of_open_doors(settings)
        _Parent(settings, folder, SharedCounter(state / "generation")).run()


class _Parent:
    def __init__(self, settings: ServingSettings, folder: Path, generation: SharedCounter):
        self._settings = settings
        self._folder = folder
        self._generation = generation
        self._mine = generation.value() + 1
        self._workers: dict[int, float] = {}
        self._stopping = False
        self._quick_deaths = 0

    def run(self) -> None:
        """Start the workers, replace those that die, and end with them."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        ready = [self._start_worker() for _ in range(self._settings.workers)]
        self._wait_until_ready(ready)
        self._generation.increase()  # orphans of a killed parent may go
        while self._workers:
            self._replace_dead_one()
        _log.info("stopped")

    def _stop(self, *_: object) -> None:
        self._stopping = True
        for worker in self._workers:
            os.kill(worker, signal.SIGTERM)

    def _start_worker(self) -> int:
        """Start a worker, and return what becomes readable when it is ready, or dead."""
        reading, writing = os.pipe()
        worker = os.fork()
        if worker == 0:
            os.close(reading)
            _be_a_worker(self._settings, self._folder, self._generation, self._mine, writing)
        os.close(writing)
        self._workers[worker] = time.monotonic()
        return reading

    def _wait_until_ready(self, pipes: list[int]) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        for pipe in pipes:
            select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
            is_ready = bool(os.read(pipe, 1)) if select.select([pipe], [], [], 0)[0] else False
            os.close(pipe)
            if not is_ready and not self._stopping:  # it has said why
                self._stop()

    def _replace_dead_one(self) -> None:
        try:
            worker, status = os.wait()
        except InterruptedError:
            return
        started = self._workers.pop(worker, None)
        if started is None or self._stopping:
            return
        _log.warning("worker %d ended with %d: starting another", worker, os.waitstatus_to_exitcode(status))
        self._quick_deaths = self._quick_deaths + 1 if time.monotonic() - started < 1 else 0
        time.sleep(min(0.05 * 2**self._quick_deaths - 0.05, _SLOWEST_RESTART_SECONDS))
        if not self._stopping:
            os.close(self._start_worker())


def _be_a_worker(settings: ServingSettings, folder: Path, generation: SharedCounter, mine: int, ready: int) -> None:
    """Answer until SIGTERM, or until another parent's workers are there; never return."""
    from serving.server import start_server

    stopped = threading.Event()
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent passes it on as SIGTERM
        signal.signal(signal.SIGTERM, lambda *_: stopped.set())
        sys.setswitchinterval(0.0005)  # a thread that loads a snapshot must not hold up an answer for 5 ms
        parent = os.getppid()
        with start_server(settings, folder) as server:
            _log.info("listening on %s", server.target)
            os.write(ready, b"1")
            os.close(ready)
            while not stopped.wait(_WATCH_SECONDS):
                if os.getppid() != parent:
                    _log.warning("the parent is gone: answering until the service is started again")
                    parent = os.getppid()
                if generation.value() > mine:
                    break
        code = 0
    except RecsysError as error:
        _log.error("%s", error)
    except BaseException:
        _log.exception("worker failed")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # nothing of the parent's is to be cleaned up here


@contextmanager
def _the_only_parent(state: Path) -> Iterator[None]:
    lock: IO[str]
    with (state / "parent.lock").open("a+") as lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # by process: workers do not inherit it
        except OSError:
            lock.seek(0)
            raise BusyError(
                f"{state.parent} is served by process {lock.read().strip() or '?'} already: stop that one first"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _warn_of_open_doors(settings: ServingSettings) -> None:
    is_local = settings.host in ("127.0.0.1", "::1", "localhost")
    if not is_local and not settings.access.callers:
        _log.warning("%s is open to everyone who reaches it: set 'serving.access.callers'", settings.host)
    if not is_local and settings.tls is None:
        _log.warning("%s answers without encryption: set 'serving.tls'", settings.host)
