"""What a night must hold to before it publishes."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as f

from recsys.config.pipeline import NightCheckSettings
from recsys.meta_model import MetaModel
from recsys.meta_model.training import Examples
from recsys.pipeline.night_values import NightValues

_FEWEST_NIGHTS = 3
"""A mean over fewer nights is no measure of what is usual."""
_FEW_REJECTED = 0.001
"""Where fewer rows were rejected, a few more are no change."""


def rejected_share(counts: Iterable[Mapping[str, Any]]) -> float:
    """Return the share of all rows of the source's tables that were set aside.

    Args:
        counts: As in `rule_counts.json`.
    """
    counts = list(counts)
    rows = {count["table"]: count["rows"] for count in counts}
    aside = sum(count["broken"] for count in counts if count["rule"]["action"] == "set aside")
    return aside / max(sum(rows.values()), 1)


def feature_drift(model: MetaModel, examples: Examples) -> dict[str, float]:
    """Return how far the mean of each feature is from that in training, in standard deviations there.

    Args:
        model: Features that count nothing in it are left out.
        examples: Drawn as those that it was trained on.
    """
    if not len(examples.bought):
        return {}
    means = dict(zip(examples.names, examples.features.mean(axis=0, dtype=np.float64), strict=True))
    trained = zip(model.features, model.means, model.scales, strict=True)
    return {name: float((means[name] - mean) / scale) for name, mean, scale in trained if model.strengths[name]}


def sales_covered(rankings: DataFrame, policy: str, n_sales: int) -> float:
    """Return the share of the horizon's sales that are in some user's ranking.

    Args:
        rankings: Table `rankings`.
        policy: Whose rankings are looked at.
        n_sales: In the horizon. Where rankings have room for fewer, the share of those that there is room for.
    """
    sales = f.explode(f"{policy}_sales").alias("sale")
    shown, room = rankings.select(sales).agg(f.countDistinct("sale"), f.count("sale")).collect()[0]
    return shown / max(min(n_sales, room), 1)


def problems(tonight: NightValues, earlier: Sequence[NightValues], settings: NightCheckSettings) -> tuple[str, ...]:
    """Say which checks a night does not hold to: value, rule and what to do.

    Args:
        tonight: What was measured.
        earlier: The nights before, the latest last; those that were not published count for nothing.
        settings: The limits.
    """
    published = [night for night in earlier if not night.problems][-settings.nights :]
    found = (
        _rejected(tonight, published, settings),
        _drifted(tonight, settings),
        _covered(tonight, settings),
        _fewer_users(tonight, published, settings),
        _worse_than_usual(tonight, published, settings),
    )
    return tuple(problem for problem in found if problem)


def _rejected(tonight: NightValues, published: Sequence[NightValues], settings: NightCheckSettings) -> str | None:
    if len(published) < _FEWEST_NIGHTS:
        return None
    usual = max(float(np.mean([night.rejected_share for night in published])), _FEW_REJECTED)
    share, times = tonight.rejected_share, settings.max_rejected_times
    if share <= times * usual:
        return None
    return (
        f"share of rejected rows == {share:.2%}, must be at most {times:g} times {usual:.2%}, the mean of the last "
        f"{len(published)} nights (night_checks.max_rejected_times): 'recsys validate' shows them"
    )


def _drifted(tonight: NightValues, settings: NightCheckSettings) -> str | None:
    (feature, drift), limit = tonight.worst_drift, settings.max_feature_drift
    if tonight.purchases < settings.min_cases or abs(drift) <= limit:
        return None
    return (
        f"mean of feature {feature} == {drift:+.2f} standard deviations from the training of version "
        f"{tonight.version}, must be within {limit:g} (night_checks.max_feature_drift): look for a change of the "
        "source, or promote a version of 'recsys nightly --train'"
    )


def _covered(tonight: NightValues, settings: NightCheckSettings) -> str | None:
    share, limit = tonight.sales_covered, settings.min_sales_covered
    if tonight.users < settings.min_cases or share >= limit:
        return None
    return (
        f"share of sales in any user's ranking == {share:.2%}, must be at least {limit:.2%} "
        "(night_checks.min_sales_covered): 'recsys models rollback' takes the champion before"
    )


def _fewer_users(tonight: NightValues, published: Sequence[NightValues], settings: NightCheckSettings) -> str | None:
    before, limit = published[-1].users if published else 0, settings.min_users_share
    if before < settings.min_cases or tonight.users >= limit * before:
        return None
    return (
        f"users ranked == {tonight.users:,}, {tonight.users / before:.2%} of the night before, must be at least "
        f"{limit:.2%} (night_checks.min_users_share): look for missing events"
    )


def _worse_than_usual(
    tonight: NightValues, published: Sequence[NightValues], settings: NightCheckSettings
) -> str | None:
    usual = [night.ndcg for night in published if night.ndcg is not None and night.pages >= settings.min_cases]
    if tonight.ndcg is None or tonight.pages < settings.min_cases or len(usual) < _FEWEST_NIGHTS:
        return None
    mean, limit = float(np.mean(usual)), settings.min_ndcg_share
    if tonight.ndcg >= limit * mean:
        return None
    return (
        f"ndcg@10 of yesterday == {tonight.ndcg:.4f}, must be at least {limit:.2%} of {mean:.4f}, the mean of the last "
        f"{len(usual)} nights (night_checks.min_ndcg_share): 'recsys models drift' shows them"
    )
