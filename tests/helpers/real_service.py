"""The service as real processes, a load generator, and readers of its files, for tests that kill processes."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import psutil
from recommendations.v1 import recommendations_pb2 as pb

from recsys.config.serving import ServingSettings
from recsys.errors import RecsysError
from recsys.logs.records import EXPOSURES
from serving.client import Client
from tests.helpers.waiting import PATIENCE, wait_until

SERVE = """
import sys
from pathlib import Path
from recsys.errors import RecsysError
from recsys.config.serving import ServingSettings
from recsys.snapshot.publishing import Publisher
from recsys.snapshot.shared import SharedSnapshots
from recsys.storage.places import place
from serving.process.workers import serve
{first}
folder = Path(sys.argv[2])
shared = SharedSnapshots(place(sys.argv[3])) if sys.argv[3:] else None
try:
    serve(ServingSettings.model_validate_json(sys.argv[1]), folder, Publisher(folder / "snapshots", shared))
except RecsysError as error:
    sys.exit(f"{{type(error).__name__}}: {{error}}")
"""


def free_ports(count: int) -> list[int]:
    """Return free ports."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


class RealService:
    """A parent process and its workers, in their own process group.

    Args:
        folder: The shop's folder.
        first: Code that runs before the service.
        shared: URL of the snapshots that the service pulls.
        settings: Changes to the default settings: free ports, a replayed clock, short polling intervals.
    """

    def __init__(self, folder: Path, first: str = "", shared: str = "", **settings: object):
        port, admin_port, metrics_port = free_ports(3)
        defaults = {"port": port, "admin_port": admin_port, "metrics_port": metrics_port, "poll_seconds": 0.05}
        self.settings = ServingSettings(**{**defaults, "clock": "replay", "replay_start_hours": 1.0, **settings})
        self.target = f"127.0.0.1:{self.settings.port}"
        self.admin_target = f"127.0.0.1:{self.settings.admin_port}"
        self.log_file = folder / "service.log"
        self._folder, self._first, self._shared = folder, first, [shared] if shared else []

    def start(self) -> "RealService":
        """Start the parent process."""
        command = [sys.executable, "-c", SERVE.format(first=self._first), self.settings.model_dump_json()]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, str(self._folder), *self._shared],
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self

    def ready(self) -> "RealService":
        """Wait until every worker listens."""
        wait_until(lambda: self.process.poll() is not None or len(self.listening()) == self.settings.workers)
        assert self.process.poll() is None, self.log()
        return self

    def workers(self) -> list[int]:
        """Return the process ids of the parent's workers."""
        with suppress(psutil.NoSuchProcess):
            return [child.pid for child in psutil.Process(self.process.pid).children()]
        return []

    def listening(self) -> list[int]:
        """Return the process ids of the workers that listen."""
        log = self.log()
        return [worker for worker in self.workers() if re.search(rf"\b{worker}\b.*listening on", log)]

    def log(self) -> str:
        """Return the content of the service's log."""
        return self.log_file.read_text()

    def complaints(self) -> list[str]:
        """Return the log lines above level INFO, without expected ones."""
        expected = "files/ranker is missing"  # small snapshots have no ranker
        return [line for line in self.log().splitlines() if " INFO " not in line and expected not in line]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal to the parent, wait for its end, and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def kill_all(self) -> None:
        """Kill the parent and all workers, also those of killed parents."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE)

    def members(self) -> list[psutil.Process]:
        """Return the running processes of the service's process group, whatever their parent."""
        with_ids = ((process, _group_of(process)) for process in psutil.process_iter())
        return [process for process, group in with_ids if group == self.process.pid]

    def __enter__(self) -> "RealService":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill_all()

    def client(self) -> Client:
        """Return a client of the service."""
        return Client(self.target, deadline=PATIENCE, admin_target=self.admin_target)


def lives(process: psutil.Process) -> bool:
    """Return whether a process is running; a zombie is not."""
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _group_of(process: psutil.Process) -> int | None:
    with suppress(ProcessLookupError):
        return os.getpgid(process.pid)
    return None


class Answer(NamedTuple):
    user_id: str
    began: float
    """By the monotonic clock, as is `ended`."""
    ended: float
    page: pb.GetTopSalesResponse


class Load:
    """Requests pages in several threads, each with its own connection, until a failure or the end of the context."""

    def __init__(self, target: str, users: Sequence[str] = ("ann", "bob", "nobody"), threads: int = 4):
        self.answers: list[Answer] = []
        self.failures: list[RecsysError] = []
        self._target, self._users = target, users
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(threads)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, count: int) -> None:
        """Wait for `count` more answers."""
        wanted = len(self.answers) + count
        wait_until(lambda: len(self.answers) >= wanted or self.failures)

    def saw(self, snapshot: str, count: int) -> bool:
        """Return whether the last `count` answers came from a snapshot, or a request has failed."""
        latest = self.answers[-count:]
        return bool(self.failures) or all(answer.page.snapshot == snapshot for answer in latest)

    def wait_for_the_end(self) -> None:
        """Wait until all threads have ended."""
        wait_until(lambda: not any(thread.is_alive() for thread in self._threads))

    def pages(self) -> dict[str, set[tuple[str, ...]]]:
        """Return the set of pages that each user saw."""
        seen: dict[str, set[tuple[str, ...]]] = {}
        for answer in self.answers:
            seen.setdefault(answer.user_id, set()).add(shown(answer.page))
        return seen

    def _ask(self) -> None:
        with Client(self._target, deadline=PATIENCE) as client:
            for user_id in cycle(self._users):
                if self._done.wait(0.002):
                    return
                began = time.monotonic()
                try:
                    page = client.top_sales(user_id)
                except RecsysError as error:
                    self.failures.append(error)
                    return
                self.answers.append(Answer(user_id, began, time.monotonic(), page))


def shown(page: pb.GetTopSalesResponse) -> tuple[str, ...]:
    return tuple(sale.sale_id for sale in page.sales)


def exposed(folder: Path) -> Iterator[dict]:
    """Yield the exposures of a shop, including those of killed processes, whose last line may be incomplete."""
    for file in (folder / EXPOSURES).iterdir():
        for line in file.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                yield json.loads(line)
