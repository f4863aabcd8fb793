"""Watches the experiment files, and compiles those in force for the snapshot that is served."""

import logging
from dataclasses import replace
from pathlib import Path

from recsys.errors import ConfigurationError
from recsys.experiments.accepted import IN_FORCE, AcceptedFiles
from recsys.experiments.settings import ExperimentFile
from recsys.instants import from_micros
from serving.answers.running_experiments import RunningExperiments, check_served
from serving.answers.top_sales import TopSales
from serving.clocks import Clock
from serving.telemetry.troubles import Troubles

EXPERIMENTS = "experiments"

_log = logging.getLogger(__name__)


class ExperimentsWatcher:
    """Puts changed experiment files in force, and compiles them again for each new snapshot.

    Args:
        source: The folder that experiment files are written to; None for a shop without experiments.
        folder: The shop's folder.
        troubles: Receives the reasons for refused files.
        clock: Returns the present time.
        puts_in_force: Whether changed files are put in force; if not, those in force stay.
    """

    def __init__(self, source: Path | None, folder: Path, troubles: Troubles, clock: Clock, puts_in_force: bool = True):
        self._files = AcceptedFiles(source, folder / IN_FORCE) if source is not None else None
        self._troubles = troubles
        self._clock = clock
        self._puts_in_force = puts_in_force
        self._state: object = None
        self._compiled: RunningExperiments | None = None
        """The files in that state, compiled for the last snapshot."""

    def put_in_force(self, top_sales: TopSales) -> TopSales:
        """Return the state with the experiments in force; the same object where nothing has changed.

        New files that its snapshot can serve are put in force first, unless the watcher only looks on.
        """
        if self._files is None:
            return top_sales
        is_current = top_sales.experiments is not None and top_sales.experiments is self._compiled
        if is_current and self._files.state() == self._state:
            return top_sales
        snapshot, now = top_sales.snapshot, from_micros(self._clock())
        self._state = self._files.state()  # before: what changes meanwhile is seen at the next poll
        problems: list[str] = []
        if self._puts_in_force:
            problems = self._files.take_over(now, lambda surface, file: check_served(surface, file, snapshot, now))
        files = self._in_force(self._files, problems)
        for surface, file in files.items():
            try:
                check_served(surface, file, snapshot, now)
            except ConfigurationError as error:
                problems.append(f"in force, but cannot be served: {error}")
        self._compiled = RunningExperiments(files, snapshot)
        if problems:
            self._troubles.note(EXPERIMENTS, "; ".join(problems))
        else:
            self._troubles.clear(EXPERIMENTS)
        _log.info("experiments in force: %s", self._compiled.fingerprints or "none")
        return replace(top_sales, experiments=self._compiled)

    def _in_force(self, accepted: AcceptedFiles, problems: list[str]) -> dict[str, ExperimentFile]:
        try:
            return accepted.in_force()
        except ConfigurationError as error:  # a copy is damaged: pages are served without experiments
            problems.append(f"no experiment runs: {error}")
            return {}
