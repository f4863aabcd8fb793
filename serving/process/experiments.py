"""Follows the experiment files that people write: which are in force, compiled for the snapshot that is served."""

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
    """Takes up changed experiment files, and what a new snapshot means for them.

    Args:
        source: The folder that people write to; None for a shop without experiments.
        folder: The shop's.
        troubles: Told of what is refused.
        clock: What time it is.
    """

    def __init__(self, source: Path | None, folder: Path, troubles: Troubles, clock: Clock):
        self._files = AcceptedFiles(source, folder / IN_FORCE) if source is not None else None
        self._troubles = troubles
        self._clock = clock
        self._state: object = None
        self._compiled: RunningExperiments | None = None
        """Of the files in that state, for the snapshot that was last given."""

    def put_in_force(self, top_sales: TopSales) -> TopSales:
        """Return what answers with the experiments in force; the same where it has them already.

        Files that can be served from its snapshot are put in force first.
        """
        if self._files is None:
            return top_sales
        is_current = top_sales.experiments is not None and top_sales.experiments is self._compiled
        if is_current and self._files.state() == self._state:
            return top_sales
        snapshot, now = top_sales.snapshot, from_micros(self._clock())
        problems = self._files.take_over(now, lambda surface, file: check_served(surface, file, snapshot, now))
        self._state = self._files.state()
        files = self._in_force(self._files, problems)
        for surface, file in files.items():
            try:
                check_served(surface, file, snapshot, now)
            except ConfigurationError as error:
                problems.append(f"in force, but not served: {error}")
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
        except ConfigurationError as error:  # a copy is damaged: pages are served all the same
            problems.append(f"no experiment runs: {error}")
            return {}
