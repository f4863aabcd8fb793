"""A run: steps in order, each done once for what it is made from, nothing half-written ever read."""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from jobs.engine.code_version import code_version, library_versions
from jobs.engine.log_file import log_file
from jobs.engine.session import spark_session
from recsys.config.settings import Settings
from recsys.console import wide_console
from recsys.errors import StepError
from recsys.pipeline.shop import Shop
from recsys.pipeline.sources import SPARK_ERRORS, first_line
from recsys.settings import digest
from recsys.storage.local import held, put_in_place, remove_folder, scratch_folder, write_whole

LOG = "run.log"
"""The file of a run's folder that keeps what its steps logged."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Step:
    """One arrow of the flow.

    `run` writes its outputs into the folder that it is given and returns a line that says what it did; only when it
    returns are they moved into the run's folder. `depends_on` returns what the outputs depend on beside those of the
    inputs: settings, and what lies outside of the run, as it is before the step reads it.
    """

    name: str
    run: Callable[["Run", Path], str]
    outputs: tuple[str, ...]
    inputs: tuple["Step", ...] = ()
    depends_on: Callable[["Run"], Any] = lambda _: None


@dataclass
class Run:
    """The steps of one night or backtest share this: configuration, instants, and the folder of their tables."""

    settings: Settings
    folder: Path
    as_of: int
    """Data is known up to this instant, microseconds UTC."""
    training_days: list[int]
    """The meta-model learns from the day from each of these instants; without training, the champion is measured on
    the last one's."""
    days: list[int]
    """The instants that are ranked: the night's own, or each midnight of a backtest."""
    trains: bool = True
    """Whether a new version of the meta-model is trained."""
    pinned: dict[str, str] = field(default_factory=dict)
    """Versions by the alias that the run has looked up: a promotion meanwhile is for the next run."""
    _in_progress: dict[str, str] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def spark(self) -> SparkSession:
        """The Spark session, started when a step needs it."""
        return spark_session(self.settings)

    @property
    def shop(self) -> Shop:
        """The tables in the run's folder, for Python workers."""
        return Shop(
            folder=str(self.folder.resolve()),
            version=digest({path.name: path.read_text() for path in self.folder.glob("*.json")}),
            history=self.settings.history,
            recommender_settings=self.settings.recommenders,
            horizon_hours=self.settings.horizon_hours,
        )

    @property
    def is_night(self) -> bool:
        """Whether this run publishes: a night ranks by all that is known, a backtest looks back."""
        return self.days == [self.as_of]

    @property
    def open_training_days(self) -> list[int]:
        """The training days on which a sale was open; a young shop has fewer than are asked for."""
        return self.shop.with_open_sales(self.training_days)

    @property
    def open_days(self) -> list[int]:
        """The days on which a sale was open, or all where none was: fitting then says so."""
        return self.shop.with_open_sales(self.days) or self.days

    def do(self, steps: tuple[Step, ...]) -> None:
        """Do the steps that are due, in order; all that they log is kept in the run's folder.

        Raises:
            BusyError: If another process works on the same folder.
            StepError: If Spark fails, with what it says first; the log has the rest.
        """
        with held(self.folder, wait=False), log_file(self.folder / LOG):
            for step in steps:
                self._do_if_due(step)

    def fingerprint(self, step: Step) -> str:
        """Return the digest of all that a step's outputs were made from, as it was recorded when they were made.

        Of a step in progress it is what will be recorded. It is never computed from the world again: what has changed
        there since is no part of the outputs.

        Raises:
            KeyError: If the step was not done.
        """
        return self._in_progress.get(step.name) or self._manifest(step)["fingerprint"]

    def _do_if_due(self, step: Step) -> None:
        fingerprint = self._fingerprint_now(step)
        done = self._manifest(step)
        if done.get("fingerprint") == fingerprint:
            _log.info(f"  {step.name:<20} unchanged  {done['summary']}", extra={"is_dim": True})
            return
        _announce(step.name)
        start = time.monotonic()
        self._in_progress[step.name] = fingerprint
        try:
            summary = self._do(step, fingerprint)
        except SPARK_ERRORS as error:
            _log.debug(f"{step.name} failed", exc_info=True)
            raise StepError(f"{step.name}: {first_line(error)}; the trace is in {self.folder / LOG}") from error
        except Exception:
            _log.debug(f"{step.name} failed", exc_info=True)
            raise
        finally:
            del self._in_progress[step.name]
        _log.info(f"  {step.name:<20} {time.monotonic() - start:7.1f} s  {summary}")

    def _fingerprint_now(self, step: Step) -> str:
        """Return the fingerprint that the step would have if it were done now, over its inputs as they were made."""
        return digest(
            {
                "step": step.name,
                "depends_on": step.depends_on(self),
                "inputs": [self._manifest(each)["fingerprint"] for each in step.inputs],
                "code": code_version(step.run),
                "libraries": library_versions(),
            }
        )

    def _do(self, step: Step, fingerprint: str) -> str:
        with scratch_folder(self.folder) as scratch:
            summary = step.run(self, scratch)
            manifest = self._manifest_path(step)
            manifest.unlink(missing_ok=True)
            for output in step.outputs:
                remove_folder(self.folder / output)
                put_in_place(scratch / output, self.folder / output)
        write_whole(manifest, json.dumps({"fingerprint": fingerprint, "summary": summary}))
        return summary

    def _manifest(self, step: Step) -> dict[str, Any]:
        """Return what was recorded of a step; empty where it was not done, or cut off while its outputs moved."""
        path = self._manifest_path(step)
        return json.loads(path.read_text()) if path.exists() else {}

    def _manifest_path(self, step: Step) -> Path:
        return self.folder / f"{step.name}.json"


def with_inputs(step: Step) -> tuple[Step, ...]:
    """Return the steps that a step needs, in order, and the step itself."""
    steps: list[Step] = []
    for needed in [*(each for earlier in step.inputs for each in with_inputs(earlier)), step]:
        if needed not in steps:
            steps.append(needed)
    return tuple(steps)


def _announce(name: str) -> None:
    """Say in a terminal what is being done; the line that says that it is done takes its place."""
    console = wide_console(stderr=True)
    if console.is_terminal:
        console.print(f"  [bold]{name:<20}[/bold] …", end="\r")
