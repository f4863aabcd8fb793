"""Assignment to experiments: time per request, compared with GrowthBook's SDK in the same run.

    python -m benchmarks.assignment [--requests 20000]

Each experiment has a layer, targeting and two variants. Three cases: one experiment that assigns every user; ten that
divide the layer among them; ten with a coverage of 0, so that every request is checked against all of them.
"""

import argparse
import time
from collections.abc import Callable
from datetime import UTC, datetime

import growthbook

from benchmarks import machine
from recsys.experiments.assignment import Assigner, assign_all
from recsys.experiments.settings import ExperimentFile
from recsys.instants import to_micros

START = datetime(2026, 3, 2, tzinfo=UTC)
NOW = to_micros(START)
COUNTRIES = ["DE", "FR"]
ATTRIBUTES = {"country": "FR", "channel": "newsletter"}
WEIGHTS = [0.5, 0.5]
SEED = "layer:home:"
REPEATS = 5

Range = tuple[float, float]
Assign = Callable[[str], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=20_000)
    users = [f"user-{number:07d}" for number in range(parser.parse_args().requests)]
    print(f"{len(users):,} requests, the best of {REPEATS} runs; {machine.describe()}")
    tenths = [(number / 10, (number + 1) / 10) for number in range(10)]
    report("one experiment", users, [(0.0, 1.0)], coverage=1.0)
    report("ten experiments", users, tenths, coverage=1.0)
    report("ten, none assigns the user", users, [(0.0, 1.0)] * 10, coverage=0.0)
    report_vectorized(users * (1_000_000 // len(users)))


def report(name: str, users: list[str], ranges: list[Range], coverage: float) -> None:
    ours = microseconds(users, assigner(ranges, coverage))
    theirs = microseconds(users, growthbook_sdk(ranges, coverage))
    print(f"  {name:<28} {ours:6.2f} µs per request, GrowthBook {theirs:7.2f} µs: ratio {ours / theirs:.2f}")


def report_vectorized(users: list[str]) -> None:
    file = experiment_file([(0.0, 1.0)], 1.0)
    seconds = best(lambda: assign_all(file.experiments[0], users, file.layers))
    print(f"  vectorised, {len(users):,} users: {seconds:.2f} s, {seconds / len(users) * 1e6:.2f} µs per user")


def assigner(ranges: list[Range], coverage: float) -> Assign:
    compiled = Assigner(experiment_file(ranges, coverage))
    return lambda user: compiled.assign(user, ATTRIBUTES, NOW)


def experiment_file(ranges: list[Range], coverage: float) -> ExperimentFile:
    variants = [{"key": f"v{index}", "weight": weight, "policy": f"p{index}"} for index, weight in enumerate(WEIGHTS)]
    experiments = [
        {
            "key": f"experiment-{number}",
            "status": "running",
            "start": START,
            "end": datetime(2026, 4, 1, tzinfo=UTC),
            "layer": {"name": "home", "ranges": [each]},
            "coverage": coverage,
            "targeting": {"country": {"$in": COUNTRIES}},
            "variants": variants,
            "analysis": {"primary": [{"name": "purchases", "type": "mean", "column": "purchases"}]},
        }
        for number, each in enumerate(ranges)
    ]
    content = {"schema_version": 1, "default": {"policy": "meta"}, "layers": {"home": {"seed": SEED}}}
    return ExperimentFile.model_validate(content | {"experiments": experiments})


def growthbook_sdk(ranges: list[Range], coverage: float) -> Assign:
    """Return assignment as in GrowthBook's manual: one object per request, until an experiment assigns the user."""
    experiments = [
        growthbook.Experiment(
            key=f"experiment-{number}",
            variations=["v0", "v1"],
            weights=WEIGHTS,
            coverage=coverage,
            condition={"country": {"$in": COUNTRIES}},
            seed=f"experiment-{number}:1:",
            hashVersion=2,
            filters=[{"seed": SEED, "ranges": [each], "attribute": "id", "hashVersion": 2}],
        )
        for number, each in enumerate(ranges)
    ]

    def assign(user: str) -> object:
        request = growthbook.GrowthBook(attributes=ATTRIBUTES | {"id": user})
        return next((result for each in experiments if (result := request.run(each)).inExperiment), None)

    return assign


def microseconds(users: list[str], assign: Assign) -> float:
    """Return the mean time per request, in microseconds."""
    return best(lambda: [assign(user) for user in users]) / len(users) * 1e6


def best(work: Callable[[], object]) -> float:
    """Return the seconds of the fastest run."""
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


if __name__ == "__main__":
    main()
