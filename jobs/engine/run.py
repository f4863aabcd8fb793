"""Runs of steps: each step is run only if its inputs, settings or code have changed, and its outputs are atomic."""

import json
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from jobs.engine.code_version import code_version, library_versions
from jobs.engine.executors import check_executors
from jobs.engine.log_file import log_file
from jobs.engine.session import runs_on_this_machine, spark_session
from jobs.engine.step_metrics import record_step
from recsys.config.settings import Settings
from recsys.console import line, wide_console
from recsys.errors import StepError
from recsys.pipeline.shop import Shop
from recsys.pipeline.sources import SPARK_ERRORS, first_line
from recsys.settings import digest
from recsys.snapshot.format import LeftOut
from recsys.storage.local import held, put_in_place, remove_folder, scratch_folder, write_whole

LOG = "run.log"
"""File in a run's folder with the log of its steps."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Step:
    """One step of the pipeline.

    `run` writes the outputs into the folder that it is given and returns a summary of one line; the outputs are moved
    into the run's folder after it has returned. `depends_on` returns what the outputs depend on apart from the inputs:
    settings, and the state of data outside of the run before the step reads it.
    """

    name: str
    run: Callable[["Run", Path], str]
    outputs: tuple[str, ...]
    inputs: tuple["Step", ...] = ()
    depends_on: Callable[["Run"], Any] = lambda _: None


@dataclass
class Run:
    """One night or backtest: the configuration, the instants and the folder of tables that its steps share."""

    settings: Settings
    folder: Path
    as_of: int
    """Data is known if it occurred and was recorded before this instant, microseconds UTC."""
    training_days: list[int]
    """The meta-model is trained on the 24 hours from each of these instants on; without training, the champion is
    measured on those of the last one."""
    days: list[int]
    """Instants as of which rankings are made: the night's own, or each midnight of a backtest."""
    trains: bool = True
    """Whether a new version of the meta-model is trained."""
    is_hourly: bool = False
    """Whether the run ranks between two nights: it is measured, compared and retained as such."""
    publishes: bool = True
    """Whether its snapshot becomes the current one, unless a later one is."""
    pinned: dict[str, str] = field(default_factory=dict)
    """Version of each alias when the run first looked it up; a promotion during the run affects only the next run."""
    unknown: dict[str, str] = field(default_factory=dict)
    """Why the version of an alias is not known, for those that MLflow did not tell."""
    _in_progress: dict[str, str] = field(default_factory=dict, init=False, repr=False)
    _left_out: list[LeftOut] = field(default_factory=list, init=False, repr=False)

    @cached_property
    def spark(self) -> SparkSession:
        """The Spark session, started on first use; on a cluster, all executors see the run's folder."""
        spark = spark_session(self.settings)
        if not runs_on_this_machine():
            check_executors(spark, self.folder)
        return spark

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
        """Whether this run is a night, which ranks as of its end; a backtest ranks as of earlier instants."""
        return self.days == [self.as_of]

    @property
    def open_training_days(self) -> list[int]:
        """The training days on which a sale was open; a young shop has fewer than configured."""
        return self.shop.with_open_sales(self.training_days)

    @property
    def open_days(self) -> list[int]:
        """The days on which a sale was open; all days if there is none, so that fitting raises the error."""
        return self.shop.with_open_sales(self.days) or self.days

    def do(self, steps: tuple[Step, ...]) -> None:
        """Run the steps that are due, in order; their log is appended to LOG in the run's folder.

        Raises:
            BusyError: If another process runs steps in the same folder.
            StepError: If Spark fails; with the cause, the stack trace is in the log.
        """
        with held(self.folder, wait=False), log_file(self.folder / LOG):
            for step in steps:
                self._run_if_due(step)

    def fingerprint(self, step: Step) -> str:
        """Return the digest of everything that a step's outputs were made from, as recorded when they were made.

        For a step in progress it is the digest that will be recorded. It is not computed anew: later changes of
        settings or data are not in the outputs.

        Raises:
            KeyError: If the step has not been run.
        """
        return self._in_progress.get(step.name) or self._read_manifest(step)["fingerprint"]

    def leave_out(self, what: str, why: str, until: str, degrades_pages: bool = True) -> None:
        """Record what the step in progress cannot learn or rank and goes on without; see `LeftOut`."""
        self._left_out.append(LeftOut(what=what, why=why, until=until, degrades_pages=degrades_pages))

    def left_out(self, steps: Iterable[Step]) -> list[LeftOut]:
        """Return what these steps left out when they were run, in their order."""
        return [
            LeftOut.model_validate(line) for step in steps for line in self._read_manifest(step).get("left_out", ())
        ]

    def _run_if_due(self, step: Step) -> None:
        fingerprint = self._fingerprint_now(step)
        done = self._read_manifest(step)
        if done.get("fingerprint") == fingerprint:
            _log.info(f"  {step.name:<20} unchanged  {done['summary']}", extra={"is_dim": True})
            return
        self._left_out.clear()
        _show_step_in_progress(step.name)
        start = time.monotonic()
        self._in_progress[step.name] = fingerprint
        try:
            summary = self._run_step(step, fingerprint)
        except SPARK_ERRORS as error:
            _log.debug(f"{step.name} failed", exc_info=True)
            raise StepError(f"{step.name}: {first_line(error)}; the stack trace is in {self.folder / LOG}") from error
        except Exception:
            _log.debug(f"{step.name} failed", exc_info=True)
            raise
        finally:
            del self._in_progress[step.name]
        seconds = time.monotonic() - start
        _log.info(f"  {step.name:<20} {seconds:7.1f} s  {summary}")
        record_step(self.settings.nights.metrics, step.name, seconds)
        for each in self._left_out:
            _log.warning(f"    without {each}")

    def _fingerprint_now(self, step: Step) -> str:
        """Return the fingerprint that the step would have if it were run now, with the recorded fingerprints of its
        inputs."""
        return digest(
            {
                "step": step.name,
                "depends_on": step.depends_on(self),
                "inputs": [self._read_manifest(each)["fingerprint"] for each in step.inputs],
                "code": code_version(step.run),
                "libraries": library_versions(),
            }
        )

    def _run_step(self, step: Step, fingerprint: str) -> str:
        with scratch_folder(self.folder) as scratch:
            summary = step.run(self, scratch)
            manifest = self._manifest_path(step)
            manifest.unlink(missing_ok=True)
            for output in step.outputs:
                remove_folder(self.folder / output)
                put_in_place(scratch / output, self.folder / output)
        left_out = [line.model_dump() for line in self._left_out]
        write_whole(manifest, json.dumps({"fingerprint": fingerprint, "summary": summary, "left_out": left_out}))
        return summary

    def _read_manifest(self, step: Step) -> dict[str, Any]:
        """Return the record of a step; empty if it was not run, or was killed while its outputs were moved."""
        path = self._manifest_path(step)
        return json.loads(path.read_text()) if path.exists() else {}

    def _manifest_path(self, step: Step) -> Path:
        return self.folder / f"{step.name}.json"


def with_inputs(step: Step) -> tuple[Step, ...]:
    """Return all steps that a step depends on, in order, and the step itself."""
    steps: list[Step] = []
    for needed in [*(each for earlier in step.inputs for each in with_inputs(earlier)), step]:
        if needed not in steps:
            steps.append(needed)
    return tuple(steps)


def _show_step_in_progress(name: str) -> None:
    """Print the step's name to a terminal; the line with its result overwrites it."""
    console = wide_console(stderr=True)
    if console.is_terminal:
        console.print(line("  ", (f"{name:<20}", "bold"), " …"), end="\r")
