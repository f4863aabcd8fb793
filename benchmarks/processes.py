"""Servers that a benchmark starts on cores of their own, and ends."""

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
"""Seconds that a server may take to begin, or to end."""


class Running:
    """A process and all that it starts, pinned to some cores; leaving its context ends them.

    Args:
        command: To run.
        cores: Numbers of the cores.
        log: File of its output.
        environment: Added to this process' own.
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
        """Return the CPU time of all of them, in user and in kernel mode."""
        return sum(sum(member.cpu_times()[:2]) for member in self.members())

    def wait_for(self, port: int) -> None:
        """Wait until something listens on a port.

        Raises:
            SystemExit: If the process ends, or takes too long.
        """
        while time.monotonic() < self.began + PATIENCE and self._process.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                return
            time.sleep(0.01)
        raise SystemExit(f"nothing listens on port {port}, it should be {self._command}:\n{self.log.read_text()}")

    def finish(self) -> None:
        """Wait until the process has done its work.

        Raises:
            SystemExit: If it failed.
        """
        if self._process.wait(PATIENCE):
            raise SystemExit(f"{self._command} failed:\n{self.log.read_text()}")

    def stop(self) -> None:
        """Ask the process to end, and kill what is left of its group."""
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
    """Return ports that nothing listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


def age(pid: int) -> float:
    """Return the seconds since a process was started."""
    ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


def forget_pages(folder: Path) -> None:
    """Drop the files of a folder from the page cache, so that they are read from the disk next time."""
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)
