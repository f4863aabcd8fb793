"""The folder through which the processes of a service share metrics; set before prometheus_client is imported."""

import logging
import os
from pathlib import Path

from recsys.storage.local import reserve

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_KINDS = ("counter", "histogram", "gauge_livesum", "gauge_livemax", "gauge_livemin")
_BYTES = 1 << 20  # some 4,000 values per kind

_log = logging.getLogger(__name__)


def share_or_keep_alone() -> None:
    """Reserve disk space for the metrics of this process; without any left, its metrics are its own.

    prometheus_client maps files that it has not written. On a full disk, the kernel would kill the process at the first
    value that finds no room.
    """
    if FOLDER_VARIABLE not in os.environ:
        return
    files = [Path(os.environ[FOLDER_VARIABLE]) / f"{kind}_{os.getpid()}.db" for kind in _KINDS]
    try:
        for file in files:
            reserve(file, _BYTES)
    except OSError as error:
        for file in files:
            file.unlink(missing_ok=True)
        _log.warning("the metrics of this process are not added to those of the others (%s): make room", error)
        from prometheus_client import values

        values.ValueClass = values.MutexValue
        del os.environ[FOLDER_VARIABLE]


def clean(folder: Path) -> None:
    """Remove the metrics of an earlier run of the service."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.glob("*.db"):
        file.unlink(missing_ok=True)


def forget_gauges(folder: Path, process: int) -> None:
    """Remove the gauges of a process that ended; its counters stay."""
    for file in folder.glob(f"gauge_live*_{process}.db"):
        file.unlink(missing_ok=True)
