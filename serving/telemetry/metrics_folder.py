"""The folder through which the processes of a service share metrics; set before prometheus_client is imported."""

from pathlib import Path

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


def clean(folder: Path) -> None:
    """Remove the metrics of an earlier run of the service."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.glob("*.db"):
        file.unlink(missing_ok=True)


def forget_gauges(folder: Path, process: int) -> None:
    """Remove the gauges of a process that ended; its counters stay."""
    for file in folder.glob(f"gauge_live*_{process}.db"):
        file.unlink(missing_ok=True)
