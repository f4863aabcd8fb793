"""What a benchmark says of the machine, and how it watches time and memory."""

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
    """Seconds that a block took, and the peak memory of this process and all that it started."""

    seconds: float = 0.0
    peak_bytes: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)


@contextmanager
def watched(interval: float = 0.5) -> Iterator[Watch]:
    """Watch a block; memory is the sum of proportional set sizes, so that shared pages count once."""
    watch = Watch()
    thread = threading.Thread(target=_sample, args=(watch, interval), daemon=True)
    thread.start()
    start = time.perf_counter()
    try:
        yield watch
    finally:
        watch.seconds = time.perf_counter() - start
        watch._stop.set()
        thread.join()


def describe() -> str:
    """Return a line that names the machine."""
    memory = psutil.virtual_memory().total / 2**30
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, Python {platform.python_version()}, {platform.machine()}"


def _sample(watch: Watch, interval: float) -> None:
    me = psutil.Process()
    while not watch._stop.wait(interval):
        total = sum(_proportional_set_size(process.pid) for process in [me, *me.children(recursive=True)])
        watch.peak_bytes = max(watch.peak_bytes, total)


def _proportional_set_size(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
