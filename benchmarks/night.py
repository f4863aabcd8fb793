"""The whole night without training: time and memory for a growing number of users.

    python -m benchmarks.night [--users 250000 500000 1000000]

The peer is the same night over a quarter of the users: time and memory must grow no faster than users do.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks import machine, synthetic
from jobs import tracking
from jobs.nightly import night, nightly
from recsys.catalogue import Catalogue
from recsys.config import Settings
from recsys.meta_model import MetaModel
from recsys.pipeline.settings import RawTable, SourceSettings
from recsys.recommenders import recommenders

EVENTS_PER_USER = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, nargs="+", default=[250_000, 500_000, 1_000_000])
    parser.add_argument("--open-sales", type=int, default=300)
    arguments = parser.parse_args()
    print(machine.describe())
    first: tuple[int, machine.Watch] | None = None
    for users in arguments.users:
        folder = Path(tempfile.mkdtemp(prefix="night-"))
        try:
            watch = measure(folder, users, arguments.open_sales)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        first = first or (users, watch)
        print(
            f"{users:>9,} users, {users * EVENTS_PER_USER:>11,} events, {arguments.open_sales} open sales: "
            f"{watch.seconds:6.1f} s, {watch.peak_bytes / 1e9:5.2f} GB  "
            f"({users / first[0]:.0f} x users, {watch.seconds / first[1].seconds:.2f} x time, "
            f"{watch.peak_bytes / first[1].peak_bytes:.2f} x memory)",
            flush=True,
        )


def measure(folder: Path, users: int, open_sales: int) -> machine.Watch:
    """Make a shop, register a model, and watch one night that scores with it."""
    synthetic.write_shop(folder / "raw", users, users * EVENTS_PER_USER, open_sales)
    settings = Settings(
        folder=str(folder / "var"),
        as_of=synthetic.AS_OF,
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
    model = MetaModel(names, [0.0] * len(names), [1.0] * len(names), [0.5] * len(names), -5.0)
    tracking.register(settings, model, {}, 0, "benchmark")
    with machine.watched() as watch:
        nightly(night(settings, train=False), train=False)
    return watch


if __name__ == "__main__":
    main()
