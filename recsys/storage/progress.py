"""What a run did and is doing, step by step: one small file in its folder, for those who look at it meanwhile."""

from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from recsys.storage.places import Place, put

PROGRESS = "progress.json"


class StepProgress(BaseModel):
    """The last time that a step was begun."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    state: Literal["running", "done", "failed"]
    """A step of a killed process stays `running`: `holder` of the folder tells whether one has its lease."""
    started_at: AwareDatetime
    seconds: float | None = None
    """How long it took; None while it runs."""
    told: str = ""
    """Its summary, or the error that ended it."""


class Progress(BaseModel):
    """The steps of a run, in the order in which they were begun; of each the last time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: tuple[StepProgress, ...] = ()

    def with_step(self, step: StepProgress) -> "Progress":
        """Return this progress with a step begun, or ended; it takes the place of an earlier one of its name."""
        names = [each.name for each in self.steps]
        if step.name not in names:
            return Progress(steps=(*self.steps, step))
        at = names.index(step.name)
        return Progress(steps=(*self.steps[:at], step, *self.steps[at + 1 :]))


def read_progress(folder: Place) -> Progress:
    """Return the progress of the run of a folder; empty if it has written none, or a version with other fields has."""
    try:
        return Progress.model_validate_json((folder / PROGRESS).read_bytes())
    except (FileNotFoundError, ValidationError):
        return Progress()


def write_progress(folder: Place, progress: Progress) -> None:
    """Write the progress of the run of a folder, replacing what it was."""
    put(folder / PROGRESS, progress.model_dump_json(indent=1))
