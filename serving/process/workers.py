"""Runs the service: a parent process that supervises worker processes, and does not answer requests itself.

The parent imports everything before it forks, so that the workers share that memory, and it never starts a thread or a
connection, so that it can fork at any time. Workers listen on the same ports (SO_REUSEPORT): the kernel distributes
connections among them.

If the parent is killed, its workers go on answering. The next parent on the same folder starts workers of its own; once
these are ready, the orphaned workers finish their requests and end: no request fails in between.
"""

import fcntl
import gc
import logging
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from threadpoolctl import threadpool_limits

from recsys.config.serving import ServingSettings, host_and_port
from recsys.errors import BusyError, ConfigurationError, RecsysError
from recsys.snapshot.publishing import Publisher
from serving.stores.shared_counter import SharedCounter
from serving.telemetry import logs
from serving.telemetry.metrics_folder import FOLDER_VARIABLE, clean, forget_gauges

_STOP = (signal.SIGTERM, signal.SIGINT)
_WATCH_SECONDS = 0.2
_SLOWEST_RESTART_SECONDS = 5.0

# A thread that computes keeps the interpreter lock for this long while others wait for it. A request changes threads
# some five times: at Python's 5 ms, the pages beside a batch would take 25 ms longer.
_SWITCH_SECONDS = 0.0005

_log = logging.getLogger(__name__)


def serve(settings: ServingSettings, folder: Path, publisher: Publisher | None = None) -> None:
    """Run the service until SIGTERM or SIGINT; in the main thread only.

    Args:
        settings: The service's settings.
        folder: The folder of the shop on this machine's disk.
        publisher: What is published in an object store, if snapshots are to be pulled from there.

    Raises:
        ConfigurationError: If it cannot listen on an address.
        BusyError: If another service already runs on the folder.
    """
    logs.configure(settings.log)
    os.umask(os.umask(0o077) | 0o077)  # logs and sessions hold personal data: they are the service's user's alone
    _allow_open_files()
    sys.setswitchinterval(_SWITCH_SECONDS)
    state = folder / "serving"
    state.mkdir(parents=True, exist_ok=True)
    threadpool_limits(1)  # matrices are small here: with more threads, the linear algebra would wait for itself
    os.environ[FOLDER_VARIABLE] = str(state / "metrics")
    with _parent_lock(state), (state / "workers.lock").open("w") as workers:
        if not _has_orphans(workers):
            _require_free_ports(settings)
        clean(state / "metrics")
        # Not earlier: the folder of metrics must be set before prometheus_client is imported.
        import serving.process.server  # noqa: F401
        from serving.telemetry.pull_status import forget_status

        forget_status(state)
        _warn_if_unprotected(settings)
        _Parent(settings, folder, SharedCounter(state / "generation"), publisher).run()


class _Parent:
    def __init__(
        self, settings: ServingSettings, folder: Path, generation: SharedCounter, publisher: Publisher | None = None
    ):
        self._publisher = publisher
        self._puller: int | None = None
        self._settings = settings
        self._folder = folder
        self._generation = generation
        self._own_generation = generation.value() + 1
        self._workers: dict[int, float] = {}
        self._stopping = False
        self._quick_deaths = 0

    def run(self) -> None:
        """Start the workers, replace those that end, and return when all have stopped."""
        for number in _STOP:
            signal.signal(number, self._stop)
        gc.collect()
        gc.freeze()  # imported code is never garbage: workers need not scan it, nor write to its shared memory pages
        self._start_puller()
        ready = all(_is_ready(pipe) for pipe in [self._start_worker() for _ in range(self._settings.workers)])
        if ready:
            self._generation.increase()  # tells the orphans of a killed parent to end
        else:
            self._stop()
        while self._workers:
            self._replace_ended_worker()
        if not ready:
            raise ConfigurationError("the service cannot start: see the errors logged above, and correct them")
        _log.info("stopped")

    def _stop(self, *_: object) -> None:
        self._stopping = True
        for worker in self._workers:
            os.kill(worker, signal.SIGTERM)

    def _start_worker(self) -> int:
        """Start a worker; return a pipe that becomes readable when the worker is ready, or has ended."""
        reading, writing = os.pipe()
        parent = os.getpid()

        def run() -> None:
            os.close(reading)
            _run_worker(self._settings, self._folder, self._generation, self._own_generation, parent, writing)

        self._fork(run)
        os.close(writing)
        return reading

    def _start_puller(self) -> None:
        """Start the process that pulls snapshots, if they come from an object store."""
        publisher, parent = self._publisher, os.getpid()
        if publisher is not None and publisher.shared is not None:
            state, seconds = self._folder / "serving", self._settings.pull_seconds
            self._puller = self._fork(lambda: _run_puller(publisher, state, seconds, parent))

    def _fork(self, run: Callable[[], None]) -> int:
        """Run a function that ends its process in a child, and return the child's process id."""
        # A signal before the child is registered here, or has its handler, would not end it.
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOP)
        child = os.fork()
        if child == 0:
            run()
        self._workers[child] = time.monotonic()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP)
        if self._stopping:
            os.kill(child, signal.SIGTERM)
        return child

    def _replace_ended_worker(self) -> None:
        try:
            worker, status = os.wait()
        except InterruptedError:
            return
        started = self._workers.pop(worker, None)
        forget_gauges(self._folder / "serving" / "metrics", worker)
        if started is None or self._stopping:
            return
        kind = "puller" if worker == self._puller else "worker"
        _log.warning("%s %d ended with exit code %d: starting another", kind, worker, os.waitstatus_to_exitcode(status))
        self._quick_deaths = self._quick_deaths + 1 if time.monotonic() - started < 1 else 0
        time.sleep(min(0.05 * 2**self._quick_deaths - 0.05, _SLOWEST_RESTART_SECONDS))
        if self._stopping:
            return
        if worker == self._puller:
            self._start_puller()
        else:
            os.close(self._start_worker())


