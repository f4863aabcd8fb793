"""The difference of two variants by one metric, from sums over their users.

tea-tasting does Welch's test, the delta method and CUPED with one theta for both variants. The standard error, which it
does not tell, is worked out here from the same moments. Only an analysis imports this: tea-tasting takes 1.7 s and
140 MiB.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

from tea_tasting.aggr import Aggregates
from tea_tasting.metrics import RatioOfMeans
from tea_tasting.metrics.mean import MeanResult

from recsys.experiments.analysis.outcomes import covariate, winsorized
from recsys.experiments.analysis.results import AlwaysValid, Difference, Interval, Lift
from recsys.experiments.analysis.sequential import always_valid
from recsys.experiments.evidence import Sums
from recsys.experiments.settings import AnalysisSettings, Guardrail, Metric, RatioSettings

_ROUNDING = 1e-7
"""A standard error so small, relative to the metric, is none: variances are rounded at 1e-16 of squares."""


class Contrast(NamedTuple):
    """A difference of two variants, and how sure it is."""

    difference: Difference
    standard_error: float
    lift: Lift | None
    n: int
    """Users of both."""

    def always_valid(self, analysis: AnalysisSettings) -> AlwaysValid:
        """Return the interval that may be looked at every day."""
        tune_n = analysis.sequential.tune_n
        return always_valid(self.difference.value, self.standard_error, self.n, analysis.alpha, tune_n)

    def detectable(self, analysis: AnalysisSettings) -> float:
        """Return the smallest true difference that is found with the power of the settings."""
        normal = NormalDist()
        return (normal.inv_cdf(1 - analysis.alpha / 2) + normal.inv_cdf(analysis.power)) * self.standard_error


def columns(metric: Metric | Guardrail) -> tuple[str, ...]:
    """Return the column of a mean; numerator and denominator of a ratio."""
    if isinstance(metric, RatioSettings):
        return metric.numerator, metric.denominator
    return (metric.column if metric.winsorize is None else winsorized(metric.column, metric.winsorize),)


def past_columns(metric: Metric | Guardrail) -> tuple[str, ...]:
    """Return the columns of what was before, one a column; empty where one has no past, as pages have none."""
    past = [covariate(column) for column in columns(metric)]
    known = tuple(column for column in past if column is not None)
    return known if len(known) == len(past) else ()


def value(metric: Metric | Guardrail, sums: Sums) -> float | None:
    """Return a metric of a variant's users; None without users, or with nothing in the denominator."""
    numerator, *denominator = columns(metric)
    divisor = sums.sums.get(denominator[0], 0.0) if denominator else sums.n
    return sums.sums[numerator] / divisor if divisor else None


def decisive_contrast(
    metric: Metric | Guardrail, control: Sums, treatment: Sums, analysis: AnalysisSettings
) -> Contrast | None:
    """Return what decides: with CUPED where that is set and the metric has a past, else plain."""
    past = contrast_with_past(metric, control, treatment, analysis)
    return past or contrast(metric, control, treatment, analysis.alpha)


def contrast_with_past(
    metric: Metric | Guardrail, control: Sums, treatment: Sums, analysis: AnalysisSettings
) -> Contrast | None:
    """Return the difference that CUPED leaves; None without it, or where a column has no past."""
    past = past_columns(metric)
    return contrast(metric, control, treatment, analysis.alpha, past) if past and analysis.cuped else None


