"""The experiment files in force: copies of those that people write, taken over once they pass every check.

All processes of a service read the copies: a file that breaks a rule changes nothing, not after a restart either, and
no process serves an experiment that another one refused.
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
"""The folder of the copies, below the shop's."""
_PATTERN = "*.yaml"


class AcceptedFiles:
    """The experiment files of a shop, one a surface.

    Args:
        source: The folder that people write to, such as conf/experiments; home.yaml is for surface home.
        accepted: The folder of the copies in force.
    """

    def __init__(self, source: Path, accepted: Path):
        self._source = source
        self._accepted = accepted

    def state(self) -> object:
        """Return what changes whenever a file of either folder does."""
        files = [*self._source.glob(_PATTERN), *self._accepted.glob(_PATTERN)]
        return {file: (stat := file.stat(), (stat.st_mtime_ns, stat.st_size, stat.st_ino))[1] for file in files}

    def in_force(self) -> dict[str, ExperimentFile]:
        """Return the accepted files by surface."""
        return {file.stem: load_experiments(file) for file in sorted(self._accepted.glob(_PATTERN))}

    def as_written(self) -> tuple[dict[str, ExperimentFile], list[str]]:
        """Return the files by surface as people wrote them, for broken ones those in force; and what is wrong."""
        files, problems = self.in_force(), []
        for path in sorted(self._source.glob(_PATTERN)):
            try:
                files[path.stem] = load_experiments(path)
            except ConfigurationError as error:
                problems.append(str(error))
        return files, problems

    def waiting(self) -> list[Path]:
        """Return the files that are written, and not in force as they are."""
        written = sorted(self._source.glob(_PATTERN))
        in_force = {path.name: path.read_bytes() for path in self._accepted.glob(_PATTERN)}
        return [path for path in written if path.read_bytes() != in_force.get(path.name)]

    def take_over(self, now: datetime, check: Callable[[str, ExperimentFile], None]) -> list[str]:
        """Put changed files in force, each whole or not at all; return why others are not.

        Args:
            now: Experiments that run then may change in few ways.
            check: Raises ConfigurationError for a file of a surface that cannot be served.
        """
        with held(self._accepted):
            surfaces = {path.name for folder in (self._source, self._accepted) for path in folder.glob(_PATTERN)}
            return [problem for name in sorted(surfaces) if (problem := self._taken_over(name, now, check))]

    def _taken_over(self, name: str, now: datetime, check: Callable[[str, ExperimentFile], None]) -> str | None:
        written, accepted = self._source / name, self._accepted / name
        if not written.exists():
            return f"{written} is gone, its experiments stay in force: put it back; 'kill_switch: true' ends them all"
        content = written.read_bytes()
        if accepted.exists() and accepted.read_bytes() == content:
            return None
        try:
            new = load_experiments(written)
            if accepted.exists():
                check_transition(load_experiments(accepted), new, now)
            check(written.stem, new)
        except ConfigurationError as error:
            return str(error) if str(error).startswith(str(written)) else f"{written}: {error}"
        if written.read_bytes() == content:  # else it changed meanwhile: the next look will tell
            write_whole(accepted, content)
        return None
