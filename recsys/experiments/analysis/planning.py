"""Power analysis: the sample size and the duration that an experiment needs, from the outcomes of past users."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from tea_tasting.aggr import Aggregates
from tea_tasting.metrics import Mean

from recsys.errors import ConfigurationError, EmptyInputError
from recsys.experiments.analysis.contrasts import (
    covariate_columns,
    nonzero_users,
    user_skewness,
    user_variance,
    value,
)
from recsys.experiments.analysis.skewness import FEWEST_NONZERO, MOST_SKEWED, skewness_of_difference
from recsys.experiments.phase_summary import Sums
from recsys.experiments.settings import Experiment, Guardrail, Metric
from recsys.wording import plural

SMALLEST_EFFECT, LARGEST_EFFECT = 0.0001, 100.0
"""The range of sizes of relative effects: below it no shop has the users, above it a few users show the effect."""
_FEWEST_USERS = 3
_WEEK = 7


@dataclass(frozen=True)
class Plan:
    """The sample size and duration to detect one effect at the configured power."""

    effect: float
    """Relative to control; 0.05 is 5 %."""
    absolute: float
    """The same effect in the metric's own unit."""
    users: int
    """Required number of users, all variants together."""
    days: int | None
    """Days until these users have come and their attribution windows are over; None if no users come."""


def plan(
    experiment: Experiment,
    metric: Metric | Guardrail,
    history: Sums,
    new_users: Sequence[float],
    effects: Sequence[float],
    correlation: float | None = None,
) -> list[Plan]:
    """Return the required users and days for each effect.

    Args:
        experiment: The experiment; its alpha, power, weights, CUPED and attribution window are used.
        metric: The metric that the effect is on.
        history: Sums over past users, each within an attribution window from their first visit of a past period on.
        new_users: The number of users whom the experiment would have taken in on each day of that period. After the
            period, the daily mean of its last week is assumed.
        effects: Relative effects, their sizes in [SMALLEST_EFFECT, LARGEST_EFFECT].
        correlation: Correlation of the metric with its CUPED covariate, in (-1, 1); by default that of the history, if
            the experiment has CUPED.

    Raises:
        ConfigurationError: If an effect is out of range, or the correlation is not in (-1, 1).
        EmptyInputError: If the metric is 0 or has no variance in the history.
    """
    mean, variance = _mean_and_variance(experiment, metric, history, correlation)
    weights = [variant.weight for variant in experiment.variants]
    rarest = min(weights[1:])
    fewest = _users_to_tell(metric, history, weights[0], rarest)
    plans = []
    for effect in effects:
        if not SMALLEST_EFFECT <= abs(effect) <= LARGEST_EFFECT:  # nor nan
            raise ConfigurationError(
                f"effect == {effect:g}, must be from {SMALLEST_EFFECT:g} to {LARGEST_EFFECT:g} or as much below 0, "
                "relative to control: 0.05 is 5%"
            )
        pair = _users_of_pair(experiment, mean, variance, effect, rarest / weights[0])
        users = math.ceil(pair / (weights[0] + rarest))
        users = max(users, fewest)
        days = _days_to_reach(users, new_users, experiment.analysis.attribution_days)
        plans.append(Plan(effect, effect * mean, users, days))
    return plans


def _mean_and_variance(
    experiment: Experiment, metric: Metric | Guardrail, history: Sums, correlation: float | None
) -> tuple[float, float]:
    """Return the mean of the metric and its variance between users, the latter CUPED-adjusted."""
    if correlation is not None and not -1 < correlation < 1:
        raise ConfigurationError(f"correlation == {correlation}, must be in (-1, 1)")
    mean = value(metric, history)
    covariates = covariate_columns(metric) if experiment.analysis.cuped and correlation is None else ()
    variance = user_variance(metric, history, covariates) if history.n > 1 and mean else 0.0
    if not mean or not variance:
        users = plural(history.n, "user")
        raise EmptyInputError(f"{metric.name} == {mean} for all of {users} of the history: take a longer history")
    return mean, variance * (1 - (correlation or 0.0) ** 2)


def _users_to_tell(metric: Metric | Guardrail, history: Sums, control: float, rarest: float) -> int:
    """Return the users, all variants together, below which the analysis says "too few to tell" whatever the effect."""
    shares = (control, rarest)
    nonzero_share = nonzero_users(metric, history) / history.n
    by_count = FEWEST_NONZERO / (nonzero_share * min(shares))
    skewness = skewness_of_difference(user_skewness(metric, history), *shares)  # of a single user; of n, / sqrt(n)
    return math.ceil(max(by_count, (skewness / MOST_SKEWED) ** 2))


def _users_of_pair(experiment: Experiment, mean: float, variance: float, effect: float, ratio: float) -> int:
    """Return the required users of control and one variant together; `ratio` is the variant's users by control's."""
    analysis = experiment.analysis
    measure = Mean(
        "value", rel_effect_size=effect, ratio=ratio, alpha=analysis.alpha, power=analysis.power, use_t=False
    )
    history = Aggregates(2, {"value": mean}, {"value": variance})
    try:
        return int(measure.solve_power_from_aggregates(history, "n_obs")[0].n_obs)
    except ValueError:  # so large an effect that the solver's fewest users exceed the power
        return _FEWEST_USERS


def _days_to_reach(users: int, new_users: Sequence[float], attribution_days: float) -> int | None:
    """Return the days until the required users have come and the last one's attribution window is over."""
    for day, included in enumerate(accumulate(new_users), 1):
        if included >= users:
            return day + math.ceil(attribution_days)
    last = new_users[-_WEEK:]
    if not sum(last):
        return None
    missing = users - sum(new_users)
    return len(new_users) + math.ceil(missing * len(last) / sum(last)) + math.ceil(attribution_days)
