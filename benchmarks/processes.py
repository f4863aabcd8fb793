"""Servers that a benchmark starts on given cores and stops."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

PATIENCE = 120.0
"""Timeout of the start and of the stop of a server, in seconds."""


class Running:
    """A process and its descendants, pinned to some cores; leaving the context stops them.

    Args:
        command: The command to run.
        cores: Numbers of the cores.
        log: File for its output.
        environment: Variables in addition to those of this process.
    """

    def __init__(self, command: Sequence[str], cores: Sequence[int], log: Path, environment: Mapping[str, str] = {}):
        self.log = log
        self.began = time.monotonic()
        self._command = " ".join(command)
        pinned = ["taskset", "--cpu-list", ",".join(map(str, cores)), *command]
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                pinned, env={**os.environ, **environment}, stdout=output, stderr=output, start_new_session=True
            )

    def members(self) -> list[psutil.Process]:
        """Return the process and its descendants."""
        process = psutil.Process(self._process.pid)
        return [process, *process.children(recursive=True)]

    def cpu_seconds(self) -> float:
        """Return the CPU seconds of all processes, in user and in kernel mode."""
        return sum(sum(member.cpu_times()[:2]) for member in self.members())

    def wait_for(self, port: int) -> None:
        """Wait until a process listens on a port.

        Raises:
            SystemExit: If the process ends, or does not listen within the timeout.
        """
        while time.monotonic() < self.began + PATIENCE and self._process.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                return
            time.sleep(0.01)
        raise SystemExit(f"nothing listens on port {port}, must be {self._command}:\n{self.log.read_text()}")

    def finish(self) -> None:
        """Wait until the process ends.

        Raises:
            SystemExit: If its exit status is not 0.
        """
        if self._process.wait(PATIENCE):
            raise SystemExit(f"{self._command} failed:\n{self.log.read_text()}")

    def stop(self) -> None:
        """Terminate the process, and kill the rest of its group."""
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(PATIENCE)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def free_ports(count: int) -> list[int]:
    """Return ports that no process listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


def age(pid: int) -> float:
    """Return the seconds since a process started."""
    ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


def forget_pages(folder: Path) -> None:
    """Drop the files of a folder from the page cache, so that they are next read from the disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)
