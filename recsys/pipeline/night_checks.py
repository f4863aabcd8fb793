"""The checks of a night before it is published."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as f

from recsys.config.pipeline import NightCheckSettings
from recsys.instants import HOUR
from recsys.logs.records import RECORDED_EVENTS
from recsys.meta_model import MetaModel
from recsys.meta_model.training import Examples
from recsys.pipeline.evaluation import SHOWN
from recsys.pipeline.night_values import NightValues
from recsys.shop.catalogue import Catalogue, Horizon
from recsys.wording import plural

_FEWEST_NIGHTS = 3
"""Minimum number of published nights for a mean that tonight's value is compared with."""
_RECENT = timedelta(days=7)
"""Maximum age of a night for tonight's number of users and drift to be compared with what was usual then."""
_FEW_REJECTED = 0.001
"""Smallest usual share of rejected rows: below it, a few rows more would already be a multiple."""


def rejected_share(counts: Iterable[Mapping[str, Any]]) -> float:
    """Return the share of the rows of all source tables that were set aside because they are broken by themselves.

    Args:
        counts: The content of `rule_counts.json`; recorded events are rows of table events too.
    """
    counts = [count for count in counts if count["table"] != RECORDED_EVENTS]
    rows = {count["table"]: count["rows"] for count in counts}
    aside = sum(count["broken"] for count in counts if count["rule"]["action"] == "set aside")
    return aside / max(sum(rows.values()), 1)


def feature_drift(model: MetaModel, examples: Examples) -> dict[str, float]:
    """Return the drift of each feature: its mean minus its mean in training, in standard deviations in training.

    Args:
        model: The model; features that it does not use are left out.
        examples: Examples that were sampled like those that the model was trained on.
    """
    if not len(examples.bought):
        return {}
    means = dict(zip(examples.names, examples.features.mean(axis=0, dtype=np.float64), strict=True))
    trained = zip(model.features, model.means, model.scales, strict=True)
    return {
        name: float((means[name] - mean) / scale)
        for name, mean, scale in trained
        if model.coefficients_by_feature[name]
    }


def users_by_sale(rankings: DataFrame, policy: str, n_sales: int) -> NDArray[np.int64]:
    """Return the number of users whose ranking has each sale, shape (n_sales,).

    Args:
        rankings: Table `rankings`.
        policy: The policy whose rankings are used.
        n_sales: Number of sales in the horizon.
    """
    counts = np.zeros(n_sales, np.int64)
    for sale, users in rankings.select(f.explode(f"{policy}_sales").alias("sale")).groupBy("sale").count().collect():
        counts[sale] = users
    return counts


def sales_covered(users_of_sale: NDArray[np.int64]) -> float | None:
    """Return the catalogue coverage: the share of the horizon's sales that are in at least one user's ranking.

    Args:
        users_of_sale: From `users_by_sale`. If all rankings together have fewer sales than the horizon, the share is
            relative to their total length; None if there is none.
    """
    most = min(len(users_of_sale), int(users_of_sale.sum()))
    return np.count_nonzero(users_of_sale) / most if most else None


class ShortHour(NamedTuple):
    """An hour of the horizon for which users' rankings hold too few of the sales that are open."""

    start: int
    """Start of the hour, microseconds UTC."""
    n_open: int
    """Number of sales that are open at some instant of the hour."""
    per_user: float
    """Mean number of these sales in a user's ranking."""


def short_hours(
    users_of_sale: NDArray[np.int64], users: int, horizon: Horizon, catalogue: Catalogue
) -> list[ShortHour]:
    """Return the hours of the horizon for which users' rankings hold less than half of what a page could show.

    A page could show SHOWN sales, or all open ones if there are fewer; the popular ones fill up the rest.
    """
    opens, closes = catalogue.opens_at[horizon.sales], catalogue.closes_at[horizon.sales]
    hours = []
    for start in range(horizon.as_of, horizon.until, HOUR):
        is_open = (opens < start + HOUR) & (closes > start)
        n_open, per_user = int(is_open.sum()), users_of_sale[is_open].sum() / users
        if per_user < min(n_open, SHOWN) / 2:
            hours.append(ShortHour(start, n_open, float(per_user)))
    return hours


def problems(
    tonight: NightValues, earlier: Sequence[NightValues], settings: NightCheckSettings, users_in_use: int = 0
) -> tuple[str, ...]:
    """Return a line for each check that a night fails: value, limit and next step.

    Args:
        tonight: Values of the night.
        earlier: Values of the nights before, latest last; those that were not published are ignored.
        settings: The limits.
        users_in_use: Number of users of the snapshot in use, which the night's is to replace.
    """
    published = [night for night in earlier if not night.problems][-settings.nights :]
    found = (
        _problem_of_rejected_rows(tonight, published, settings),
        _problem_of_drift(tonight, published, settings),
        _problem_of_coverage(tonight, settings),
        _problem_of_events(tonight, users_in_use),
        _problem_of_users(tonight, published, settings),
        _problem_of_ndcg(tonight, published, settings),
    )
    return tuple(problem for problem in found if problem)


def _problem_of_rejected_rows(
    tonight: NightValues, published: Sequence[NightValues], settings: NightCheckSettings
) -> str | None:
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


def _is_after_pause(tonight: NightValues, published: Sequence[NightValues]) -> bool:
    """Return whether the nights of the last week, if there were any, measured no purchase.

    After such a pause, popularity and the users' recent visits start from nothing: what was usual is no measure.
    """
    recent = [night for night in published if night.as_of >= tonight.as_of - _RECENT]
    return bool(published) and not any(night.purchases for night in recent)


def _problem_of_drift(
    tonight: NightValues, published: Sequence[NightValues], settings: NightCheckSettings
) -> str | None:
    (feature, drift), limit = tonight.worst_drift, settings.max_feature_drift
    if tonight.purchases < settings.min_cases or abs(drift) <= limit or _is_after_pause(tonight, published):
        return None
    return (
        f"mean of feature {feature} == {drift:+.2f} standard deviations from the training of version "
        f"{tonight.version}, must be within {limit:g} (night_checks.max_feature_drift): look for a change of the "
        "source, or promote a version of 'recsys nightly --train'"
    )


def _problem_of_coverage(tonight: NightValues, settings: NightCheckSettings) -> str | None:
    share, limit = tonight.sales_covered, settings.min_sales_covered
    if share is None or tonight.users < settings.min_cases or share >= limit:
        return None
    return (
        f"share of sales in any user's ranking == {share:.2%}, must be at least {limit:.2%} "
        "(night_checks.min_sales_covered): 'recsys models rollback' returns to the previous champion"
    )


def _problem_of_events(tonight: NightValues, users_in_use: int) -> str | None:
    if tonight.events != 0 or not users_in_use:
        return None
    return (
        f"events known before as_of == 0, but the snapshot in use ranks {plural(users_in_use, 'user')} by theirs: "
        "check the source's path and SQL, and --as-of"
    )


def _problem_of_users(
    tonight: NightValues, published: Sequence[NightValues], settings: NightCheckSettings
) -> str | None:
    before, limit = published[-1].users if published else 0, settings.min_users_share
    is_old = bool(published) and published[-1].as_of < tonight.as_of - _RECENT
    if before < settings.min_cases or tonight.users >= limit * before or is_old:
        return None
    return (
        f"users ranked == {tonight.users:,}, {tonight.users / before:.2%} of the night before, must be at least "
        f"{limit:.2%} (night_checks.min_users_share): look for missing events"
    )


def _problem_of_ndcg(
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
