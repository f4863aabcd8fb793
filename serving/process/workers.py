"""Runs the service: a parent that keeps worker processes alive, and never answers itself.

The parent imports everything before it forks, so that the workers share that memory, and it never starts a thread or a
connection, so that it can fork again. Workers listen on the same ports (SO_REUSEPORT): the system spreads connections.

A parent that is killed leaves its workers answering. The next parent on the same folder starts workers of its own, and
once these are ready the orphans finish their requests and end: no request fails in between.
"""

import fcntl
import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from threadpoolctl import threadpool_limits

from recsys.config.serving import ServingSettings
from recsys.errors import BusyError, ConfigurationError, RecsysError
from serving.stores.shared_counter import SharedCounter
from serving.telemetry import logs
from serving.telemetry.metrics_folder import FOLDER_VARIABLE, clean, forget_gauges

_STOP = (signal.SIGTERM, signal.SIGINT)
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
    threadpool_limits(1)  # products of matrices are small here: threads of the linear algebra would wait for each other
    os.environ[FOLDER_VARIABLE] = str(state / "metrics")
    with _the_only_parent(state), (state / "workers.lock").open("w") as workers:
        if not _has_orphans(workers):
            _require_free_ports(settings)
        clean(state / "metrics")
        import serving.process.server  # noqa: F401  here: it must find the folder of metrics set

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
        for number in _STOP:
            signal.signal(number, self._stop)
        gc.collect()
        gc.freeze()  # what is imported is never garbage: no worker looks through it again, or writes to its pages
        ready = all(_is_ready(pipe) for pipe in [self._start_worker() for _ in range(self._settings.workers)])
        if ready:
            self._generation.increase()  # orphans of a killed parent may go
        else:
            self._stop()
        while self._workers:
            self._replace_dead_one()
        if not ready:
            raise ConfigurationError("the service cannot start, see its log above: correct what it says")
        _log.info("stopped")

    def _stop(self, *_: object) -> None:
        self._stopping = True
        for worker in self._workers:
            os.kill(worker, signal.SIGTERM)

    def _start_worker(self) -> int:
        """Start a worker, and return what becomes readable when it is ready, or dead."""
        reading, writing = os.pipe()
        # One that comes before the worker is known here, or listens for it, would not end it.
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOP)
        parent = os.getpid()
        worker = os.fork()
        if worker == 0:
            os.close(reading)
            _be_a_worker(self._settings, self._folder, self._generation, self._mine, parent, writing)
        os.close(writing)
        self._workers[worker] = time.monotonic()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP)
        if self._stopping:
            os.kill(worker, signal.SIGTERM)
        return reading

    def _replace_dead_one(self) -> None:
        try:
            worker, status = os.wait()
        except InterruptedError:
            return
        started = self._workers.pop(worker, None)
        forget_gauges(self._folder / "serving" / "metrics", worker)
        if started is None or self._stopping:
            return
        _log.warning("worker %d ended with %d: starting another", worker, os.waitstatus_to_exitcode(status))
        self._quick_deaths = self._quick_deaths + 1 if time.monotonic() - started < 1 else 0
        time.sleep(min(0.05 * 2**self._quick_deaths - 0.05, _SLOWEST_RESTART_SECONDS))
        if not self._stopping:
            os.close(self._start_worker())


def _be_a_worker(
    settings: ServingSettings, folder: Path, generation: SharedCounter, mine: int, parent: int, ready: int
) -> None:
    """Answer until SIGTERM, or until another parent's workers are there; never return."""
    from serving.process.server import start_server

    stopped = threading.Event()
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent passes it on as SIGTERM
        signal.signal(signal.SIGTERM, lambda *_: stopped.set())
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP)
        gc.set_threshold(50_000, 20, 100)  # answers make no cycles
        with start_server(settings, folder, shares_ports=True) as server:
            _log.info("listening on %s", server.target)
            with suppress(BrokenPipeError):  # nobody waits for one that replaces another
                os.write(ready, b"1")
            os.close(ready)
            is_orphan = False
            while not stopped.wait(_WATCH_SECONDS):
                if not is_orphan and os.getppid() != parent:
                    _log.warning("the parent is gone: answering until the service is started again")
                    is_orphan = True
                # A parent that died before all its workers were ready leaves none: the next one has the same number.
                if generation.value() > mine or (is_orphan and generation.value() < mine):
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


def _is_ready(pipe: int) -> bool:
    """Wait until a worker is ready; one that died has said why."""
    with os.fdopen(pipe, "rb") as reading:
        return bool(reading.read(1))


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


def _has_orphans(workers: IO[str]) -> bool:
    """Tell whether a killed parent's workers are there, and hold the lock for as long as this one's will be."""
    try:
        fcntl.flock(workers, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        fcntl.flock(workers, fcntl.LOCK_SH)  # by open file: workers inherit it


def _require_free_ports(settings: ServingSettings) -> None:
    """Check that no other service listens: ours would share its ports, and callers get either's pages."""
    for key in ("port", "admin_port", "metrics_port"):
        port = getattr(settings, key)
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        with socket.socket(family) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((settings.host, port or 0))
            except OSError as error:
                raise ConfigurationError(
                    f"cannot listen on {settings.host}:{port}, must be an address of this machine that nothing else "
                    f"listens on ({error.strerror}): stop the other service, or set 'serving.host' and 'serving.{key}'"
                ) from None


def _warn_of_open_doors(settings: ServingSettings) -> None:
    is_local = settings.host in ("127.0.0.1", "::1", "localhost")
    if not is_local and not settings.access.callers:
        _log.warning("%s is open to everyone who reaches it: set 'serving.access.callers'", settings.host)
    if not is_local and settings.tls is None:
        _log.warning("%s answers without encryption: set 'serving.tls'", settings.host)
