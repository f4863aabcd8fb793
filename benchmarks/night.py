"""The whole night: time, memory and disk of each step, for growing numbers of users.

    python -m benchmarks.night [--train] [--users 250000 500000 1000000] [--folder /large/disk]

    python -m benchmarks.night --train --users 1000000 4000000 18000000

    python -m benchmarks.night --next --users 100000

The shop is generated in parts, 20 events per user, and removed after its night. Each night is compared with the first,
smallest one: time and memory should grow no faster than the number of users.

With --next events are in a folder for each day. After a night, that of the next day is measured, which carries on what
the first one left, and then once more with --rebuild: their ratios, and what each says that it read. Both find Spark
running.
"""

import argparse
import logging
import multiprocessing
import os
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq

from benchmarks import machine, synthetic
from benchmarks.random_models import random_meta_model
from jobs.engine import run
from jobs.engine.nights import night
from jobs.night.nightly import nightly
from jobs.registry import tracking
from recsys.config.pipeline import NightCheckSettings, RawTable, SourceSettings
from recsys.config.settings import Settings, SparkSettings
from recsys.instants import DAY, from_micros, to_micros
from recsys.recommenders import recommenders
from recsys.registry.versions import CHAMPION
from recsys.shop.catalogue import Catalogue

EVENTS_PER_USER = 20
_STEP_DONE = re.compile(r"  (\w+) +([0-9.]+) s  (.*)")
"""The line that a run logs at the end of a step."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, nargs="+", default=[250_000, 500_000, 1_000_000])
    parser.add_argument("--open-sales", type=int, default=300)
    parser.add_argument("--train", action="store_true", help="the night trains the meta-model, as once a week")
    parser.add_argument("--next", action="store_true", help="compare the next night with the same one made anew")
    parser.add_argument("--folder", type=Path, help="for the generated shop; the folder of temporary files by default")
    parser.add_argument("--driver-memory", default=SparkSettings().driver_memory, help="heap of the Java side")
    arguments = parser.parse_args()
    print(machine.describe())
    first: Night | None = None
    for users in arguments.users:
        # One process per night: Spark does not give memory back.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            options = arguments.open_sales, arguments.train, arguments.folder, arguments.driver_memory
            if arguments.next:
                nights = pool.apply(measure_next, (users, *options))
                print(describe_next(*nights, arguments.open_sales), flush=True)
                continue
            night_of_users = pool.apply(measure, (users, *options))
        first = first or night_of_users
        print(describe(night_of_users, first, arguments.open_sales), flush=True)


class StepCost(NamedTuple):
    """What a step of a night took."""

    name: str
    seconds: float
    driver_bytes: int
    """Peak memory of the driver's Python."""
    all_bytes: int
    """Peak memory of all processes, Spark's Java and Python processes included."""
    written_bytes: int
    """Bytes that the step left in the shop's folder."""
    summary: str
    """What the step says about itself."""


class Night(NamedTuple):
    """Time, peak memory and disk of a night."""

    users: int
    seconds: float
    peak_bytes: int
    raw_bytes: int
    """Size of the generated raw tables."""
    disk_bytes: int
    """Largest size of the shop's folder during the night, raw tables and Spark's temporary files included."""
    steps: tuple[StepCost, ...]


def describe(night: Night, first: Night, open_sales: int) -> str:
    """Return a table of the steps, and a line that compares a night with the first one."""
    header = f"{'step':<20}{'s':>9}{'driver GB':>11}{'all GB':>8}{'written MB':>12}{'B/user':>8}  "
    rows = [
        f"{step.name:<20}{step.seconds:>9.1f}{step.driver_bytes / 1e9:>11.2f}{step.all_bytes / 1e9:>8.2f}"
        f"{step.written_bytes / 1e6:>12.1f}{step.written_bytes / night.users:>8.0f}  {step.summary}"
        for step in night.steps
    ]
    written = sum(step.written_bytes for step in night.steps)
    users, seconds, peak = (this / that for this, that in zip(night[:3], first[:3], strict=True))
    return "\n".join(
        (
            header,
            *rows,
            f"{night.users:>9,} users, {night.users * EVENTS_PER_USER:>11,} events, {open_sales} open sales: "
            f"{night.seconds:6.1f} s, {night.peak_bytes / 1e9:5.2f} GB  "
            f"({users:.1f} x users, {seconds:.2f} x time, {peak:.2f} x memory)",
            f"disk per user: {night.raw_bytes / night.users:.0f} bytes of raw tables, {written / night.users:.0f} of "
            f"the night, at most {night.disk_bytes / night.users:.0f} with temporary files "
            f"({night.disk_bytes / 1e9:.1f} GB)",
        )
    )


def measure(users: int, open_sales: int, trains: bool, folder: Path | None, driver_memory: str) -> Night:
    """Generate a shop, register a model, and return time, memory and disk of one night."""
    with tempfile.TemporaryDirectory(prefix="night-", dir=folder, ignore_cleanup_errors=True) as name:
        shop = Path(name)
        settings = made_shop(shop, users, open_sales, driver_memory)
        raw_bytes = size_of(shop / "raw")
        with logged_steps(shop) as steps, _sampled_disk(shop) as sizes, machine.watched() as watch:
            nightly(night(settings, trains=trains))
        costs = tuple(_cost(step, watch) for step in steps)
        return Night(users, watch.seconds, watch.peak_bytes, raw_bytes, max(sizes), costs)


