"""The whole night without training: time and memory for growing numbers of users.

    python -m benchmarks.night [--users 250000 500000 1000000]

Each night is compared with the first, smallest one: time and memory should grow no faster than the number of users.
"""

import argparse
import multiprocessing
import tempfile
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq

from benchmarks import machine, synthetic
from benchmarks.random_models import random_meta_model
from jobs.engine.nights import night
from jobs.night.nightly import nightly
from jobs.registry import tracking
from recsys.config.pipeline import NightCheckSettings, RawTable, SourceSettings
from recsys.config.settings import Settings
from recsys.recommenders import recommenders
from recsys.registry.versions import CHAMPION
from recsys.shop.catalogue import Catalogue

EVENTS_PER_USER = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, nargs="+", default=[250_000, 500_000, 1_000_000])
    parser.add_argument("--open-sales", type=int, default=300)
    arguments = parser.parse_args()
    print(machine.describe())
    first: Night | None = None
    for users in arguments.users:
        # One process per night: Spark does not give memory back.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            night_of_users = pool.apply(measure, (users, arguments.open_sales))
        first = first or night_of_users
        print(describe(night_of_users, first, arguments.open_sales), flush=True)


class Night(NamedTuple):
    """Time and peak memory of a night."""

    users: int
    seconds: float
    peak_bytes: int


def describe(night: Night, first: Night, open_sales: int) -> str:
    """Return one line that compares a night with the first one."""
    users, seconds, peak = (this / that for this, that in zip(night, first, strict=True))
    return (
        f"{night.users:>9,} users, {night.users * EVENTS_PER_USER:>11,} events, {open_sales} open sales: "
        f"{night.seconds:6.1f} s, {night.peak_bytes / 1e9:5.2f} GB  "
        f"({users:.1f} x users, {seconds:.2f} x time, {peak:.2f} x memory)"
    )


def measure(users: int, open_sales: int) -> Night:
    """Generate a shop, register a model, and return time and memory of one night."""
    with tempfile.TemporaryDirectory(prefix="night-", ignore_cleanup_errors=True) as folder:
        watch = watched_night(Path(folder), users, open_sales)
    return Night(users, watch.seconds, watch.peak_bytes)


def watched_night(folder: Path, users: int, open_sales: int) -> machine.Watch:
    """Generate a shop in a folder, and measure its night."""
    settings = made_shop(folder, users, open_sales)
    with machine.watched() as watch:
        nightly(night(settings, trains=False))
    return watch


def made_shop(folder: Path, users: int, open_sales: int) -> Settings:
    """Generate a shop in a folder, register a champion for it, and return its settings."""
    synthetic.write_shop(folder / "raw", users, users * EVENTS_PER_USER, open_sales)
    settings = Settings(
        folder=str(folder / "var"),
        as_of=synthetic.AS_OF,
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
