"""A line that describes the machine, and a context that measures time and peak memory."""

import os
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import psutil


class Memory(NamedTuple):
    """Proportional set sizes at an instant, so that shared pages count once, in bytes."""

    at: float
    """By `time.monotonic`."""
    own: int
    """Of this process."""
    all: int
    """Of this process and its descendants."""


@dataclass
class Watch:
    """Wall-clock seconds of a block, and its samples of memory."""

    seconds: float = 0.0
    samples: list[Memory] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    @property
    def peak_bytes(self) -> int:
        """The peak memory in bytes of this process and its descendants."""
        return max((sample.all for sample in self.samples), default=0)


@contextmanager
def watched(interval: float = 0.5) -> Iterator[Watch]:
    """Measure a block.

    Args:
        interval: Seconds between two samples of memory.
    """
    watch = Watch()
    thread = threading.Thread(target=_sample_memory, args=(watch, interval), daemon=True)
    thread.start()
    start = time.perf_counter()
    try:
        yield watch
    finally:
        watch.seconds = time.perf_counter() - start
        watch._stop.set()
        thread.join()


def describe() -> str:
    """Return one line about the machine: cores, memory, Python version, architecture."""
    memory = psutil.virtual_memory().total / 2**30
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, Python {platform.python_version()}, {platform.machine()}"


def _sample_memory(watch: Watch, interval: float) -> None:
    process = psutil.Process()
    while not watch._stop.wait(interval):
        own = _proportional_set_size(process.pid)
        others = sum(_proportional_set_size(child.pid) for child in process.children(recursive=True))
        watch.samples.append(Memory(time.monotonic(), own, own + others))


def _proportional_set_size(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