def measure_next(
    users: int, open_sales: int, trains: bool, folder: Path | None, driver_memory: str
) -> tuple[Night, Night, list[str]]:
    """Return a night after an earlier one, the same night made anew, and what both say that they read."""
    with tempfile.TemporaryDirectory(prefix="night-", dir=folder, ignore_cleanup_errors=True) as name:
        shop = Path(name)
        settings = made_shop(shop, users, open_sales, driver_memory, by_day=True)
        as_of = to_micros(synthetic.AS_OF)
        last, aside = shop / f"raw/events/day={from_micros(as_of - DAY):%Y-%m-%d}", shop / "aside"
        last.rename(aside)
        nightly(night(settings, as_of - DAY, trains=False))
        aside.rename(last)
        measured, lines = [], []
        for rebuilds in (False, True):
            tonight = night(settings, as_of, trains=trains, rebuilds=rebuilds)
            with logged_steps(shop) as steps, _sampled_disk(shop) as sizes, machine.watched() as watch:
                nightly(tonight)
            costs = tuple(_cost(step, watch) for step in steps)
            measured.append(Night(users, watch.seconds, watch.peak_bytes, size_of(shop / "raw"), max(sizes), costs))
            log = (tonight.folder / run.LOG).read_text().splitlines()
            lines += [line for line in log if "raw files" in line or "days of events" in line]
        return measured[0], measured[1], lines


def describe_next(carried: Night, anew: Night, lines: list[str], open_sales: int) -> str:
    """Return the steps of both nights, and the ratio of their durations, in all and of each step."""
    seconds = {step.name: step.seconds for step in anew.steps}
    ratios = [
        f"{step.name} {step.seconds:.1f} of {seconds[step.name]:.1f} s"
        for step in carried.steps
        if seconds.get(step.name, 0) >= 0.5
    ]
    return "\n".join(
        (
            "the next night:",
            describe(carried, carried, open_sales),
            "the same night, --rebuild:",
            describe(anew, carried, open_sales),
            *lines,
            f"time: {carried.seconds / anew.seconds:.0%} of the night made anew; " + ", ".join(ratios),
        )
    )


class _DoneStep(NamedTuple):
    name: str
    seconds: float
    ended_at: float
    """By `time.monotonic`."""
    written_bytes: int
    summary: str


def _cost(step: _DoneStep, watch: machine.Watch) -> StepCost:
    began_at = step.ended_at - step.seconds
    samples = [each for each in watch.samples if began_at <= each.at <= step.ended_at]
    driver, all_ = (max((each[column] for each in samples), default=0) for column in (1, 2))
    return StepCost(step.name, step.seconds, driver, all_, step.written_bytes, step.summary)


@contextmanager
def logged_steps(folder: Path) -> Iterator[list[_DoneStep]]:
    """Collect the steps that a run logs in this context, and the growth of a folder with each, without scratch."""
    steps: list[_DoneStep] = []

    class _Collector(logging.Handler):
        size = size_of(folder, but=".spark")

        def emit(self, record: logging.LogRecord) -> None:
            if done := _STEP_DONE.fullmatch(record.getMessage()):
                before, self.size = self.size, size_of(folder, but=".spark")
                name, seconds, summary = done.groups()
                steps.append(_DoneStep(name, float(seconds), time.monotonic(), self.size - before, summary))

    logger, collector = logging.getLogger(run.__name__), _Collector()
    logger.setLevel(logging.INFO)
    logger.addHandler(collector)
    yield steps
    logger.removeHandler(collector)


@contextmanager
def _sampled_disk(folder: Path, interval: float = 1.0) -> Iterator[list[int]]:
    """Collect the size of a folder while the context lasts."""
    sizes, stop = [size_of(folder)], threading.Event()

    def sample() -> None:
        while not stop.wait(interval):
            sizes.append(size_of(folder))

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    yield sizes
    stop.set()
    thread.join()


def size_of(folder: Path, but: str = "") -> int:
    """Return the bytes on the disk of the files of a folder that may change meanwhile, without folders of a name."""
    size = 0
    for parent, folders, files in os.walk(folder):
        folders[:] = [each for each in folders if each != but]
        for file in files:
            with suppress(FileNotFoundError):
                size += Path(parent, file).stat().st_blocks * 512
    return size


def made_shop(
    folder: Path,
    users: int,
    open_sales: int,
    driver_memory: str = SparkSettings().driver_memory,
    by_day: bool = False,
) -> Settings:
    """Generate a shop in a folder, register a champion for it, and return its settings."""
    synthetic.write_shop(folder / "raw", users, users * EVENTS_PER_USER, open_sales, by_day=by_day)
    settings = Settings(
        folder=str(folder / "var"),
        as_of=synthetic.AS_OF,
        spark=SparkSettings(driver_memory=driver_memory),
        night_checks=NightCheckSettings(max_feature_drift=1e9),  # the champion was trained on nothing
        source=SourceSettings(
            sql=str(Path(__file__).with_name("sources")),
            raw={
                "sales": RawTable(path=str(folder / "raw" / "sales.parquet")),
                "events": RawTable(path=str(folder / "raw" / "events")),
            },
        ),
    )
    catalogue = Catalogue.from_table(pq.read_table(folder / "raw" / "sales.parquet"))
    names = [each.name for each in recommenders(settings.recommenders, catalogue)]
    model = random_meta_model(names)
    tracking.point(settings, CHAMPION, tracking.register(settings, model, {}, 0, "benchmark"))
    return settings


if __name__ == "__main__":
    main()
