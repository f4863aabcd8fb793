"""Ranking quality on real purchases: the meta-model and its recommenders against popularity and `implicit`'s models.

    python -m benchmarks.quality [--shops online_retail complete_journey] [--days-sampled 12] [--seed 0]

All rank the same sales for the same users on the same days, in two cases: all open sales, and those that the user had
not bought before. Baselines are refitted for every day, as ours are; for each case, their settings are those of a grid
that were best on days before the window.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from benchmarks import machine
from benchmarks.quality_pages import CASES, baseline_pages, best_settings, whole_block
from jobs.backtest.backtest import window
from jobs.engine.run import Run, with_inputs
from jobs.night.train_meta_model import TRAIN_META_MODEL, read_trained_model
from recsys.config.settings import load_settings
from recsys.console import TextConsole, TextTable, line, wide_console
from recsys.instants import from_micros, parse_instant
from recsys.meta_model import META
from recsys.metrics import Estimate, bootstrap, paired_bootstrap
from recsys.pipeline.evaluation import page_metrics
from recsys.tables.night import USER_HISTORIES

WINDOWS = {"online_retail": ("2011-11-02", "2011-12-09"), "complete_journey": ("2017-11-26", "2018-01-01")}
METRICS = ("ndcg@10", "recall@10")
TUNING_DAYS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shops", nargs="+", choices=WINDOWS, default=list(WINDOWS))
    parser.add_argument("--days-sampled", type=int, default=12, help="number of days drawn from the window")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    console = wide_console()
    console.print(machine.describe())
    for shop in arguments.shops:
        settings = load_settings(Path(f"conf/{shop}.yaml"))
        first, last = (parse_instant(day) for day in WINDOWS[shop])
        compare(window(settings, first, last, arguments.days_sampled, arguments.seed), arguments.seed, console)


def compare(run: Run, seed: int, console: TextConsole) -> None:
    """Print for each case the metrics of every policy, and the meta-model's lead over the best baseline."""
    start = time.monotonic()
    run.do(with_inputs(TRAIN_META_MODEL))
    ours = our_pages(run)
    tuning_days = sorted(np.random.default_rng(seed).choice(run.training_days, TUNING_DAYS, replace=False).tolist())
    everyone = whole_block(run)
    with threadpool_limits(1, "blas"):  # `implicit` has threads of its own
        chosen = best_settings(run, everyone, tuning_days)
        theirs = baseline_pages(run, everyone, run.days, {each for best in chosen.values() for each in best})
    print_days(run, tuning_days, seed, console)
    for case, best in chosen.items():
        baselines = [str(each) for each in best]
        pages = pd.concat([ours, theirs[theirs["policy"].isin(baselines)]])
        print_case(case, pages[pages["case"] == case], baselines, seed, console)
    console.print(f"{time.monotonic() - start:.0f} s in total", "")


def our_pages(run: Run) -> pd.DataFrame:
    """Return the metrics of the meta-model and of each recommender alone, in the format of `baseline_pages`."""
    model, _ = read_trained_model(run)
    histories = USER_HISTORIES.read(run.spark, run.folder)
    return pd.concat(
        page_metrics(histories, run.shop, run.open_days, {META: model}, new_only=new_only).toPandas().assign(case=case)
        for case, new_only in CASES.items()
    )


def print_days(run: Run, tuning_days: list[int], seed: int, console: TextConsole) -> None:
    """Print the days of evaluation, tuning and training."""
    measured, tuned = (", ".join(f"{from_micros(day):%m-%d}" for day in days) for days in (run.days, tuning_days))
    shop = (Path(run.settings.folder).name, "bold")
    console.print("", line(shop, f": {len(run.days)} days, seed {seed}: {measured}"))
    console.print(f"baselines tuned on {tuned}; meta-model trained on {len(run.training_days)} days before the window")


def print_case(case: str, pages: pd.DataFrame, baselines: list[str], seed: int, console: TextConsole) -> None:
    """Print one row per policy, best first, and for each metric the meta-model's lead over the best baseline."""
    pages = pages.sort_values(["as_of", "user_id"])
    by_policy = {str(policy): rows for policy, rows in pages.groupby("policy", sort=False)}
    means = pages.groupby("policy")[list(METRICS)].mean()
    console.print("", f"{case}: {len(by_policy[META]):,} pages of {by_policy[META]['user_id'].nunique():,} users")
    table = TextTable("policy", *METRICS)
    for policy in means.sort_values("ndcg@10", ascending=False).index:
        found = estimates(by_policy[policy], seed)
        table.add_row(policy, *(f"{each.value:.4f} ± {(each.high - each.low) / 2:.4f}" for each in found.values()))
    console.print(table)
    for metric in METRICS:
        best = means.loc[baselines, metric].idxmax()
        lead = difference(by_policy[META], by_policy[best], seed)[metric]
        console.print(
            f"{metric}: meta - {best} = {lead.value:+.4f} ({lead.value / means.loc[best, metric]:+.1%}), "
            f"95 % interval {lead.low:+.4f} to {lead.high:+.4f}"
        )


def estimates(pages: pd.DataFrame, seed: int) -> dict[str, Estimate]:
    """Return the mean of each metric with its interval."""
    return bootstrap({name: pages[name].to_numpy() for name in METRICS}, pages["user_id"].to_numpy(), seed)


def difference(pages: pd.DataFrame, others: pd.DataFrame, seed: int) -> dict[str, Estimate]:
    """Return the paired difference of each metric between two policies on the same pages, in the same order."""
    values, other_values = ({name: rows[name].to_numpy() for name in METRICS} for rows in (pages, others))
    return paired_bootstrap(values, other_values, pages["user_id"].to_numpy(), seed)


if __name__ == "__main__":
    main()
