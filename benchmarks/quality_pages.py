"""Metrics of baselines on the pages of a backtest, with repeat purchases or without, and their best settings."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from scipy.sparse import csr_matrix

from benchmarks.baselines import GRIDS, Baseline, grid
from jobs.engine.run import Run
from recsys.metrics import ranking_metrics, ranks
from recsys.pipeline.evaluation import candidates_and_relevant
from recsys.pipeline.examples import buyers_of_day
from recsys.shop.histories import Block

CASES = {"repeats allowed": False, "new to the user": True}
"""Name → `new_only` of `page_metrics`."""


def whole_block(run: Run) -> Block:
    """Return all users as one block."""
    table = pq.read_table(run.folder / "user_histories").combine_chunks()
    return Block.from_batch(table.to_batches()[0], len(run.shop.catalogue))


def best_settings(run: Run, everyone: Block, as_ofs: list[int]) -> dict[str, list[Baseline]]:
    """Return for each case and kind the baseline with the highest mean ndcg@10 on the days from some instants."""
    pages = pd.concat(baseline_pages(run, everyone, as_ofs, grid(kind)) for kind in GRIDS)
    means = pages.groupby(["case", "policy"], sort=False)["ndcg@10"].mean()
    return {
        case: [max(grid(kind), key=lambda each, case=case: means[case, str(each)]) for kind in GRIDS] for case in CASES
    }


def baseline_pages(run: Run, everyone: Block, as_ofs: list[int], baselines: Iterable[Baseline]) -> pd.DataFrame:
    """Return the metrics of baselines on the purchases of the day from each instant, each refitted as of that instant.

    Returns:
        One row per case, policy and page, as from `page_metrics`: case, policy, as_of, user_id, metrics.
    """
    baselines = list(baselines)
    rows = (row for as_of in as_ofs for baseline in baselines for row in _pages_of_day(run, everyone, as_of, baseline))
    return pd.DataFrame(rows)


def _pages_of_day(run: Run, everyone: Block, as_of: int, baseline: Baseline) -> Iterator[dict[str, Any]]:
    score = baseline.fit(_event_counts(run, everyone, as_of, baseline))
    sales, day = run.shop.horizon(as_of).sales, pd.Timestamp(as_of, unit="us")  # as Spark's toPandas has it
    for buyers in buyers_of_day(everyone, as_of):
        scores = score(_event_counts(run, buyers, as_of, baseline))[:, sales]
        for case, new_only in CASES.items():
            candidates, relevant = candidates_and_relevant(buyers, run.shop, as_of, new_only)
            ranked, ids = ranks(scores, candidates), buyers.user_ids.to_pylist()
            for user in np.flatnonzero(relevant.any(axis=1)):
                metrics = ranking_metrics(ranked[user][relevant[user]])
                yield {"case": case, "policy": str(baseline), "as_of": day, "user_id": ids[user], **metrics}


def _event_counts(run: Run, users: Block, as_of: int, baseline: Baseline) -> csr_matrix:
    """Return the number of events of each user and sale in the window of a baseline."""
    histories = users.as_of(as_of, run.settings.history.model_copy(update={"days": baseline.days}))
    counts = histories.matrix(np.ones(len(histories.sales), np.float32)).copy()  # sum_duplicates sorts in place
    counts.sum_duplicates()
    return counts
