"""A run: steps in order, each done once for the same inputs and settings, nothing half-written ever read."""

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pyspark.sql import SparkSession
from rich.console import Console

from jobs.engine.session import spark_session
from recsys.config.settings import Settings, load_settings
from recsys.console import wide_console
from recsys.errors import ConfigurationError, RecsysError
from recsys.instants import DAY, compact, parse_instant, to_micros
from recsys.pipeline.shop import Shop
from recsys.storage.local import held, put_in_place, remove_folder, scratch_folder, write_whole

CODE = ("recsys", "jobs")


@dataclass(frozen=True)
class Step:
    """One arrow of the flow.

    `run` writes its outputs into the folder that it is given and returns a line that says what it did; only when it
    returns are they moved into the run's folder.
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
    console: Console = field(default_factory=lambda: wide_console(stderr=True))
    pinned: dict[str, str] = field(default_factory=dict)
    """Versions by the alias that the run has looked up: a promotion meanwhile is for the next run."""

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
        """Do the steps that are due, in order.

        Raises:
            BusyError: If another process works on the same folder.
        """
        with held(self.folder, wait=False):
            for step in steps:
                self._do(step)

    def fingerprint(self, step: Step) -> str:
        """Return a digest of all that the step's outputs depend on: settings, inputs and code."""
        inputs = [self.fingerprint(earlier) for earlier in step.inputs]
        return digest(
            {"step": step.name, "depends_on": step.depends_on(self), "inputs": inputs, "code": code_version()}
        )

    def _do(self, step: Step) -> None:
        manifest, fingerprint = self.folder / f"{step.name}.json", self.fingerprint(step)
        done = json.loads(manifest.read_text()) if manifest.exists() else {}
        if done.get("fingerprint") == fingerprint:
            self.console.print(f"  [dim]{step.name:<20} unchanged  {done['summary']}[/dim]")
            return
        if self.console.is_terminal:
            self.console.print(f"  [bold]{step.name:<20}[/bold] …", end="\r")
        start = time.monotonic()
        with scratch_folder(self.folder) as scratch:
            summary = step.run(self, scratch)
            manifest.unlink(missing_ok=True)
            for output in step.outputs:
                remove_folder(self.folder / output)
                put_in_place(scratch / output, self.folder / output)
        write_whole(manifest, json.dumps({"fingerprint": fingerprint, "summary": summary}))
        self.console.print(f"  [bold]{step.name:<20}[/bold] {time.monotonic() - start:7.1f} s  {summary}")


def night(settings: Settings, as_of: int | None = None, today: int | None = None, train: bool = True) -> Run:
    """Return the run of a night.

    Args:
        settings: The shop.
        as_of: The instant; by default the configured one, else `today`.
        today: Today's midnight UTC, by the clock of whoever asks.
        train: Whether the meta-model will be trained, on the days before as_of.

    Raises:
        ConfigurationError: If no instant is given anywhere.
    """
    as_of = instant_of(settings, as_of, today)
    days = settings.meta_model.days if train else 1
    return Run(
        settings=settings,
        folder=Path(settings.folder) / "nights" / compact(as_of),
        as_of=as_of,
        training_days=[as_of - day * DAY for day in range(days, 0, -1)],
        days=[as_of],
    )


def instant_of(settings: Settings, as_of: int | None = None, today: int | None = None) -> int:
    """Return the instant of a night; see `night`.

    Raises:
        ConfigurationError: If no instant is given anywhere.
    """
    if as_of is None:
        as_of = to_micros(settings.as_of) if settings.as_of else today
    if as_of is None:
        raise ConfigurationError("no as_of: give --as-of or 'as_of' in the configuration")
    return as_of


@cache
def code_version(packages: tuple[str, ...] = CODE) -> str:
    """Return a digest of the project's code, so that changed code redoes its steps."""
    digest = hashlib.sha256()
    root = Path(__file__).resolve().parents[2]
    for package in packages:
        for path in sorted((root / package).rglob("*")):
            if path.suffix in {".py", ".sql"}:
                digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def digest(value: Any) -> str:
    """Return a digest of settings, names and instants."""
    text = json.dumps(value, sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else str(value)


def main(step: Step) -> None:
    """Do one step, and those before it that are due, of the night that the command line names."""
    parser = argparse.ArgumentParser(
        description=f"{step.name}: one step of the night, and those before it that are due."
    )
    parser.add_argument("--conf", type=Path, required=True, help="configuration file, such as conf/demo.yaml")
    parser.add_argument("--as-of", help="the instant of the night, such as 2026-03-01T00:00:00Z")
    arguments = parser.parse_args()
    try:
        run = night(load_settings(arguments.conf), parse_instant(arguments.as_of) if arguments.as_of else None)
        run.do(with_inputs(step))
    except RecsysError as error:
        sys.exit(f"error: {error}")


def with_inputs(step: Step) -> tuple[Step, ...]:
    """Return the steps that a step needs, in order, and the step itself."""
    steps: list[Step] = []
    for needed in [*(each for earlier in step.inputs for each in with_inputs(earlier)), step]:
        if needed not in steps:
            steps.append(needed)
    return tuple(steps)
