"""Runs of steps: each is run if its inputs, settings or code have changed, and its outputs appear all at once."""

import logging
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from jobs.engine.code_version import code_version, library_versions
from jobs.engine.executors import check_executors
from jobs.engine.lineage import Lineage, StepTables
from jobs.engine.log_file import log_file
from jobs.engine.session import runs_on_this_machine, spark_session
from jobs.engine.step_metrics import measured
from recsys.config.pipeline import RawTable
from recsys.config.settings import Settings
from recsys.console import line, wide_console
from recsys.errors import LeaseLostError, StepError
from recsys.pipeline.shop import Shop
from recsys.settings import digest
from recsys.snapshot.format import LeftOut
from recsys.spark_errors import SPARK_ERRORS, first_line
from recsys.storage.journal import Lease, leased, steps_of
from recsys.storage.local import tree_to_disk
from recsys.storage.outputs import DATA, Outputs
from recsys.storage.places import Place, remove, store_errors
from recsys.storage.progress import StepProgress, read_progress, write_progress

LOG = "run.log"
"""File in a run's folder with the log of its steps."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Step:
    """One step of the pipeline.

    `run` writes the outputs into the folder that it is given and returns a summary of one line; they become the run's
    outputs when an entry of its journal says so, after it has returned. `depends_on` returns what the outputs depend on
    apart from the inputs: settings, and the state of data outside of the run before the step reads it. `reads` returns
    the raw tables that it reads, for the lineage.
    """

    name: str
    run: Callable[["Run", Place], str]
    outputs: tuple[str, ...]
    inputs: tuple["Step", ...] = ()
    depends_on: Callable[["Run"], Any] = lambda _: None
    reads: Callable[["Run"], Iterable[RawTable]] = lambda _: ()


@dataclass
class Run:
    """One night or backtest: the configuration, the instants and the folder of tables that its steps share."""

    settings: Settings
    folder: Place
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
    rebuilds: bool = False
    """Whether nothing is carried on from earlier nights; what is written is the same."""
    pinned: dict[str, str] = field(default_factory=dict)
    """Version of each alias when the run first looked it up; a promotion during the run affects only the next run."""
    unknown: dict[str, str] = field(default_factory=dict)
    """Why the version of an alias is not known, for those that MLflow did not tell."""
    _in_progress: dict[str, str] = field(default_factory=dict, init=False, repr=False)
    _left_out: list[LeftOut] = field(default_factory=list, init=False, repr=False)
    _written: dict[str, dict[str, Any]] | None = field(default=None, init=False, repr=False)
    """The newest entry of each step, while nobody else can add one."""

    @cached_property
    def spark(self) -> SparkSession:
        """The Spark session, started on first use; on a cluster, all executors see the run's folder."""
        spark = spark_session(self.settings)
        if not runs_on_this_machine():
            check_executors(spark, self.folder)
        return spark

    @cached_property
    def lineage(self) -> Lineage:
        """The lineage of this run's steps, see `nights.lineage`."""
        return Lineage(self.settings.nights.lineage, self.folder, self.as_of)

    @property
    def outputs(self) -> Outputs:
        """The outputs of the steps that were run, as of now; `outputs / "rankings"` is the place of one of them."""
        return Outputs.committed(self.folder, self._entries().values())

    @property
    def shop(self) -> Shop:
        """The outputs as arrays, for Python workers."""
        return Shop(
            outputs=self.outputs,
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
            StoreError: If an object store refuses, or does not answer any more.
        """
        with store_errors(self.folder), leased(self.folder) as lease, log_file(self.folder / LOG):
            try:
                self._written = lease.steps
                self._remove_leftovers()
                for step in steps:
                    self._run_if_due(step, lease)
            finally:
                self._written = None

    def fingerprint(self, step: Step) -> str:
        """Return the digest of everything that a step's outputs were made from, as recorded when they were made.

        For a step in progress it is the digest that will be recorded. It is not computed anew: later changes of
        settings or data are not in the outputs.

        Raises:
            KeyError: If the step has not been run.
        """
        return self._in_progress.get(step.name) or self._entries()[step.name]["fingerprint"]

    def leave_out(self, what: str, why: str, until: str, degrades_pages: bool = True) -> None:
        """Record what the step in progress cannot learn or rank and goes on without; see `LeftOut`."""
        self._left_out.append(LeftOut(what=what, why=why, until=until, degrades_pages=degrades_pages))

    def left_out(self, steps: Iterable[Step]) -> list[LeftOut]:
        """Return what these steps left out when they were run, in their order."""
        return [
            LeftOut.model_validate(line)
            for step in steps
            for line in self._entries().get(step.name, {}).get("left_out", ())
        ]

    def _run_if_due(self, step: Step, lease: Lease) -> None:
        fingerprint = self._fingerprint_now(step)
        done = self._entries().get(step.name, {})
        if done.get("fingerprint") == fingerprint:
            _log.info(f"  {step.name:<20} unchanged  {done['summary']}", extra={"is_dim": True})
            _note_done(self.folder, step.name, done["summary"])
            return
        self._left_out.clear()
        _show_step_in_progress(step.name)
        start = time.monotonic()
        self._in_progress[step.name] = fingerprint
        try:
            with (
                _noted(self.folder, step.name) as note,
                measured(self.settings.nights.metrics, step.name),
                self.lineage.of_step(self._tables_of(step)),
            ):
                summary = self._run_step(step, fingerprint, lease)
                note(summary)
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
        for each in self._left_out:
            _log.warning(f"    without {each}")

    def _tables_of(self, step: Step) -> StepTables:
        return StepTables(
            step=step.name,
            about=(step.run.__doc__ or step.name).partition("\n")[0],
            raw=tuple(step.reads(self)),
            inputs={name: self.fingerprint(each) for each in step.inputs for name in each.outputs},
            outputs=step.outputs,
            version=self.fingerprint(step),
            written=lambda: self.outputs,
        )

    def _fingerprint_now(self, step: Step) -> str:
        """Return the fingerprint that the step would have if it were run now, with the recorded fingerprints of its
        inputs."""
        return digest(
            {
                "step": step.name,
                "depends_on": step.depends_on(self),
                "inputs": [self._entries()[each.name]["fingerprint"] for each in step.inputs],
                "code": code_version(step.run),
                "libraries": library_versions(),
            }
        )

    def _run_step(self, step: Step, fingerprint: str, lease: Lease) -> str:
        data = f"{DATA}/{step.name}-{secrets.token_hex(4)}"
        out = self.folder / data
        out.mkdir(parents=True, exist_ok=True)
        try:
            summary = step.run(self, out)
            if isinstance(out, Path):
                tree_to_disk(out)
        except BaseException:
            remove(out)
            raise
        entry = {
            "step": step.name,
            "fingerprint": fingerprint,
            "summary": summary,
            "left_out": [line.model_dump() for line in self._left_out],
            "data": data,
            "outputs": list(step.outputs),
        }
        before = lease.steps.get(step.name)
        try:
            lease.add(entry)
        except LeaseLostError:  # after any other error, such as a lost answer, the entry may be true all the same
            remove(out)
            raise
        if before:
            remove(self.folder / before["data"])
        return summary

    def _entries(self) -> dict[str, dict[str, Any]]:
        """Return the newest entry of each step that was run, by its name."""
        return self._written if self._written is not None else steps_of(self.folder)

    def _remove_leftovers(self) -> None:
        """Remove what killed runs wrote, and did not enter."""
        known = {entry["data"] for entry in self._entries().values()}
        data = self.folder / DATA
        for folder in data.iterdir() if data.exists() else ():
            if f"{DATA}/{folder.name}" not in known:
                remove(folder)


def earlier_outputs(run: Run) -> Iterator[tuple[str, Outputs]]:
    """Return name and outputs of the nights that a night may carry something on from, the newest first.

    Those of its own instant come first, from when it was run before; later nights know what this one must not. None for
    a run that rebuilds, and for backtests.
    """
    nights = run.folder.parent
    if run.rebuilds or not run.is_night or not nights.exists():
        return
    names = sorted((folder.name for folder in nights.iterdir() if folder.is_dir()), reverse=True)
    for name in names:
        if name <= run.folder.name:
            yield name, Outputs.of(nights / name)


def with_inputs(step: Step) -> tuple[Step, ...]:
    """Return all steps that a step depends on, in order, and the step itself."""
    steps: list[Step] = []
    for needed in [*(each for earlier in step.inputs for each in with_inputs(earlier)), step]:
        if needed not in steps:
            steps.append(needed)
    return tuple(steps)


@contextmanager
def _noted(folder: Place, step: str) -> Iterator[Callable[[str], None]]:
    """Note in a run's folder that a step begins, and how it ended; the value is called with its summary."""
    summary: list[str] = []
    progress, start = read_progress(folder), time.monotonic()
    begun = StepProgress(name=step, state="running", started_at=datetime.now(UTC))
    write_progress(folder, progress.with_step(begun))

    def end(state: str, told: str) -> None:
        ended = {"state": state, "seconds": round(time.monotonic() - start, 3), "told": told}
        write_progress(folder, progress.with_step(begun.model_copy(update=ended)))

    try:
        yield summary.append
    except Exception as error:
        with suppress(Exception):  # a store that fails now too must not hide the first error
            end("failed", first_line(error) if isinstance(error, SPARK_ERRORS) else str(error) or type(error).__name__)
        raise
    end("done", "".join(summary))


def _note_done(folder: Place, step: str, summary: str) -> None:
    """Correct what is noted of a step that is done: a process killed just before it noted so, or a later try failed."""
    progress = read_progress(folder)
    for noted in progress.steps:
        if noted.name == step and noted.state != "done":
            ended = noted.model_copy(update={"state": "done", "seconds": None, "told": summary})
            write_progress(folder, progress.with_step(ended))


def _show_step_in_progress(name: str) -> None:
    """Print the step's name to a terminal; the line with its result overwrites it."""
    console = wide_console(stderr=True)
    if console.is_terminal:
        console.print(line("  ", (f"{name:<20}", "bold"), " …"), end="\r")
