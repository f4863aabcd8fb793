"""A line that describes the machine, and a context that measures time and peak memory."""

import os
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil


@dataclass
class Watch:
    """Wall-clock seconds of a block, and the peak memory in bytes of this process and its descendants."""

    seconds: float = 0.0
    peak_bytes: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)


@contextmanager
def watched(interval: float = 0.5) -> Iterator[Watch]:
    """Measure a block; memory is the sum of proportional set sizes, so that shared pages count once.

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
    own = psutil.Process()
    while not watch._stop.wait(interval):
        total = sum(_proportional_set_size(process.pid) for process in [own, *own.children(recursive=True)])
        watch.peak_bytes = max(watch.peak_bytes, total)


def _proportional_set_size(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
