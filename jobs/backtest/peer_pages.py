"""Metrics of baselines on the pages of a backtest, with repeat purchases or without, and their best settings."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from jobs.engine.run import Run
from recsys.backtest.baselines import POPULARITY, Baseline, Kind
from recsys.console import TextConsole
from recsys.instants import DAY, from_micros
from recsys.metrics import NDCG, ranking_metrics
from recsys.pipeline.evaluation import candidates_and_relevant
from recsys.shop.histories import Block, Histories, HistorySettings
from recsys.tables.parts import read_arrow
from recsys.wording import plural

NEW = "new to the user"
CASES = {"repeats allowed": False, NEW: True}
"""Name → `new_only` of `page_metrics`."""


class Page(NamedTuple):
    """A page to rank."""

    row: int
    """Number of the user among those who bought on the day."""
    columns: NDArray[np.int32]
    """Positions in the catalogue of the candidates; those of the same score are ranked in this order."""
    bought: NDArray[np.int64]
    """Which of the candidates the user bought on that day, ascending, at least one."""


@dataclass
class Day:
    """The 24 hours from an instant on: what is known at the instant, who bought after it, and what."""

    as_of: int  # microseconds UTC
    everyone: Block
    history: HistorySettings
    sales: NDArray[np.int32]
    """Positions in the catalogue of the sales of the horizon."""
    buyers: NDArray[np.int64]
    """Rows of the users who bought on the day."""
    by_case: Mapping[str, tuple[NDArray[np.bool_], NDArray[np.bool_]]]
    """For each case what `candidates_and_relevant` returns of the buyers."""
    _known: dict[int, Histories] = field(default_factory=dict)

    @classmethod
    def of(cls, run: Run, everyone: Block, as_of: int) -> "Day":
        """Return the day from an instant on, microseconds UTC."""
        buyers = np.unique(everyone.purchases_between(as_of, as_of + DAY)[0])
        block = everyone.take(buyers)
        by_case = {case: candidates_and_relevant(block, run.shop, as_of, new_only) for case, new_only in CASES.items()}
        return cls(as_of, everyone, run.settings.history, run.shop.horizon(as_of).sales, buyers, by_case)

    def known(self, days: int) -> Histories:
        """Return all users' histories of the last days; the same object each time, so that baselines of the same
        window share what they compute of it."""
        if days not in self._known:
            self._known[days] = self.everyone.as_of(self.as_of, self.history.model_copy(update={"days": days}))
        return self._known[days]

    def pages(self, case: str, ties: Baseline | None) -> Iterator[Page]:
        """Return the pages of a case; candidates are in the order in which ties are broken."""
        candidates, relevant = self.by_case[case]
        order = self.tie_order(ties)
        for row in np.flatnonzero(relevant.any(axis=1)):
            ordered = order[candidates[row, order]]
            yield Page(int(row), self.sales[ordered], np.flatnonzero(relevant[row, ordered]))

    def tie_order(self, ties: Baseline | None) -> NDArray[np.int64]:
        """Return the columns of the horizon in the order in which ties are broken: by a popularity, or as they are."""
        if ties is None:
            return np.arange(len(self.sales))
        score = ties.fit(self.known(ties.days))(np.zeros(1, np.int64))[0]
        return np.argsort(-score[self.sales], kind="stable")


def whole_block(run: Run) -> Block:
    """Return all users as one block."""
    table = read_arrow(run.outputs / "user_histories").combine_chunks()
    return Block.from_batch(table.to_batches()[0], len(run.shop.catalogue))


def best_settings(days: list[Day], kinds: Iterable[Kind], tell: Callable[[str], object]) -> dict[str, list[Baseline]]:
    """Return for each case the best popularity, and the best baseline of each kind, in this order.

    The best one has the highest mean ndcg@10 on the days. Other kinds than popularity break ties by the popularity that
    is best for sales new to the user, since most of the sales that they cannot order are new.

    Args:
        days: The days.
        kinds: The kinds beside popularity.
        tell: Called with a line about each kind.
    """
    best: dict[str, list[Baseline]] = {case: [] for case in CASES}
    for kind in (POPULARITY, *kinds):
        start, tried = time.monotonic(), list(kind.baselines())
        named = {str(each): each for each in tried}
        ties = best[NEW][0] if best[NEW] else None
        pages = pd.concat([baseline_pages(day, tried, ties) for day in days])
        means = pages.groupby(["case", "policy"])[NDCG].mean()
        for case, chosen in best.items():
            chosen.append(named[means[case][list(named)].idxmax()])
        found = [
            f"{case}: {chosen[-1].options or kind.name}: {means[case, str(chosen[-1])]:.4f}"
            for case, chosen in best.items()
        ]
        took = f"{time.monotonic() - start:.1f} s"
        tell(f"tuned {kind.name}, {plural(len(tried), 'setting')}, {took}; best, {'; '.join(found)}")
    return best


def pages_of_days(
    run: Run, everyone: Block, baselines: Iterable[Baseline], ties: Baseline, console: TextConsole
) -> pd.DataFrame:
    """Return the rows of `baseline_pages` of all days of the backtest."""
    baselines, parts = list(baselines), []
    for number, as_of in enumerate(run.days, 1):
        start = time.monotonic()
        parts.append(baseline_pages(Day.of(run, everyone, as_of), baselines, ties))
        console.print(
            f"measured {from_micros(as_of):%m-%d}, day {number} of {len(run.days)}, {len(baselines)} baselines, "
            f"{time.monotonic() - start:.1f} s"
        )
    return pd.concat(parts)


def baseline_pages(day: Day, baselines: Iterable[Baseline], ties: Baseline | None) -> pd.DataFrame:
    """Return the metrics of baselines on the purchases of a day, each fitted as of its instant.

    Args:
        day: The day.
        baselines: What to measure.
        ties: The popularity that orders sales of the same score, such as all sales for an unknown user; without it,
            they are in the order of the catalogue.

    Returns:
        One row per case, policy and page, as from `page_metrics`: case, policy, as_of, user_id, metrics.
    """
    pages = [(case, page) for case in CASES for page in day.pages(case, ties)]
    user_ids, as_of = day.everyone.user_ids.take(day.buyers).to_pylist(), pd.Timestamp(day.as_of, unit="us")
    rows: list[dict[str, Any]] = []
    for baseline in baselines:
        scores = baseline.fit(day.known(baseline.days))(day.buyers)
        for case, page in pages:
            metrics = ranking_metrics(ranks_of(scores[page.row, page.columns], page.bought))
            key = {"case": case, "policy": str(baseline), "as_of": as_of, "user_id": user_ids[page.row]}
            rows.append(key | metrics)
    return pd.DataFrame(rows)


def ranks_of(scores: NDArray[np.floating], chosen: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the 1-based ranks of some sales among all, best first, ties by position; without sorting all.

    Args:
        scores: Shape (n_sales,), without nan.
        chosen: Positions of the sales to rank, shape (n_chosen,).
    """
    of_chosen = scores[chosen, None]
    is_before = np.arange(len(scores)) < chosen[:, None]
    return 1 + np.count_nonzero((scores > of_chosen) | ((scores == of_chosen) & is_before), axis=1)
