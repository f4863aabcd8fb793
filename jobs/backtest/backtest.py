"""The backtest: each past day is ranked by data known at its midnight, and measured by the purchases of that day."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import functions as f

from demo_shop.oracle import ORACLE, oracle
from jobs.backtest.measure_pages import (
    META_BOOSTED,
    META_WITHOUT,
    ORACLE_PAGES,
    WINDOW_EXAMPLES,
    Sample,
    knows_truth,
    read_costs,
    steps,
)
from jobs.backtest.measure_peers import PEER, PEER_PAGES, read_peers, require_implicit
from jobs.engine.run import Run, with_inputs
from jobs.night.train_meta_model import TRAIN_META_MODEL, read_trained_model
from jobs.registry import tracking
from recsys.backtest import slices
from recsys.backtest.ablation import ablation, learning_curve, learning_days, of_last_days
from recsys.backtest.best_part import against_best_part
from recsys.backtest.calibration import calibration, predicted_purchases
from recsys.backtest.coefficients import coefficients
from recsys.backtest.examples import example_pages, examples, named_sales
from recsys.backtest.pages import Pages
from recsys.backtest.policies import differences, paired_ndcg, summaries, variety
from recsys.config.settings import Settings
from recsys.errors import ConfigurationError, EmptyInputError, ModelError
from recsys.images.settings import TaxonomyTaggerSettings
from recsys.images.tagging.files import PhotoFiles
from recsys.instants import DAY, MINUTE, compact, from_micros, midnights
from recsys.meta_model import META, MetaModel, policy_of
from recsys.meta_model.training import Examples, evaluate
from recsys.metrics import NDCG
from recsys.pipeline.evaluation import LIVE, most_pages
from recsys.pipeline.example_arrays import examples_of, pages_of, read_examples
from recsys.recommenders.further import words_of
from recsys.registry.versions import CHALLENGER, CHAMPION, pairs
from recsys.reports.backtest.writer import write_report
from recsys.settings import digest
from recsys.shop.histories import Block
from recsys.snapshot.format import POPULARITY
from recsys.tables.event_parts import parts_of_days
from recsys.tables.night import EVENTS, KNOWN_USERS, PAGE_METRICS, USER_HISTORIES
from recsys.wording import plural

BACKTESTS = "backtests"
"""Subfolder of the shop's folder with the tables of backtests, and of the disk's folder with their reports."""
REPORT = "report.html"
MOST_PAGES = 200_000
"""Number of pages that a backtest measures unless it is told the share of users: some 10 kB of memory for each."""

_log = logging.getLogger(__name__)


def backtest(
    run: Run,
    users_sampled: float | None = None,
    seed: int = 0,
    versions: list[str] | None = None,
    new_only: bool = False,
    without_taggers: Sequence[str] = (),
    lag: int | None = None,
    with_peers: bool = False,
) -> dict[str, Any]:
    """Measure the meta-model, registered versions of it, and each recommender alone on the days of the run.

    Args:
        run: From `window`.
        users_sampled: Share of the users sampled on each day, in (0, 1]; by default all, or as many as have at most
            MOST_PAGES pages.
        seed: Seed of that sample, of the bootstrap and of the example pages.
        versions: Registered versions or their aliases; by default champion and challenger if their data ends before
            the window.
        new_only: Leave out repeat purchases: sales that a user bought before are neither ranked nor relevant.
        without_taggers: Names or taxonomies of taggers of the shop: for each, a meta-model is also trained and measured
            without the themes and attributes that come of its tags, as policy `meta_without_tagger_<name>`.
        lag: Also rank each page by what all users did up to this long before it, microseconds, as policies
            `live_meta` and `live_popularity`; see `page_metrics`.
        with_peers: Also measure what one could pick instead, as policies `peer_<name>`; see `measure_peers`.

    Returns:
        Plain JSON. "window" describes the backtest; "policies" has the metrics of each policy, with an estimate as
        {"value", "low", "high"}: also coverage, gini, novelty in bits and number of users, and for `meta` auc,
        log_loss and calibration on all sales open at a purchase. "differences" has the differences of selected pairs
        in each metric, in a shop with photos including `meta - meta_without_images`; "paired_ndcg@10" those of all
        pairs of policies; "peers" the settings of each peer; "best_part" compares `meta` with its best single
        recommender, by case. For explanation: "oracle" on a generated shop, "ablation", "learning_curve", "slices" with
        their "slice_metrics", "calibration", "coefficients", "training", "examples" and their "sales"; see
        `recsys/backtest`.

    Raises:
        ConfigurationError: If a lag is given, and the events tell days only; or peers cannot be fitted here.
        EmptyInputError: If there is no purchase of an open sale in the window.
        ModelError: If a given version does not exist, or its data does not end before the window.
    """
    if with_peers:
        require_implicit()  # before minutes of work
    first, last = from_micros(run.days[0]), from_micros(run.days[-1])
    _log.info(f"Backtest of {plural(len(run.days), 'day')}, {first:%Y-%m-%d} to {last:%Y-%m-%d}, in {run.folder}")
    further = _measurable_versions(run, versions)
    others = {name: _run_without(run, name) for name in without_taggers}
    run.do(with_inputs(TRAIN_META_MODEL))
    share = _share_within(run, MOST_PAGES) if users_sampled is None else users_sampled
    sample = Sample(share, seed, new_only)
    run.do(steps(run, sample, further, lag, with_peers))
    rows = PAGE_METRICS.read(run.spark, run.outputs).toArrow()
    if not len(rows):
        raise EmptyInputError(
            f"no purchase of an open sale from {first:%Y-%m-%d} to {last:%Y-%m-%d}: choose other days"
        )
    further_rows = [_meta_pages_without(name, other, sample).cast(rows.schema) for name, other in others.items()]
    if with_peers:
        further_rows.append(_peer_pages(run).cast(rows.schema))
    rows = pa.concat_tables([rows, *further_rows])
    result = _build_result(run, Pages.from_table(rows, run.shop.catalogue), sample, further, lag)
    if with_peers:
        result["peers"] = read_peers(run)
    report = report_of(run)
    write_report(result, report, PhotoFiles.of(run.settings.images))
    run_id = tracking.log_backtest(run.settings, result, report)
    _log.info(f"Report: {report}; stored in MLflow as run {run_id}")
    return result


def report_of(run: Run) -> Path:
    """Return the file of a backtest's report, on this machine's disk: a person opens it in a browser."""
    return run.settings.own_disk / BACKTESTS / run.folder.name / REPORT


def _share_within(run: Run, pages: int) -> float:
    """Return the share of the users whose pages of the window are about as many as given, at most 1."""
    if EVENTS.rows(run.outputs) <= pages:
        return 1.0
    days = parts_of_days(run.outputs / EVENTS.name, run.open_days)
    most = most_pages(EVENTS.read(run.spark, run.outputs, days), run.open_days)
    if most > pages:
        _log.info(f"  a sample of {pages / most:.2%} of the users is measured: they have up to {most:,} pages")
    return min(1.0, pages / max(most, 1))


def _build_result(run: Run, pages: Pages, sample: Sample, further: list[str], lag: int | None) -> dict[str, Any]:
    model, version = read_trained_model(run)
    registered = [policy_of(each) for each in further]
    reduced = [policy for policy in pages.by_policy if policy.startswith(META_WITHOUT)]
    live = [policy for policy in pages.by_policy if policy.startswith(LIVE)]
    mixes = (META, *live, *reduced, META_BOOSTED, *registered)
    peers = [policy for policy in pages.by_policy if policy.startswith(PEER)]
    shown = [each for each in (*mixes, *model.features, *peers) if each in pages.by_policy and pages.has_order(each)]
    measured, shifts = _window_examples(run, sample.new_only, pages)
    catalogue, seed = run.shop.catalogue, sample.seed
    predicted = predicted_purchases(pages.by_policy[META])
    probabilities = evaluate(model, measured, shifts) | {"calibration": predicted["all"] / predicted["all_made"]}
    versions_of = {META: version, **dict(zip(registered, further, strict=True))}
    cut = slices.slices(pages, shown, catalogue, seed)
    return {
        "window": _describe_window(run, pages, sample)
        | {"versions": versions_of, "lag_minutes": None if lag is None else lag / MINUTE},
        "policies": _metrics_by_policy(run, pages, shown, seed, probabilities),
        "differences": differences(pages, _compared_pairs(shown, registered), seed),
        f"paired_{NDCG}": paired_ndcg(pages, shown, seed),
        "best_part": against_best_part(pages, META, [each for each in shown if each in model.features], seed),
        **_oracle_result(run, pages, seed),
        **_compare_variants(run, pages, model, seed),
        "slices": cut,
        "slice_metrics": {title: slices.SLICE_METRICS[title] for title in cut},
        "calibration": calibration(model, measured, shifts),
        "predicted": predicted,
        "coefficients": coefficients(model, words_of(run.settings.recommenders.further)),
        **_draw_examples(run, pages, seed),
    }


def _run_without(run: Run, name: str) -> Run:
    """Return the run of the same window without a tagger.

    Raises:
        ConfigurationError: If the shop has no such tagger, or no other.
    """
    taggers = run.settings.images.taggers
    names = [each.taxonomy if isinstance(each, TaxonomyTaggerSettings) else each.name for each in taggers]
    if name not in names or len(names) == 1:
        which = "the shop has no other tagger" if name in names else f"must be one of {', '.join(names)}"
        raise ConfigurationError(f"--without-tagger == '{name}', {which}: see images.taggers")
    rest = tuple(each for each, of in zip(taggers, names, strict=True) if of != name)
    images = run.settings.images.model_copy(update={"taggers": rest})
    settings = run.settings.model_copy(update={"images": images})
    return replace(run, settings=settings, folder=run.folder / f"without_{name}", pinned=dict(run.pinned))


def _meta_pages_without(name: str, run: Run, sample: Sample) -> pa.Table:
    """Return the pages of the meta-model of another run, under a name of their own."""
    _log.info(f"The same days without tagger {name}, in {run.folder}")
    run.do((*with_inputs(TRAIN_META_MODEL), *steps(run, sample, [])))
    rows = PAGE_METRICS.read(run.spark, run.outputs).where(f.col("policy") == META)
    return rows.withColumn("policy", f.lit(f"{META_WITHOUT}tagger_{name}")).toArrow()


def _peer_pages(run: Run) -> pa.Table:
    """Return the pages of the peers that the other policies are measured on too, of which some may be sampled."""
    pages, key = PAGE_METRICS.read(run.spark, run.outputs), ["as_of", "user_id"]
    measured = pages.where(f.col("policy") == META).select(*key)
    return PEER_PAGES.read(run.spark, run.outputs).join(measured, key, "left_semi").select(*pages.columns).toArrow()


def _describe_window(run: Run, pages: Pages, sample: Sample) -> dict[str, Any]:
    first, last = from_micros(run.days[0]), from_micros(run.days[-1])
    _, version = read_trained_model(run)
    return {
        "from": f"{first:%Y-%m-%d}",
        "to": f"{last:%Y-%m-%d}",
        "days": len(run.days),
        "model": f"{run.settings.mlflow.model_name} version {version}",
        "trained_on": f"{len(run.training_days)} days before {first:%Y-%m-%d}",
        "note": run.settings.note,
        "pages": len(pages),
        "users_sampled": sample.users,
        "seed": sample.seed,
        "new_only": sample.new_only,
    }


def _metrics_by_policy(
    run: Run, pages: Pages, shown: list[str], seed: int, probabilities: dict[str, float]
) -> dict[str, dict[str, Any]]:
    known = KNOWN_USERS.read(run.spark, run.outputs).toArrow()
    n_users = USER_HISTORIES.rows(run.outputs)
    found, varieties = summaries(pages, shown, seed), variety(pages, shown, run.shop.catalogue, known, n_users)
    return {policy: found[policy] | varieties[policy] | (probabilities if policy == META else {}) for policy in shown}


def _compared_pairs(shown: list[str], registered: list[str]) -> list[tuple[str, str]]:
    """Return the pairs to compare: live pages with those of midnight, the meta-model with its variants and versions,
    and the versions with each other."""
    live = [(LIVE + policy, policy) for policy in (META, POPULARITY) if LIVE + policy in shown]
    others = [each for each in shown if each.startswith((META_WITHOUT, PEER)) or each == META_BOOSTED]
    versions = [(later, earlier) for earlier, later in pairs(registered).values()]
    return [*live, *((META, other) for other in (*others, *registered)), *versions]


def _oracle_result(run: Run, pages: Pages, seed: int) -> dict[str, Any]:
    if not knows_truth(run):
        return {}
    best = Pages.from_table(ORACLE_PAGES.read(run.spark, run.outputs).toArrow(), run.shop.catalogue)
    found = oracle(pages, best, seed)
    return {ORACLE: found} if found else {}


def _compare_variants(run: Run, pages: Pages, model: MetaModel, seed: int) -> dict[str, Any]:
    """Return the results of the models that were trained only for this backtest."""
    costs, n_days = read_costs(run), len(run.open_training_days)
    curve = [(of_last_days(days), days) for days in learning_days(n_days) if of_last_days(days) in costs]
    compared = {META: costs[of_last_days(n_days)], META_BOOSTED: costs[META_BOOSTED]}
    return {
        "ablation": ablation(pages, model.features, seed),
        "learning_curve": learning_curve(
            pages, [(policy, days, costs[policy].examples) for policy, days in curve], seed
        ),
        "training": {policy: {"seconds": cost.seconds, "examples": cost.examples} for policy, cost in compared.items()},
        "scoring": {policy: cost.microseconds_per_score * 1000 for policy, cost in compared.items()},
    }


def _window_examples(run: Run, new_only: bool, pages: Pages) -> tuple[Examples, NDArray[np.float64]]:
    """Return the examples of the measured pages, and what is added to the log-odds of each: the shift of its page."""
    table, key = read_examples(run.outputs / WINDOW_EXAMPLES.name), ["as_of", "user_id"]
    examples, of_page = examples_of(table), pages_of(table).to_pandas().astype({"user_id": "str"})
    known = pages.by_policy[META][[*key, "shift"]]
    shifts = of_page.merge(known, how="left", on=key)["shift"].to_numpy()[examples.page]
    chosen = np.isfinite(shifts) & ~(examples.repeat if new_only else np.zeros(len(shifts), bool))
    return examples.where(chosen), shifts[chosen]


def _draw_examples(run: Run, pages: Pages, seed: int) -> dict[str, Any]:
    drawn, catalogue = example_pages(pages, seed), run.shop.catalogue
    found = examples(drawn, pages, _read_histories(run, drawn), catalogue, run.settings.history) if len(drawn) else []
    return {"examples": found, "sales": named_sales(found, catalogue)}


def _read_histories(run: Run, drawn: pd.DataFrame) -> Block:
    """Return the histories of the users of the drawn pages."""
    histories = USER_HISTORIES.read(run.spark, run.outputs)
    table = histories.where(f.col("user_id").isin(drawn["user_id"].to_list())).toArrow()
    return Block.from_batch(table.combine_chunks().to_batches()[0], len(run.shop.catalogue))


def window(settings: Settings, first: int, last: int, days_sampled: int | None = None, seed: int = 0) -> Run:
    """Return the run of a backtest.

    Args:
        settings: The shop.
        first: Midnight at the start of the first day, microseconds UTC.
        last: Midnight at the start of the last day, microseconds UTC.
        days_sampled: Number of days of the window to sample; all days by default.
        seed: Seed of that sample.

    Raises:
        ConfigurationError: If the window ends before it starts, or has fewer days than `days_sampled`.
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
    return Run(settings, settings.place / BACKTESTS / name, last + DAY, training_days, days)


