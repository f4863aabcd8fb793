"""Position bias: training on the logged pages of the simulated A/B test, with and without positions.

    recsys demo && recsys demo --experiment && python -m benchmarks.position_bias

The shoppers of the simulation read a page from its top and stop somewhere. Each model ranks the sales open at noon of
the following day for every user with a history. The metric is the discounted sum of the true purchase probabilities of
the ten sales shown, as a share of that of the best page.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks import machine
from demo_shop.shoppers import Shoppers
from jobs.engine.nights import night
from jobs.engine.run import Run, with_inputs
from jobs.night.build_training_set import BUILD_TRAINING_SET
from recsys.config.settings import load_settings
from recsys.instants import HOUR, to_micros
from recsys.meta_model import MetaModel
from recsys.meta_model.training import Examples, train
from recsys.pipeline.example_arrays import examples_of, in_order, read_examples
from recsys.pipeline.examples import open_at, training_examples
from recsys.recommenders.own import bought_before
from recsys.shop.histories import Block
from recsys.tables.night import TRAINING_EXAMPLES, USER_HISTORIES
from recsys.tables.parts import read_arrow

PAGE = 10
DISCOUNT = 1 / np.log2(np.arange(2, PAGE + 2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--conf", type=Path, default=Path("conf/demo_experiment.yaml"), help="the simulation's settings"
    )
    parser.add_argument("--shop", type=Path, default=Path("conf/demo.yaml"), help="the simulated shop's settings")
    arguments = parser.parse_args()
    print(machine.describe())
    shop = load_settings(arguments.shop)
    assert shop.as_of is not None
    run = night(load_settings(arguments.conf), to_micros(shop.as_of))
    run.do(with_inputs(BUILD_TRAINING_SET))
    judge = Judge(run, Path(shop.folder))
    shares: dict[str, NDArray[np.float64]] = {}
    for name, examples in training_sets(run):
        shares[name] = judge.share(train(examples, run.settings.meta_model))
        lead = shares[name] - next(iter(shares.values()))
        print(
            f"  {name:<62} {shares[name].mean():.4f}  {lead.mean():+.4f} ± {1.96 * lead.std() / np.sqrt(len(lead)):.4f}"
        )
    print(f"  {judge.users:,} users, {len(run.training_days)} days of training")


def training_sets(run: Run) -> Iterator[tuple[str, Examples]]:
    """Return the training sets with their names; the first one needs no log."""
    histories = USER_HISTORIES.read(run.spark, run.outputs)
    drawn = training_examples(histories, run.shop, run.open_training_days, run.settings.meta_model)
    yield "all days, purchases and drawn sales only", examples_of(in_order(drawn.toArrow()))
    all_days = examples_of(read_examples(run.outputs / TRAINING_EXAMPLES.name))
    logged = all_days.where(all_days.position >= 0)
    yield "logged days, shown sales too, without positions", replace(logged, position=np.full_like(logged.position, -1))
    yield "logged days, shown sales too", logged
    yield "logged days, shown sales only", logged.where((logged.position > 0) | logged.bought)
    yield "all days, shown sales too, as in the night", all_days


class Judge:
    """Evaluates models by the true purchase probabilities of the sales open at noon."""

    def __init__(self, run: Run, shop: Path):
        self._scorer = run.shop.scorer(run.as_of)
        block = Block.from_batch(_only_batch(run), len(run.shop.catalogue))
        known = block.as_of(run.as_of, run.shop.history)
        block = block.take(np.flatnonzero(np.diff(known.offsets)))
        self._known = block.as_of(run.as_of, run.shop.history)
        self._features = self._scorer.features(self._known)
        self._again = bought_before(self._known, self._scorer.horizon)
        sales = self._scorer.horizon.sales
        shoppers = Shoppers(shop, run.shop.catalogue.sale_ids, seed=0)
        chances = shoppers.chances(block.user_ids.to_pylist())[:, sales]
        shown = np.repeat(open_at(run.shop, sales, np.array([run.as_of + 12 * HOUR])), len(block), axis=0)
        shown[self._again] = False  # no user buys a sale twice
        self._chances = np.where(shown, chances, -np.inf)
        self._best = self._page_values(self._chances)

    @property
    def users(self) -> int:
        """Number of users with a history."""
        return len(self._known)

    def share(self, model: MetaModel) -> NDArray[np.float64]:
        """Return for each user the value of the model's page as a share of that of the best page."""
        log_odds = model.log_odds(self._features, self._again)
        return self._page_values(np.where(np.isfinite(self._chances), log_odds, -np.inf)) / self._best

    def _page_values(self, scores: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the discounted sum of the true probabilities of the ten sales with the highest scores."""
        page = np.argsort(-scores, axis=1, kind="stable")[:, :PAGE]
        return np.take_along_axis(self._chances, page, axis=1) @ DISCOUNT


def _only_batch(run: Run) -> pa.RecordBatch:
    return read_arrow(run.outputs / USER_HISTORIES.name).combine_chunks().to_batches()[0]


if __name__ == "__main__":
    main()
