"""The experiments of each surface: what their files say, what is in force, and what was last found of them."""

from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from recsys.config.settings import Settings
from recsys.errors import ConfigurationError
from recsys.experiments.accepted import IN_FORCE, AcceptedFiles, written_file
from recsys.experiments.analysis.results import Result
from recsys.experiments.files import load_experiments
from recsys.experiments.settings import Experiment, ExperimentFile

_PHASES = IN_FORCE.parts[0]
_REPORT = "report"


class ExperimentLine(NamedTuple):
    """An experiment."""

    experiment: Experiment
    state: str
    """Its status, or `coming` or `ended` for one that would run at another time."""
    traffic: float
    """Share of all users that it takes in, at most, in [0, 1]."""
    result: Result | None
    """What the last analysis of this phase found; None if there was none."""
    alarms: tuple[str, ...]
    """What of that must be looked at."""


class Surface(NamedTuple):
    """The experiments of a surface."""

    name: str
    path: Path
    is_in_force: bool
    """Whether the written file is what the service goes by."""
    file: ExperimentFile | None
    """None if it breaks a rule."""
    problem: str
    lines: list[ExperimentLine]


def folder_of(settings: Settings) -> Path:
    """Return the folder of the written files.

    Raises:
        ConfigurationError: If none is configured.
    """
    if settings.serving.experiments is None:
        raise ConfigurationError(
            "serving.experiments == None, must be the folder of the experiment files: set it, such "
            "as conf/experiments, and start the service again"
        )
    return Path(settings.serving.experiments)


def accepted_files(settings: Settings) -> AcceptedFiles:
    """Return the files that are written, and those that are in force."""
    return AcceptedFiles(folder_of(settings), settings.own_disk / IN_FORCE)


def read_surfaces(settings: Settings, present: datetime) -> list[Surface]:
    """Return the surfaces that have a file, written or in force, by name."""
    files = accepted_files(settings)
    waiting = {path.stem for path in files.waiting()}
    written = {path.stem for path in folder_of(settings).glob("*") if path.suffix in (".yaml", ".yml", ".json")}
    names = sorted({*written, *files.in_force()})
    return [_surface(settings, name, name in written and name not in waiting, present) for name in names]


def report_of(settings: Settings, key: str, phase: int) -> Path:
    """Return the path of the HTML report of a phase of an experiment, which need not exist."""
    return _phase_folder(settings, key, phase) / "report.html"


def _surface(settings: Settings, name: str, is_in_force: bool, present: datetime) -> Surface:
    path = folder_of(settings) / name
    try:
        path = written_file(folder_of(settings), name)
        file = load_experiments(path)
    except ConfigurationError as error:
        return Surface(name, path, False, None, str(error), [])
    lines = [_line(settings, each, present) for each in file.experiments]
    return Surface(name, path, is_in_force, file, "", sorted(lines, key=lambda line: not line.alarms))


def _line(settings: Settings, experiment: Experiment, present: datetime) -> ExperimentLine:
    layer = sum(end - start for start, end in experiment.layer.ranges) if experiment.layer else 1.0
    result = _result(_phase_folder(settings, experiment.key, experiment.phase) / "result.json")
    return ExperimentLine(
        experiment, _state(experiment, present), layer * experiment.coverage, result, _alarms(result) if result else ()
    )


def _state(experiment: Experiment, present: datetime) -> str:
    if experiment.status != "running":
        return experiment.status
    if present < experiment.start:
        return "coming"
    return "running" if present < experiment.end else "ended"


def _phase_folder(settings: Settings, key: str, phase: int) -> Path:
    return settings.own_disk / _PHASES / f"{key}-{phase}" / _REPORT


def _result(path: Path) -> Result | None:
    try:
        return Result.from_json(path.read_text("utf-8"))
    except (OSError, ValueError):  # none yet, or one of another version
        return None


def _alarms(result: Result) -> tuple[str, ...]:
    alarms = []
    if result.health.has_sample_ratio_mismatch(result.conventions.srm_alpha):
        alarms.append(
            f"Sample ratio mismatch (SRM): users are not split by the weights, p = "
            f"{result.health.sequential_sample_ratio_p:.2g}. Do not use the differences."
        )
    alarms += [
        f"Guardrail {each.metric} of {each.variant} is violated."
        for each in result.comparisons
        if each.guard is not None and each.guard.state == "violated"
    ]
    return (*alarms, *result.health.warnings)