def _measurable_versions(run: Run, asked: list[str] | None) -> list[str]:
    """Return the numbers of the versions whose data ends before the window.

    Raises:
        ModelError: If that is not true of a version that was asked for.
    """
    wanted = [CHAMPION, CHALLENGER] if asked is None else asked
    known = {each.version: each.as_of for each in tracking.versions(run.settings)}
    found: list[str] = []
    for name in wanted:
        if asked is None and tracking.alias(run.settings, name) is None:
            continue
        version = tracking.version_of(run.settings, name)
        problem = _why_not_measurable(version, known[version], run.days[0])
        if problem and asked is not None:
            raise ModelError(problem)
        if problem:
            _log.warning(f"    left out, {name}: {problem}")
        elif version not in found:
            found.append(version)
    return found


def _why_not_measurable(version: str, as_of: int | None, first_day: int) -> str | None:
    """Return why a version cannot be measured on a window; None if it can."""
    if as_of is None:
        return f"version {version} has no as_of, must have one to be measured: train it again with 'recsys nightly'"
    if as_of <= first_day:
        return None
    return (
        f"version {version} has as_of {from_micros(as_of):%Y-%m-%d %H:%M} UTC, must be at most the window's first day, "
        f"{from_micros(first_day):%Y-%m-%d}: it has seen the answers; choose a later --from"
    )
