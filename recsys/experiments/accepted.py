"""The experiment files in force: copies of the written files, made once a file passes every check.

All processes of a service read the copies: a file that breaks a rule changes nothing, not even after a restart, and all
processes serve the same experiments.
"""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from recsys.errors import ConfigurationError
from recsys.experiments.files import load_experiments
from recsys.experiments.settings import ExperimentFile
from recsys.experiments.transition import check_transition
from recsys.storage.local import held, write_whole

IN_FORCE = Path("experiments") / "in_force"
"""The folder of the copies, within the shop's folder."""
_SUFFIXES = (".yaml", ".yml", ".json")
"""A surface has one written file with one of these suffixes; its copy in force is always .yaml, which JSON is too."""


class AcceptedFiles:
    """The experiment files of a shop, one per surface.

    Args:
        source: The folder of the written files, such as conf/experiments; home.yaml, home.yml or home.json is for
            surface home.
        accepted: The folder of the copies in force.
    """

    def __init__(self, source: Path, accepted: Path):
        self._source = source
        self._accepted = accepted

    def state(self) -> object:
        """Return a value that differs as soon as a file of either folder has changed."""
        files = [path for folder in (self._source, self._accepted) for path in _experiment_files(folder)]
        return {file: (stat := file.stat(), (stat.st_mtime_ns, stat.st_size, stat.st_ino))[1] for file in files}

    def in_force(self) -> dict[str, ExperimentFile]:
        """Return the accepted files by surface."""
        return {file.stem: load_experiments(file) for file in _experiment_files(self._accepted)}

    def as_written(self) -> tuple[dict[str, ExperimentFile], list[str]]:
        """Return the written files by surface, with the copy in force for each invalid one, and the problems found."""
        files, problems = self.in_force(), []
        for surface in self._written_surfaces():
            try:
                files[surface] = load_experiments(written_file(self._source, surface))
            except ConfigurationError as error:
                problems.append(str(error))
        return files, problems

    def waiting(self) -> list[Path]:
        """Return the written files that differ from the copies in force, or have none."""
        in_force = {path.stem: path.read_bytes() for path in _experiment_files(self._accepted)}
        return [path for path in _experiment_files(self._source) if path.read_bytes() != in_force.get(path.stem)]

    def take_over(self, now: datetime, check: Callable[[str, ExperimentFile], None]) -> list[str]:
        """Put changed files in force, each one completely or not at all; return the problems of those refused.

        Args:
            now: The current time; experiments that run at it may change in few ways.
            check: Called with surface and file; raises ConfigurationError for a file that cannot be served.
        """
        with held(self._accepted):
            surfaces = {*self._written_surfaces(), *(path.stem for path in _experiment_files(self._accepted))}
            return [problem for surface in sorted(surfaces) if (problem := self._accept(surface, now, check))]

    def _written_surfaces(self) -> list[str]:
        return sorted({path.stem for path in _experiment_files(self._source)})

    def _accept(self, surface: str, now: datetime, check: Callable[[str, ExperimentFile], None]) -> str | None:
        """Put the file of a surface in force; return why it is refused, or None."""
        accepted = self._accepted / f"{surface}.yaml"
        try:
            written = written_file(self._source, surface)
        except ConfigurationError as error:
            return str(error)
        if not written.exists():
            return f"{written} is gone, its experiments stay in force: put it back; 'kill_switch: true' ends them all"
        content = written.read_bytes()
        if accepted.exists() and accepted.read_bytes() == content:
            return None
        try:
            new = load_experiments(written)
            if accepted.exists():
                check_transition(load_experiments(accepted), new, now)
            check(surface, new)
        except ConfigurationError as error:
            return str(error) if str(error).startswith(str(written)) else f"{written}: {error}"
        if written.read_bytes() == content:  # otherwise it changed meanwhile: the next call reads it again
            write_whole(accepted, content)
        return None


def written_file(folder: Path, surface: str) -> Path:
    """Return the path of a surface's file, SURFACE.yaml if there is none.

    Raises:
        ConfigurationError: If there are two, such as home.yaml and home.json.
    """
    found = [path for suffix in _SUFFIXES if (path := folder / f"{surface}{suffix}").exists()]
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise ConfigurationError(f"{folder} has {names}, must have one file for surface {surface!r}: remove the others")
    return found[0] if found else folder / f"{surface}.yaml"


def _experiment_files(folder: Path) -> list[Path]:
    return sorted(path for suffix in _SUFFIXES for path in folder.glob(f"*{suffix}"))
