"""Ranking quality on real purchases: the meta-model and its recommenders against the peers that one could pick instead.

    python -m benchmarks.quality [--peers classic modern sequential] [--shops online_retail complete_journey]
        [--days-sampled 12] [--seed 0]

All rank the same sales for the same users on the same days, in two cases: all open sales, and those that the user had
not bought before. Peers are refitted for every day, as ours are. Sales that a peer gives the same score are ordered by
recent popularity.

Tuning: three days are drawn from those before the window that the meta-model is trained on. On each of them, every
combination of a kind's grid is fitted to what was known at its midnight; for each case, the combination of the highest
mean ndcg@10 over all pages of these days is the kind's, and is then measured on the days of the window. No combination
is left out: those of a kind share what they have in common, such as the weights of EASE or the neighbours of a user.
LambdaRank is tuned on the same days, with models of the other training days, with the feature `towers` and without it.

Classic peers are popularity and `implicit`'s models, modern ones those of `benchmarks.modern_baselines`, and LambdaRank
over our own features. The sequential one is SASRec, which takes longer than all others; it is not refitted for every
day, but trained further.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from benchmarks import machine
from benchmarks.lambda_rank import LAMBDA_RANK, best_lambda_rank
from benchmarks.modern_baselines import FREQUENCY, MODERN
from benchmarks.sasrec import sequential
from jobs.backtest.backtest import window
from jobs.backtest.peer_pages import CASES, NEW, Day, best_settings, pages_of_days, whole_block
from jobs.engine.run import Run, with_inputs
from jobs.night.train_meta_model import TRAIN_META_MODEL, read_trained_model
from recsys.backtest.baselines import CLASSIC, POPULARITY, Baseline, Kind
from recsys.config.settings import load_settings
from recsys.console import TextConsole, TextTable, line, show_progress, wide_console
from recsys.instants import from_micros, parse_instant
from recsys.meta_model import META, MetaModel
from recsys.metrics import Estimate, bootstrap, paired_bootstrap
from recsys.pipeline.evaluation import page_metrics
from recsys.tables.night import USER_HISTORIES

WINDOWS = {"online_retail": ("2011-11-02", "2011-12-09"), "complete_journey": ("2017-11-26", "2018-01-01")}
METRICS = ("ndcg@10", "recall@10")
TUNING_DAYS = 3
PEERS: dict[str, Callable[[], tuple[Kind, ...]]] = {
    "classic": lambda: CLASSIC,
    "modern": lambda: MODERN,
    "sequential": sequential,
}
COLD_EVENTS = 5
"""Users with fewer known events than this are measured apart, with popularity of a day and of 28 days beside them."""
OF_COLD = tuple(Baseline(POPULARITY, (("days", days),)) for days in (1, 28))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=["classic", "modern"])
    parser.add_argument("--shops", nargs="+", choices=WINDOWS, default=list(WINDOWS))
    parser.add_argument("--days-sampled", type=int, default=12, help="number of days drawn from the window")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    console = wide_console()
    show_progress()
    console.print(machine.describe())
    for shop in arguments.shops:
        settings = load_settings(Path(f"conf/{shop}.yaml"))
        first, last = (parse_instant(day) for day in WINDOWS[shop])
        run = window(settings, first, last, arguments.days_sampled, arguments.seed)
        compare(run, arguments.peers, arguments.seed, console)


def compare(run: Run, families: list[str], seed: int, console: TextConsole) -> None:
    """Print for each case the metrics of every policy, and the meta-model's lead over each; before, each step."""
    start = time.monotonic()
    console.print("", line((Path(run.settings.folder).name, "bold")))
    run.do(with_inputs(TRAIN_META_MODEL))
    tuning_days = sorted(np.random.default_rng(seed).choice(run.training_days, TUNING_DAYS, replace=False).tolist())
    everyone, kinds = whole_block(run), [kind for family in families for kind in PEERS[family]()]
    with threadpool_limits(1, "blas"):  # `implicit` has threads of its own
        chosen = best_settings(
            [Day.of(run, everyone, each) for each in tuning_days], kinds, partial(console.print, soft_wrap=True)
        )
        measured = dict.fromkeys([*OF_COLD, *(each for best in chosen.values() for each in best)])
        theirs = pages_of_days(run, everyone, measured, chosen[NEW][0], console)
    lambda_rank: Mapping[str, MetaModel] = {}
    if "modern" in families:
        with timed("tuned LambdaRank", console):
            lambda_rank = best_lambda_rank(run, tuning_days)
    with timed("measured the meta-model and its recommenders", console):
        ours = our_pages(run, lambda_rank)
    print_days(run, tuning_days, seed, console)
    for case, best in chosen.items():
        pages = pd.concat([ours, theirs])
        pages = pages[pages["case"] == case].sort_values(["as_of", "user_id"])
        by_policy = {str(policy): rows.reset_index(drop=True) for policy, rows in pages.groupby("policy", sort=False)}
        peers, of_cold = ([str(each) for each in baselines] for baselines in (best, OF_COLD))
        own = [str(policy) for policy in ours["policy"].unique()]
        print_case(case, {policy: by_policy[policy] for policy in (*own, *peers)}, peers, seed, console)
        frequency = [str(each) for each in best if each.kind == FREQUENCY]
        print_cold_users({policy: by_policy[policy] for policy in (META, *of_cold, *frequency)}, seed, console)
    console.print(f"{time.monotonic() - start:.0f} s in total", "")