def contrast(
    metric: Metric | Guardrail, control: Sums, treatment: Sums, alpha: float, past: Sequence[str] = ()
) -> Contrast | None:
    """Return the difference of two variants; None with fewer than two users in one, or nothing in a denominator.

    Args:
        metric: What is compared.
        control: Sums over the users of control.
        treatment: Sums over the users of the other variant.
        alpha: One minus the interval's level.
        past: The columns of what was before, where that is to be taken out.
    """
    n, before, after = control.n + treatment.n, value(metric, control), value(metric, treatment)
    if before is None or after is None or min(control.n, treatment.n) < 2:
        return None
    measure = _measure(columns(metric), past, alpha)
    arms = [_aggregates(each, measure.aggr_cols.mean_cols) for each in (control, treatment)]
    error = _standard_error(measure, *arms)
    rounding = _ROUNDING * max(abs(before), abs(after))
    if error <= rounding:  # no spread: of a ratio that is the same for every user, rounding leaves some, even below 0
        return Contrast(_certain(after - before if abs(after - before) > rounding else 0.0), 0.0, None, n)
    try:
        found = measure.analyze_aggregates(*arms)
    except ArithmeticError:  # a mean so near to zero, of so few users, that the interval of its logarithm overflows
        return None
    return Contrast(_difference(found), error, _lift(found), n)


def user_variance(metric: Metric | Guardrail, sums: Sums, past: Sequence[str] = ()) -> float:
    """Return a metric's variance from user to user: so large, by the number of users, is that of its value."""
    measure = _measure(columns(metric), past, alpha=0.05)
    moments = _aggregates(sums, measure.aggr_cols.mean_cols)
    return _variance(measure, moments, _theta(measure, moments))


def _measure(outcome: Sequence[str], past: Sequence[str], alpha: float) -> RatioOfMeans:
    (numerator, denominator), (past_numerator, past_denominator) = _pair(outcome), _pair(past)
    return RatioOfMeans(
        numerator,
        denominator,
        past_numerator,
        past_denominator,
        alternative="two-sided",
        confidence_level=1 - alpha,
        equal_var=False,
        use_t=True,
    )


def _pair(names: Sequence[str]) -> tuple[str | None, str | None]:
    first, second = (*names, None, None)[:2]
    return first, second


def _aggregates(sums: Sums, names: Sequence[str]) -> Aggregates:
    means = {name: sums.sums[name] / sums.n for name in names}
    pairs = [(a, b) for a in names for b in names if a <= b]
    covariances = {(a, b): (sums.product(a, b) - sums.sums[a] * means[b]) / (sums.n - 1) for a, b in pairs}
    variances = {name: max(0.0, covariances[name, name]) for name in names}  # rounding may leave -1e-20
    return Aggregates(sums.n, means, variances, covariances)


def _standard_error(measure: RatioOfMeans, control: Aggregates, treatment: Aggregates) -> float:
    theta = _theta(measure, control + treatment)
    return math.sqrt(sum(_variance(measure, arm, theta) / arm.count() for arm in (control, treatment)))


def _theta(measure: RatioOfMeans, arm: Aggregates) -> float:
    """Return how much of what was before is taken out."""
    past = (measure.numer_covariate, measure.denom_covariate)
    variance = arm.ratio_var(*past)
    return arm.ratio_cov(measure.numer, measure.denom, *past) / variance if variance else 0.0


def _variance(measure: RatioOfMeans, arm: Aggregates, theta: float) -> float:
    outcome, past = (measure.numer, measure.denom), (measure.numer_covariate, measure.denom_covariate)
    change = theta * theta * arm.ratio_var(*past) - 2 * theta * arm.ratio_cov(*outcome, *past)
    return max(0.0, arm.ratio_var(*outcome) + change)


def _certain(difference: float) -> Difference:
    """Return the difference of variants that have no spread, such as where nobody's page fell back."""
    return Difference(difference, Interval(difference, difference), float(difference == 0))


def _difference(found: MeanResult) -> Difference:
    interval = Interval(float(found.effect_size_ci_lower), float(found.effect_size_ci_upper))
    return Difference(float(found.effect_size), interval, float(found.pvalue))


def _lift(found: MeanResult) -> Lift | None:
    if found.control <= 0 or found.treatment <= 0:
        return None
    interval = Interval(float(found.rel_effect_size_ci_lower), float(found.rel_effect_size_ci_upper))
    return Lift(float(found.rel_effect_size), interval)
