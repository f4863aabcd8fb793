"""The training set of 30 past days, each as of its own midnight, compared with one night of the same shop.

    python -m benchmarks.training_set [--users 250000] [--days 30]

The night does not train. Histories exist before the measurement of the training set, which covers fitting every
recommender as of 30 instants and computing the features of those days' buyers.
"""

import argparse
import tempfile
import time
from pathlib import Path

from benchmarks import machine
from benchmarks.night import made_shop
from jobs.engine.nights import night
from jobs.engine.run import Step, with_inputs
from jobs.night.build_histories import BUILD_HISTORIES
from jobs.night.build_training_set import BUILD_TRAINING_SET
from jobs.night.nightly import nightly
from recsys.config.settings import Settings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=250_000)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--open-sales", type=int, default=300)
    arguments = parser.parse_args()
    print(machine.describe())
    with tempfile.TemporaryDirectory(prefix="training-set-", ignore_cleanup_errors=True) as folder:
        settings = made_shop(Path(folder), arguments.users, arguments.open_sales)
        start = time.perf_counter()
        nightly(night(settings, trains=False))
        one_night = time.perf_counter() - start
        examples = seconds_of_examples(settings, arguments.days)
    print(
        f"{arguments.users:,} users: one night {one_night:.1f} s; training set of {arguments.days} days "
        f"{examples:.1f} s, {examples / one_night:.2f} x a night"
    )


def seconds_of_examples(settings: Settings, days: int) -> float:
    """Return the seconds that the training set of `days` days takes, once histories exist."""
    model = settings.meta_model.model_copy(update={"days": days})
    run = night(settings.model_copy(update={"meta_model": model}))
    run.do(with_inputs(BUILD_HISTORIES))
    start = time.perf_counter()
    run.do(steps_between(BUILD_HISTORIES, BUILD_TRAINING_SET))
    return time.perf_counter() - start


def steps_between(done: Step, last: Step) -> tuple[Step, ...]:
    """Return the steps that `last` needs, without those that are done."""
    return tuple(step for step in with_inputs(last) if step not in with_inputs(done))


if __name__ == "__main__":
    main()