@contextmanager
def timed(step: str, console: TextConsole) -> Iterator[None]:
    """Print how long a step took."""
    start = time.monotonic()
    yield
    console.print(f"{step}, {time.monotonic() - start:.1f} s")


def our_pages(run: Run, lambda_rank: Mapping[str, MetaModel]) -> pd.DataFrame:
    """Return the metrics of the meta-model, of LambdaRank's model for each case, and of each recommender alone, in the
    format of `baseline_pages`."""
    model, _ = read_trained_model(run)
    histories, cases = USER_HISTORIES.read(run.spark, run.outputs), []
    for case, new_only in CASES.items():
        models = {META: model} | ({LAMBDA_RANK: lambda_rank[case]} if lambda_rank else {})
        pages = page_metrics(histories, run.shop, run.open_days, models, new_only=new_only)
        cases.append(pages.drop("shown", "bought", "ranks").toPandas().assign(case=case))
    return pd.concat(cases)


def print_days(run: Run, tuning_days: list[int], seed: int, console: TextConsole) -> None:
    """Print the days of evaluation, tuning and training."""
    measured, tuned = (", ".join(f"{from_micros(day):%m-%d}" for day in days) for days in (run.days, tuning_days))
    shop = (Path(run.settings.folder).name, "bold")
    console.print("", line(shop, f": {len(run.days)} days, seed {seed}: {measured}"))
    console.print(f"peers tuned on {tuned}; meta-model trained on {len(run.training_days)} days before the window")


def print_case(
    case: str, by_policy: Mapping[str, pd.DataFrame], peers: list[str], seed: int, console: TextConsole
) -> None:
    """Print one row per policy, best first, with the meta-model's lead over it, and its leads over the best peers."""
    ours = by_policy[META]
    console.print("", f"{case}: {len(ours):,} pages of {ours['user_id'].nunique():,} users; lead: that of meta")
    print_policies(by_policy, seed, console)
    for metric in METRICS:
        best = max(peers, key=lambda policy, metric=metric: by_policy[policy][metric].mean())
        lead, theirs = difference(ours, by_policy[best], seed)[metric], by_policy[best][metric].mean()
        console.print(f"{metric}: meta - {best} = {signed(lead)}, {lead.value / theirs:+.1%}")


def print_cold_users(by_policy: Mapping[str, pd.DataFrame], seed: int, console: TextConsole) -> None:
    """Print the metrics of policies on the pages of users with fewer than COLD_EVENTS known events."""
    is_cold = by_policy[META]["known_events"] < COLD_EVENTS
    console.print("", f"users with fewer than {COLD_EVENTS} events: {is_cold.sum():,} pages")
    if is_cold.any():
        print_policies({policy: pages[is_cold] for policy, pages in by_policy.items()}, seed, console)


def print_policies(by_policy: Mapping[str, pd.DataFrame], seed: int, console: TextConsole) -> None:
    """Print metrics with half the width of their 95 % intervals, and the meta-model's lead with its paired interval."""
    table = TextTable("policy", *(column for metric in METRICS for column in (metric, "lead")), labels=1)
    for policy in sorted(by_policy, key=lambda policy: -by_policy[policy][METRICS[0]].mean()):
        found, leads = estimates(by_policy[policy], seed), difference(by_policy[META], by_policy[policy], seed)
        cells = []
        for metric in METRICS:
            value, low, high = found[metric]
            cells += [f"{value:.4f} ± {(high - low) / 2:.4f}", "" if policy == META else signed(leads[metric])]
        table.add_row(policy, *cells)
    console.print(table)


def signed(estimate: Estimate) -> str:
    """Return an estimate with its interval as text."""
    return f"{estimate.value:+.4f} ({estimate.low:+.4f} to {estimate.high:+.4f})"


def estimates(pages: pd.DataFrame, seed: int) -> dict[str, Estimate]:
    """Return the mean of each metric with its interval."""
    return bootstrap({name: pages[name].to_numpy() for name in METRICS}, pages["user_id"].to_numpy(), seed)


def difference(pages: pd.DataFrame, others: pd.DataFrame, seed: int) -> dict[str, Estimate]:
    """Return the paired difference of each metric between two policies on the same pages, in the same order."""
    values, other_values = ({name: rows[name].to_numpy() for name in METRICS} for rows in (pages, others))
    return paired_bootstrap(values, other_values, pages["user_id"].to_numpy(), seed)


if __name__ == "__main__":
    main()
