"""The backtest: each past day ranked by what was known at its midnight, and measured by what was bought on it."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jobs import tracking
from jobs.fit_recommenders import FIT_RECOMMENDERS
from jobs.run import Run, Step, digest, with_inputs
from jobs.train_meta_model import TRAIN_META_MODEL, as_the_shop_is_now, examples_of, read_trained_model
from recsys.config import Settings
from recsys.errors import ConfigurationError, EmptyInputError, ModelError
from recsys.instants import DAY, compact, from_micros, midnights
from recsys.meta_model import META, MetaModel, policy_of
from recsys.meta_model.training import evaluate, train
from recsys.metrics import RANKING_METRICS, bootstrap, paired_bootstrap
from recsys.model_versions import CHALLENGER, CHAMPION, NDCG, pairs
from recsys.pipeline.evaluation import page_metrics
from recsys.pipeline.examples import training_examples
from recsys.recommenders.content import IMAGES
from recsys.tables import PAGE_METRICS, TRAINING_EXAMPLES, USER_HISTORIES, Table

META_WITHOUT_IMAGES = "meta_without_images"
WINDOW_EXAMPLES = Table("window_examples", TRAINING_EXAMPLES.grain, TRAINING_EXAMPLES.columns, open_ended=True)


def backtest(run: Run, users_sampled: float = 1.0, seed: int = 0, versions: list[str] | None = None) -> dict[str, Any]:
    """Measure the meta-model, registered versions of it, and each recommender alone on the run's days.

    Args:
        run: From `window`.
        users_sampled: Share of the users looked at on each day, in (0, 1].
        seed: Seed of that sample and of the intervals.
        versions: Registered versions or their aliases; by default champion and challenger, where they know nothing of
            the window.

    Returns:
        {"window": {...}, "policies": {policy: {metric: {"value", "low", "high"}, ..., "users": N}}}, for `meta`
        also auc, log_loss and calibration on all sales open at a purchase; and "differences" of two policies on the
        same pages, {metric: {"value", "low", "high"}}. A shop with photos has a policy `meta_without_images`, trained
        on the same examples. "paired_ndcg@10" has the difference of every two policies, and the window's "versions"
        those that policies rank by.

    Raises:
        EmptyInputError: If nobody bought anything in the window.
        ModelError: If a version that is asked for is not there, or knows the window.
    """
    first, last = from_micros(run.days[0]), from_micros(run.days[-1])
    run.console.print(f"Backtest of {len(run.days)} days, {first:%Y-%m-%d} to {last:%Y-%m-%d}, in {run.folder}")
    further = _versions(run, versions)
    run.do((*with_inputs(_measure_pages(users_sampled, seed, further)), BUILD_WINDOW_EXAMPLES))
    pages = PAGE_METRICS.read(run.spark, run.folder).orderBy("policy", "as_of", "user_id").toPandas()
    if pages.empty:
        raise EmptyInputError(
            f"no purchase of an open sale from {first:%Y-%m-%d} to {last:%Y-%m-%d}: choose other days"
        )
    policies = {policy: _summary(rows, seed) for policy, rows in pages.groupby("policy", sort=False)}
    model, version = read_trained_model(run)
    policies[META] |= evaluate(model, examples_of(WINDOW_EXAMPLES.read(run.spark, run.folder)))
    registered = [policy_of(each) for each in further]
    shown = [each for each in (META, META_WITHOUT_IMAGES, *registered, *model.features) if each in policies]
    versions_of = {META: version, **dict(zip(registered, further, strict=True))}
    sample = {"pages": len(pages) // len(policies), "users_sampled": users_sampled, "seed": seed}
    result = {
        "window": _window(run) | sample | {"versions": versions_of},
        "policies": {policy: policies[policy] for policy in shown},
        "differences": _differences(pages, registered, seed),
        f"paired_{NDCG}": _paired_ndcg(pages, shown, seed),
    }
    tracking.log_backtest(run.settings, result)
    return result


def _window(run: Run) -> dict[str, Any]:
    first, last = from_micros(run.days[0]), from_micros(run.days[-1])
    _, version = read_trained_model(run)
    return {
        "from": f"{first:%Y-%m-%d}",
        "to": f"{last:%Y-%m-%d}",
        "days": len(run.days),
        "model": f"{run.settings.mlflow.model_name} version {version}",
        "trained_on": f"{len(run.training_days)} days before {first:%Y-%m-%d}",
        "note": run.settings.note,
    }


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


def _differences(pages: pd.DataFrame, registered: list[str], seed: int) -> dict[str, Any]:
    """Return by how much the meta-model is better than without images and than versions, and one version than another.

    Args:
        pages: Table `page_metrics`.
        registered: Policies of registered versions; by default the champion's and the challenger's.
        seed: Of the intervals.
    """
    others = [META_WITHOUT_IMAGES] if META_WITHOUT_IMAGES in set(pages["policy"]) else []
    compared = [(META, other) for other in (*others, *registered)]
    compared += [(later, earlier) for earlier, later in pairs(registered).values()]
    return {f"{one} - {other}": _difference(pages, one, other, seed) for one, other in compared}


def _difference(pages: pd.DataFrame, policy: str, other: str, seed: int) -> dict[str, Any]:
    """Return by how much a policy is better than another on the same pages."""
    first, second = (pages[pages["policy"] == name] for name in (policy, other))  # both ordered by as_of and user
    values, others = ({name: rows[name].to_numpy() for name in RANKING_METRICS} for rows in (first, second))
    estimates = paired_bootstrap(values, others, first["user_id"].to_numpy(), seed)
    return {name: estimate._asdict() for name, estimate in estimates.items()}


def _paired_ndcg(pages: pd.DataFrame, policies: list[str], seed: int) -> dict[str, Any]:
    """Return by how much each policy is better than each one after it on the same pages."""
    ndcg = {policy: pages.loc[pages["policy"] == policy, NDCG].to_numpy() for policy in policies}
    users = pages.loc[pages["policy"] == policies[0], "user_id"].to_numpy()
    differences = {name: ndcg[one] - ndcg[other] for name, (one, other) in pairs(policies).items()}
    return {name: estimate._asdict() for name, estimate in bootstrap(differences, users, seed).items()}


def _versions(run: Run, asked: list[str] | None) -> list[str]:
    """Return the registered versions that know nothing of the window; those that are asked for must not."""
    wanted = [CHAMPION, CHALLENGER] if asked is None else asked
    known = {each.version: each.as_of for each in tracking.versions(run.settings)}
    found: list[str] = []
    for name in wanted:
        if asked is None and tracking.alias(run.settings, name) is None:
            continue
        version = tracking.version_of(run.settings, name)
        problem = _why_not(version, known[version], run.days[0])
        if problem and asked is not None:
            raise ModelError(problem)
        if problem:
            run.console.print(f"    left out, {name}: {problem}", style="yellow", markup=False)
        elif version not in found:
            found.append(version)
    return found


def _why_not(version: str, as_of: int | None, first_day: int) -> str | None:
    """Say why a version cannot be measured on a window, if it cannot."""
    if as_of is None:
        return f"version {version} has no as_of, must have one to be measured: train it again with 'recsys nightly'"
    if as_of <= first_day:
        return None
    return (
        f"version {version} has as_of {from_micros(as_of):%Y-%m-%d %H:%M} UTC, must be at most the window's first day, "
        f"{from_micros(first_day):%Y-%m-%d}: it has seen the answers; choose a later --from"
    )


def _meta_models(run: Run, versions: list[str]) -> dict[str, MetaModel]:
    """Return the run's own meta-model, where it has images one without them, and the registered versions."""
    model, _ = read_trained_model(run)
    models = {META: model}
    if IMAGES in model.features:
        examples = examples_of(TRAINING_EXAMPLES.read(run.spark, run.folder)).without(IMAGES)
        models[META_WITHOUT_IMAGES] = train(examples, run.settings.meta_model)
    for version in versions:
        registered = tracking.read_version(run.settings, version)
        models[policy_of(version)] = as_the_shop_is_now(run, registered, f"version {version}")
    return models


def _measure_pages(users_sampled: float, seed: int, versions: list[str]) -> Step:
    def measure_pages(run: Run, out: Path) -> str:
        """Rank the pages of the window by each policy."""
        histories = USER_HISTORIES.read(run.spark, run.folder)
        PAGE_METRICS.write(
            page_metrics(histories, run.shop, run.open_days, _meta_models(run, versions), users_sampled, seed), out
        )
        pages = PAGE_METRICS.read(run.spark, out)
        return f"{pages.where(pages['policy'] == META).count():,} pages"

    return Step(
        "measure_pages",
        measure_pages,
        (PAGE_METRICS.name,),
        inputs=(TRAIN_META_MODEL,),
        depends_on=lambda run: [run.days, users_sampled, seed, versions],
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
