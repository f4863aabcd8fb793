"""What the process that pulls snapshots from an object store last did: a file that the workers of its machine read."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from recsys.storage.local import write_whole
from serving.telemetry.metrics import Metrics

_FILE = "pull.json"
_LONG_SECONDS = 600.0


class PullStatus(BaseModel):
    """The last look into the store; instants are seconds since 1970 by the machine's clock."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    interval_seconds: float
    """Time between two looks while nothing fails."""
    looked_at: float
    """When the store last said what is published, or when the process began to ask."""
    newest: str | None = None
    """The snapshot that the store says is served; None before the first one."""
    published_at: float | None = None
    """When it was published."""
    pulled_seconds: float | None = None
    """Time that the last pull of a snapshot took."""
    problem: str | None = None
    """Why the last look or pull failed; None if it did not."""

    def problem_at(self, now: float) -> str | None:
        """Return what is wrong, also if the process that pulls has not looked for long; None if nothing is."""
        if self.problem is not None:
            return self.problem
        silence = now - self.looked_at
        if silence > max(_LONG_SECONDS, 5 * self.interval_seconds):  # a large snapshot is pulled meanwhile
            return f"not looked at for {silence:.0f} s: see the service's log, the process that pulls may hang"
        return None

    def show(self, metrics: Metrics, now: float) -> str | None:
        """Set the metrics of a worker, and return what its status says is wrong; None if nothing is."""
        problem = self.problem_at(now)
        metrics.pull_failing.set(problem is not None)
        metrics.pull_age.set(now - self.looked_at)
        metrics.pull_seconds.set(self.pulled_seconds or 0)
        metrics.published_age.set(now - self.published_at if self.published_at else 0)
        newest = f"{self.newest} is the newest published one known" if self.newest else "none is known"
        return problem and f"{problem}; pages go on with what is here, {newest}"


def write_status(folder: Path, status: PullStatus) -> None:
    """Write the status into the service's folder."""
    write_whole(folder / _FILE, status.model_dump_json())


def read_status(folder: Path) -> PullStatus | None:
    """Return the status in the service's folder; None on a machine that pulls nothing."""
    try:
        return PullStatus.model_validate_json((folder / _FILE).read_bytes())
    except (OSError, ValidationError):
        return None


def forget_status(folder: Path) -> None:
    """Remove the status of an earlier service."""
    (folder / _FILE).unlink(missing_ok=True)
