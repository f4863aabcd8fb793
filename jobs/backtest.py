"""The backtest: each past day ranked by what was known at its midnight, and measured by what was bought on it."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jobs import tracking
from jobs.fit_recommenders import FIT_RECOMMENDERS
from jobs.run import Run, Step, digest, with_inputs
from jobs.train_meta_model import TRAIN_META_MODEL, examples_of, read_model
from recsys.config import Settings
from recsys.errors import ConfigurationError, EmptyInputError
from recsys.instants import DAY, compact, from_micros, midnights
from recsys.meta_model import META, MetaModel
from recsys.meta_training import evaluate, train
from recsys.metrics import RANKING_METRICS, bootstrap, paired_bootstrap
from recsys.pipeline.evaluation import page_metrics
from recsys.pipeline.examples import training_examples
from recsys.recommenders.content import IMAGES
from recsys.tables import PAGE_METRICS, TRAINING_EXAMPLES, USER_HISTORIES, Table

META_WITHOUT_IMAGES = "meta_without_images"
WINDOW_EXAMPLES = Table("window_examples", TRAINING_EXAMPLES.grain, TRAINING_EXAMPLES.columns, open_ended=True)


def backtest(run: Run, users_sampled: float = 1.0, seed: int = 0) -> dict[str, Any]:
    """Measure the meta-model and each recommender alone on the run's days.

    Returns:
        {"window": {...}, "policies": {policy: {metric: {"value", "low", "high"}, ..., "users": N}}}, for `meta`
        also auc, log_loss and calibration on all sales open at a purchase; and "differences" of two policies on the
        same pages, {metric: {"value", "low", "high"}}. A shop with photos has a policy `meta_without_images`, trained
        on the same examples.

    Raises:
        EmptyInputError: If nobody bought anything in the window.
    """
    first, last = from_micros(run.days[0]), from_micros(run.days[-1])
    run.console.print(f"Backtest of {len(run.days)} days, {first:%Y-%m-%d} to {last:%Y-%m-%d}, in {run.folder}")
    run.do((*with_inputs(_measure_pages(users_sampled, seed)), BUILD_WINDOW_EXAMPLES))
    pages = PAGE_METRICS.read(run.spark, run.folder).orderBy("policy", "as_of", "user_id").toPandas()
    if pages.empty:
        raise EmptyInputError(
            f"no purchase of an open sale from {first:%Y-%m-%d} to {last:%Y-%m-%d}: choose other days"
        )
    policies = {policy: _summary(rows, seed) for policy, rows in pages.groupby("policy", sort=False)}
    model, version = read_model(run)
    differences = {}
    if META_WITHOUT_IMAGES in policies:
        differences[f"{META} - {META_WITHOUT_IMAGES}"] = _difference(pages, META, META_WITHOUT_IMAGES, seed)
    policies[META] |= evaluate(model, examples_of(WINDOW_EXAMPLES.read(run.spark, run.folder)))
    result = {
        "window": {
            "from": f"{first:%Y-%m-%d}",
            "to": f"{last:%Y-%m-%d}",
            "days": len(run.days),
            "pages": len(pages) // len(policies),
            "users_sampled": users_sampled,
            "seed": seed,
            "model": f"{run.settings.mlflow.model_name} version {version}",
            "trained_on": f"{len(run.training_days)} days before {first:%Y-%m-%d}",
            "note": run.settings.note,
        },
        "policies": {
            policy: policies[policy] for policy in [META, META_WITHOUT_IMAGES, *model.features] if policy in policies
        },
        "differences": differences,
    }
    tracking.log_backtest(run.settings, result)
    return result


def window(settings: Settings, first: int, last: int, days_sampled: int | None = None, seed: int = 0) -> Run:
    """Return the run of a backtest.

    Args:
        settings: The shop.
        first: Midnight that starts the first day.
        last: Midnight that starts the last day.
        days_sampled: Look at so many days of the window, drawn by the seed; all by default.
        seed: Seed of that draw.

    Raises:
        ConfigurationError: If the window ends before it starts, or has fewer days than are to be drawn.
    """
    if last < first:
        raise ConfigurationError(f"--to {from_micros(last):%Y-%m-%d} is before --from {from_micros(first):%Y-%m-%d}")
    days = midnights(first, last)
    if days_sampled is not None:
        if not 1 <= days_sampled <= len(days):
            raise ConfigurationError(
                f"--days-sampled == {days_sampled}, must be in 1..{len(days)}, the days of the window"
            )
        days = sorted(int(day) for day in np.random.default_rng(seed).choice(days, days_sampled, replace=False))
    training_days = [first - day * DAY for day in range(settings.meta_model.days, 0, -1)]
    name = f"{compact(first)[:8]}-{compact(last)[:8]}" + (f"-{digest(days)[:8]}" if days_sampled else "")
    return Run(settings, Path(settings.folder) / "backtests" / name, last + DAY, training_days, days)


def _summary(pages: pd.DataFrame, seed: int) -> dict[str, Any]:
    values = {name: pages[name].to_numpy() for name in RANKING_METRICS}
    estimates = bootstrap(values, pages["user_id"].to_numpy(), seed)
    return {name: estimate._asdict() for name, estimate in estimates.items()} | {
        "users": int(pages["user_id"].nunique())
    }


def _difference(pages: pd.DataFrame, policy: str, other: str, seed: int) -> dict[str, Any]:
    """Return by how much a policy is better than another on the same pages."""
    first, second = (pages[pages["policy"] == name] for name in (policy, other))  # both ordered by as_of and user
    values, others = ({name: rows[name].to_numpy() for name in RANKING_METRICS} for rows in (first, second))
    estimates = paired_bootstrap(values, others, first["user_id"].to_numpy(), seed)
    return {name: estimate._asdict() for name, estimate in estimates.items()}


def _meta_models(run: Run) -> dict[str, MetaModel]:
    """Return the run's meta-model and, where it has images, one without them, trained on the same examples."""
    model, _ = read_model(run)
    if IMAGES not in model.features:
        return {META: model}
    examples = examples_of(TRAINING_EXAMPLES.read(run.spark, run.folder)).without(IMAGES)
    return {META: model, META_WITHOUT_IMAGES: train(examples, run.settings.meta_model)}


def _measure_pages(users_sampled: float, seed: int) -> Step:
    def measure_pages(run: Run, out: Path) -> str:
        """Rank the pages of the window by each policy."""
        histories = USER_HISTORIES.read(run.spark, run.folder)
        PAGE_METRICS.write(
            page_metrics(histories, run.shop, run.open_days, _meta_models(run), users_sampled, seed), out
        )
        pages = PAGE_METRICS.read(run.spark, out)
        return f"{pages.where(pages['policy'] == META).count():,} pages"

    return Step(
        "measure_pages",
        measure_pages,
        (PAGE_METRICS.name,),
        inputs=(TRAIN_META_MODEL,),
        depends_on=lambda run: [run.days, users_sampled, seed],
    )


def _build_window_examples(run: Run, out: Path) -> str:
    histories = USER_HISTORIES.read(run.spark, run.folder)
    WINDOW_EXAMPLES.write(training_examples(histories, run.shop, run.open_days, run.settings.meta_model), out)
    return f"{WINDOW_EXAMPLES.read(run.spark, out).count():,} examples, to measure probabilities on"


BUILD_WINDOW_EXAMPLES = Step(
    "build_window_examples",
    _build_window_examples,
    (WINDOW_EXAMPLES.name,),
    inputs=(FIT_RECOMMENDERS,),
    depends_on=lambda run: run.settings.meta_model,
)
