"""Where the processes of a service keep their metrics: to be settled before the metrics are imported."""

from pathlib import Path

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


def clean(folder: Path) -> None:
    """Forget the metrics of a service that ran before."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.glob("*.db"):
        file.unlink(missing_ok=True)


def forget_gauges(folder: Path, process: int) -> None:
    """Forget what a process that ended said of its present state; what it counted stays."""
    for file in folder.glob(f"gauge_live*_{process}.db"):
        file.unlink(missing_ok=True)
