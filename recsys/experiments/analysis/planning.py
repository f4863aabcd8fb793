"""How many users, and how many days, an experiment needs: from what users did in the past."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from tea_tasting.aggr import Aggregates
from tea_tasting.metrics import Mean

from recsys.errors import ConfigurationError, EmptyInputError
from recsys.experiments.analysis.contrasts import past_columns, user_variance, value
from recsys.experiments.evidence import Sums
from recsys.experiments.settings import Experiment, Guardrail, Metric

_WEEK = 7


@dataclass(frozen=True)
class Plan:
    """What it takes to see one effect."""

    effect: float
    """Relative; 0.05 is 5 % of control."""
    absolute: float
    """The same in the metric's own unit."""
    users: int
    """In all variants together."""
    days: int | None
    """To take the users in, and to wait for their outcomes; None where no users come."""


def plan(
    experiment: Experiment,
    metric: Metric | Guardrail,
    history: Sums,
    new_users: Sequence[int],
    effects: Sequence[float],
    correlation: float | None = None,
) -> list[Plan]:
    """Tell for each effect how many users and days it takes.

    Args:
        experiment: Its alpha, power, weights, coverage and attribution count.
        metric: What the effect is on.
        history: Sums over users, each from his first visit of a past period on, over as many days as are attributed.
        new_users: How many users came for the first time on each day of that period, and might be taken in; after it
            come as many a day as in its last week.
        effects: Relative, not 0.
        correlation: Of the metric with what CUPED takes out, in (-1, 1); by default that of the history, if the
            experiment has CUPED.

    Raises:
        ConfigurationError: If an effect is 0, or the correlation is not in (-1, 1).
        EmptyInputError: If the metric is 0 or has no spread in the history.
    """
    mean, variance = _moments(experiment, metric, history, correlation)
    weights = [variant.weight for variant in experiment.variants]
    rarest = min(weights[1:])
    plans = []
    for effect in effects:
        if effect == 0:
            raise ConfigurationError("effect == 0: must be another number: no sample shows no effect")
        pair = _users_of_pair(experiment, mean, variance, effect, rarest / weights[0])
        users = math.ceil(pair / (weights[0] + rarest))
        days = _days(users, [n * experiment.coverage for n in new_users], experiment.analysis.attribution_days)
        plans.append(Plan(effect, effect * mean, users, days))
    return plans


def _moments(
    experiment: Experiment, metric: Metric | Guardrail, history: Sums, correlation: float | None
) -> tuple[float, float]:
    """Return mean and variance of the metric from user to user, after CUPED."""
    if correlation is not None and not -1 < correlation < 1:
        raise ConfigurationError(f"correlation == {correlation}: must be in (-1, 1)")
    mean = value(metric, history)
    past = past_columns(metric) if experiment.analysis.cuped and correlation is None else ()
    variance = user_variance(metric, history, past) if history.n > 1 and mean else 0.0
    if not mean or not variance:
        raise EmptyInputError(f"{metric.name} == {mean} for all of {history.n} users of the history: take a longer one")
    return mean, variance * (1 - (correlation or 0.0) ** 2)


def _users_of_pair(experiment: Experiment, mean: float, variance: float, effect: float, ratio: float) -> int:
    """Return the users of control and one variant together; `ratio` is the variant's by control's."""
    analysis = experiment.analysis
    measure = Mean(
        "value", rel_effect_size=effect, ratio=ratio, alpha=analysis.alpha, power=analysis.power, use_t=False
    )
    history = Aggregates(2, {"value": mean}, {"value": variance})
    return int(measure.solve_power_from_aggregates(history, "n_obs")[0].n_obs)


def _days(users: int, new_users: Sequence[float], attribution_days: float) -> int | None:
    """Return the days until so many users have come and the last one's outcomes are known."""
    for day, taken_in in enumerate(accumulate(new_users), 1):
        if taken_in >= users:
            return day + math.ceil(attribution_days)
    last = new_users[-_WEEK:]
    if not sum(last):
        return None
    missing = users - sum(new_users)
    return len(new_users) + math.ceil(missing * len(last) / sum(last)) + math.ceil(attribution_days)