def _run_worker(
    settings: ServingSettings, folder: Path, generation: SharedCounter, own_generation: int, parent: int, ready: int
) -> None:
    """Answer until SIGTERM, or until the workers of another parent are ready; end the process."""
    from serving.process.server import start_server

    stopped = threading.Event()
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent forwards it as SIGTERM
        signal.signal(signal.SIGTERM, lambda *_: stopped.set())
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP)
        gc.set_threshold(50_000, 20, 100)  # answers create no reference cycles
        with start_server(settings, folder, shares_ports=True) as server:
            _log.info("listening on %s", server.target)
            with suppress(BrokenPipeError):  # the parent does not wait for a replacement
                os.write(ready, b"1")
            os.close(ready)
            is_orphan = False
            while not stopped.wait(_WATCH_SECONDS):
                if not is_orphan and os.getppid() != parent:
                    _log.warning("the parent process has ended: answering until the service is started again")
                    is_orphan = True
                # Orphans of a parent that died before it was ready end: the next parent has the same generation.
                if generation.value() > own_generation or (is_orphan and generation.value() < own_generation):
                    break
        code = 0
    except RecsysError as error:
        _log.error("%s", error)
    except BaseException:
        _log.exception("worker failed")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # skip the cleanup handlers inherited from the parent


def _run_puller(publisher: Publisher, state: Path, seconds: float, parent: int) -> None:
    """Pull snapshots until SIGTERM or the end of the parent; end the process."""
    from serving.process.puller import run_puller

    try:
        run_puller(publisher, state, seconds, parent)
    except BaseException:
        _log.exception("puller failed")
    finally:
        sys.stderr.flush()
        os._exit(1)  # skip the cleanup handlers inherited from the parent


def _is_ready(pipe: int) -> bool:
    """Wait until a worker is ready or has ended; tell whether it is ready. One that ended has logged why."""
    with os.fdopen(pipe, "rb") as reading:
        return bool(reading.read(1))


@contextmanager
def _parent_lock(state: Path) -> Iterator[None]:
    lock: IO[str]
    with (state / "parent.lock").open("a+") as lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # a lock of the process: workers do not inherit it
        except OSError:
            lock.seek(0)
            raise BusyError(
                f"{state.parent} is already served by process {lock.read().strip() or '?'}: stop that process first"
            ) from None
        with suppress(OSError):  # on a full disk, as the number is only for people
            lock.truncate(0)
            os.write(lock.fileno(), str(os.getpid()).encode())
        yield


def _has_orphans(workers: IO[str]) -> bool:
    """Tell whether workers of a killed parent run; hold the lock from then on, shared with the workers to come."""
    try:
        fcntl.flock(workers, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        fcntl.flock(workers, fcntl.LOCK_SH)  # a lock of the open file: workers inherit it


def _require_free_ports(settings: ServingSettings) -> None:
    """Check that no other service listens: the two would share the ports, and callers would reach either of them."""
    for key in ("port", "admin_port", "metrics_port"):
        port = getattr(settings, key)
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        with socket.socket(family) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((settings.host, port or 0))
            except OSError as error:
                address = host_and_port(settings.host, port)
                raise ConfigurationError(
                    f"cannot listen on {address}, must be an address of this machine that nothing else listens on "
                    f"({error.strerror}): stop the other service, or set 'serving.host' and 'serving.{key}'"
                ) from None


def _allow_open_files() -> None:
    """Raise the limit of open files to what the system allows: each connection is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _warn_if_unprotected(settings: ServingSettings) -> None:
    is_local = settings.host in ("127.0.0.1", "::1", "localhost")
    if not is_local and not settings.access.callers:
        _log.warning("%s accepts requests from everyone: set 'serving.access.callers'", settings.host)
    if not is_local and settings.tls is None:
        _log.warning("%s is not encrypted: set 'serving.tls'", settings.host)
