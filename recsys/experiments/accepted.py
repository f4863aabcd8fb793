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
_PATTERN = "*.yaml"


class AcceptedFiles:
    """The experiment files of a shop, one per surface.

    Args:
        source: The folder of the written files, such as conf/experiments; home.yaml is for surface home.
        accepted: The folder of the copies in force.
    """

    def __init__(self, source: Path, accepted: Path):
        self._source = source
        self._accepted = accepted

    def state(self) -> object:
        """Return a value that differs as soon as a file of either folder has changed."""
        files = [*self._source.glob(_PATTERN), *self._accepted.glob(_PATTERN)]
        return {file: (stat := file.stat(), (stat.st_mtime_ns, stat.st_size, stat.st_ino))[1] for file in files}

    def in_force(self) -> dict[str, ExperimentFile]:
        """Return the accepted files by surface."""
        return {file.stem: load_experiments(file) for file in sorted(self._accepted.glob(_PATTERN))}

    def as_written(self) -> tuple[dict[str, ExperimentFile], list[str]]:
        """Return the written files by surface, with the copy in force for each invalid one, and the problems found."""
        files, problems = self.in_force(), []
        for path in sorted(self._source.glob(_PATTERN)):
            try:
                files[path.stem] = load_experiments(path)
            except ConfigurationError as error:
                problems.append(str(error))
        return files, problems

    def waiting(self) -> list[Path]:
        """Return the written files that differ from the copies in force, or have none."""
        written = sorted(self._source.glob(_PATTERN))
        in_force = {path.name: path.read_bytes() for path in self._accepted.glob(_PATTERN)}
        return [path for path in written if path.read_bytes() != in_force.get(path.name)]

    def take_over(self, now: datetime, check: Callable[[str, ExperimentFile], None]) -> list[str]:
        """Put changed files in force, each one completely or not at all; return the problems of those refused.

        Args:
            now: The current time; experiments that run at it may change in few ways.
            check: Called with surface and file; raises ConfigurationError for a file that cannot be served.
        """
        with held(self._accepted):
            surfaces = {path.name for folder in (self._source, self._accepted) for path in folder.glob(_PATTERN)}
            return [problem for name in sorted(surfaces) if (problem := self._accept(name, now, check))]

    def _accept(self, name: str, now: datetime, check: Callable[[str, ExperimentFile], None]) -> str | None:
        """Put one file in force; return why it is refused, or None."""
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
        if written.read_bytes() == content:  # otherwise it changed meanwhile: the next call reads it again
            write_whole(accepted, content)
        return None
