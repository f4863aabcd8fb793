"""Quality on real purchases: the meta-model and its recommenders beside `implicit` and plain popularity.

    python -m benchmarks.quality [--conf conf/online_retail.yaml] [--from 2011-11-02] [--to 2011-12-09]

All rank the same sales for the same users on the same days. `implicit`'s models are refitted every seven days and know
each user's events up to the day; they rank repeats too, as ours do.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from implicit.als import AlternatingLeastSquares
from implicit.nearest_neighbours import BM25Recommender, CosineRecommender
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

from benchmarks import machine
from jobs.backtest import backtest, window
from jobs.run import Run
from recsys.config import load_settings
from recsys.histories import Block, Histories
from recsys.instants import parse_instant
from recsys.metrics import RANKING_METRICS, bootstrap, ranking_metrics, ranks
from recsys.pipeline.evaluation import first_purchases
from recsys.pipeline.examples import bought_in_day, buyers_of_day, open_at
from recsys.report import print_backtest, wide_console

REFIT_DAYS = 7
POPULARITY_DAYS = 7

Scores = Callable[[csr_matrix], NDArray[np.float32]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conf", type=Path, default=Path("conf/online_retail.yaml"))
    parser.add_argument("--from", dest="first", default="2011-11-02")
    parser.add_argument("--to", dest="last", default="2011-12-09")
    arguments = parser.parse_args()
    print(machine.describe())
    run = window(load_settings(arguments.conf), parse_instant(arguments.first), parse_instant(arguments.last))
    result = backtest(run)
    with threadpool_limits(1, "blas"):
        result["policies"] |= measure_baselines(run)
    print_backtest(result, wide_console())


def measure_baselines(run: Run) -> dict[str, dict[str, Any]]:
    """Return the metrics of each baseline on the pages of the backtest."""
    everyone = whole_block(run)
    pages: dict[str, list[tuple[str, dict[str, float]]]] = {}
    models: dict[str, Scores] = {}
    for number, as_of in enumerate(run.days):
        known = everyone.as_of(as_of, run.settings.history)
        if number % REFIT_DAYS == 0:
            models = fit_implicit(counts(known))
        recent = everyone.as_of(as_of, run.settings.history.model_copy(update={"days": POPULARITY_DAYS}))
        popular = np.asarray(counts(recent).sum(axis=0), np.float32).ravel()
        scorers = {
            **models,
            "popularity of 7 days": lambda users, popular=popular: np.tile(popular, (users.shape[0], 1)),
        }
        for buyers in buyers_of_day(everyone, as_of):
            for name, metrics in measure(run, buyers, as_of, scorers):
                pages.setdefault(name, []).append(metrics)
    return {name: summary(rows) for name, rows in pages.items()}


def whole_block(run: Run) -> Block:
    """Return all users as one block."""
    table = pq.read_table(run.folder / "user_histories").combine_chunks()
    return Block.from_batch(table.to_batches()[0], len(run.shop.catalogue))


def counts(histories: Histories) -> csr_matrix:
    """Return how often each user bought or visited each sale."""
    matrix = histories.matrix(np.ones(len(histories.sales), np.float32)).copy()
    matrix.sum_duplicates()
    return matrix


def fit_implicit(matrix: csr_matrix) -> dict[str, Scores]:
    """Fit `implicit`'s models with the settings that were best before the window."""
    fitted: dict[str, Scores] = {}
    for name, model in (("implicit BM25", BM25Recommender(K=500)), ("implicit cosine", CosineRecommender(K=100))):
        model.fit(matrix, show_progress=False)
        fitted[name] = lambda users, model=model: (users @ model.similarity).toarray().astype(np.float32)
    als = AlternatingLeastSquares(factors=64, random_state=0)
    als.fit(matrix, show_progress=False)
    fitted["implicit ALS"] = lambda users: (
        als.recalculate_user(np.arange(users.shape[0]), users) @ als.item_factors.T
    ).astype(np.float32)
    return fitted


def measure(
    run: Run, buyers: Block, as_of: int, scorers: dict[str, Scores]
) -> Iterator[tuple[str, tuple[str, dict[str, float]]]]:
    """Yield the baseline's name, and user and metrics of each page."""
    shop = run.shop
    sales = shop.horizon(as_of).sales
    candidates = open_at(shop, sales, first_purchases(buyers, as_of))
    relevant = bought_in_day(buyers, as_of, len(shop.catalogue))[:, sales] & candidates
    users = counts(buyers.as_of(as_of, run.settings.history))
    ids = buyers.user_ids.to_pylist()
    for name, score in scorers.items():
        ranked = ranks(score(users)[:, sales], candidates)
        for user in np.flatnonzero(relevant.any(axis=1)):
            yield name, (ids[user], ranking_metrics(ranked[user][relevant[user]]))


def summary(rows: list[tuple[str, dict[str, float]]]) -> dict[str, Any]:
    """Return each metric with its interval, as a backtest does."""
    users = np.array([user for user, _ in rows])
    values = {name: np.array([metrics[name] for _, metrics in rows]) for name in RANKING_METRICS}
    estimates = {name: estimate._asdict() for name, estimate in bootstrap(values, users).items()}
    return {**estimates, "users": len(np.unique(users))}


if __name__ == "__main__":
    main()
