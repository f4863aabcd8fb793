"""Metrics of baselines on the pages of a backtest, with repeat purchases or without, and their best settings."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks.baselines import POPULARITY, Baseline, Kind
from jobs.engine.run import Run
from recsys.instants import DAY
from recsys.metrics import ranking_metrics, ranks
from recsys.pipeline.evaluation import candidates_and_relevant
from recsys.pipeline.examples import PAGE_USERS
from recsys.shop.histories import Block, Histories

NEW = "new to the user"
CASES = {"repeats allowed": False, NEW: True}
"""Name → `new_only` of `page_metrics`."""


def whole_block(run: Run) -> Block:
    """Return all users as one block."""
    table = pq.read_table(run.folder / "user_histories").combine_chunks()
    return Block.from_batch(table.to_batches()[0], len(run.shop.catalogue))


def best_settings(run: Run, everyone: Block, as_ofs: list[int], kinds: Iterable[Kind]) -> dict[str, list[Baseline]]:
    """Return for each case the best popularity, and the best baseline of each kind, in this order.

    The best one has the highest mean ndcg@10 on the days from some instants. Other kinds than popularity break ties by
    the popularity that is best for sales new to the user, since most of the sales that they cannot order are new.
    """
    popularity = _best_of_kinds(baseline_pages(run, everyone, as_ofs, POPULARITY.baselines(), None), [POPULARITY])
    others = list(kinds)
    tried = (each for kind in others for each in kind.baselines())
    pages = baseline_pages(run, everyone, as_ofs, tried, ties=popularity[NEW][0])
    best = _best_of_kinds(pages, others)
    return {case: [*popularity[case], *best[case]] for case in CASES}


def _best_of_kinds(pages: pd.DataFrame, kinds: list[Kind]) -> dict[str, list[Baseline]]:
    means = pages.groupby(["case", "policy"])["ndcg@10"].mean()
    return {
        case: [max(kind.baselines(), key=lambda each, case=case: means[case, str(each)]) for kind in kinds]
        for case in CASES
    }


def baseline_pages(
    run: Run, everyone: Block, as_ofs: list[int], baselines: Iterable[Baseline], ties: Baseline | None
) -> pd.DataFrame:
    """Return the metrics of baselines on the purchases of the day from each instant, each refitted as of that instant.

    Args:
        run: The backtest.
        everyone: All users.
        as_ofs: Instants, microseconds UTC.
        baselines: What to measure.
        ties: The popularity that orders sales of the same score, such as all sales for an unknown user; without it,
            they are in the order of the catalogue.

    Returns:
        One row per case, policy and page, as from `page_metrics`: case, policy, as_of, user_id, metrics.
    """
    baselines = list(baselines)
    return pd.DataFrame(row for as_of in as_ofs for row in _pages_of_day(run, everyone, as_of, baselines, ties))


def _pages_of_day(
    run: Run, everyone: Block, as_of: int, baselines: list[Baseline], ties: Baseline | None
) -> Iterator[dict[str, Any]]:
    sales, day = run.shop.horizon(as_of).sales, pd.Timestamp(as_of, unit="us")  # as Spark's toPandas has it
    windows = {each.days for each in (*baselines, ties) if each}
    histories = run.settings.history  # shared by baselines of the same window, which share what they compute of them
    known = {days: everyone.as_of(as_of, histories.model_copy(update={"days": days})) for days in windows}
    order = _tie_order(ties, known, sales)
    parts = []
    buyers = np.unique(everyone.purchases_between(as_of, as_of + DAY)[0])
    for start in range(0, len(buyers), PAGE_USERS):
        rows = buyers[start : start + PAGE_USERS]
        block = everyone.take(rows)
        parts.append((rows, block.user_ids.to_pylist(), _candidates_by_case(run, block, as_of)))
    for baseline in baselines:
        score = baseline.fit(known[baseline.days])
        for rows, user_ids, candidates_by_case in parts:
            scores = score(rows)[:, sales]
            for case, (candidates, relevant) in candidates_by_case.items():
                ranked, bought = ranks(scores[:, order], candidates[:, order]), relevant[:, order]
                for user in np.flatnonzero(bought.any(axis=1)):
                    metrics = ranking_metrics(ranked[user][bought[user]])
                    yield {"case": case, "policy": str(baseline), "as_of": day, "user_id": user_ids[user], **metrics}


def _tie_order(popularity: Baseline | None, known: Mapping[int, Histories], sales: NDArray[np.int32]) -> NDArray:
    """Return the order of the sales of a horizon in which `ranks`, which goes by column, breaks ties by popularity."""
    if popularity is None:
        return np.arange(len(sales))
    score = popularity.fit(known[popularity.days])
    return np.argsort(-score(np.zeros(1, np.int64))[0, sales], kind="stable")


def _candidates_by_case(run: Run, block: Block, as_of: int) -> dict[str, tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    return {case: candidates_and_relevant(block, run.shop, as_of, new_only) for case, new_only in CASES.items()}
