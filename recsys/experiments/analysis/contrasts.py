"""The difference of two variants by one metric, from sums over their users.

tea-tasting computes Welch's test, the delta method and CUPED with one theta for both variants. It does not return the
standard error, so that is computed here from the same moments, like the correction of the interval for skewness. Only
the analysis imports this module: importing tea-tasting takes 1.7 s and 140 MiB.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import product
from statistics import NormalDist
from typing import NamedTuple

from scipy.special import stdtr, stdtrit
from tea_tasting.aggr import Aggregates
from tea_tasting.metrics import RatioOfMeans

from recsys.experiments.analysis.outcomes import covariate, nonzero, winsorized
from recsys.experiments.analysis.results import AlwaysValid, Difference, Evidence, Interval, Lift
from recsys.experiments.analysis.sequential import always_valid
from recsys.experiments.analysis.skewness import evidence, skewed_score, skewness_of_difference, symmetric_score
from recsys.experiments.phase_summary import Sums
from recsys.experiments.settings import AnalysisSettings, Guardrail, Metric, RatioSettings

_ROUNDING = 1e-7
"""A standard error below this share of the metric is rounding error: variances are exact to 1e-16 of the squares."""


class Contrast(NamedTuple):
    """A difference of two variants with its standard error."""

    difference: Difference
    standard_error: float
    n: int
    """Number of users in both variants."""
    evidence: Evidence

    def always_valid(self, analysis: AnalysisSettings) -> AlwaysValid:
        """Return the always-valid interval and p value."""
        tune_n, skewness = analysis.sequential.tune_n, self.evidence.skewness
        return always_valid(self.difference.value, self.standard_error, self.n, analysis.alpha, tune_n, skewness)

    def detectable(self, analysis: AnalysisSettings) -> float:
        """Return the minimum detectable effect at the configured power, in the metric's own unit."""
        normal = NormalDist()
        return (normal.inv_cdf(1 - analysis.alpha / 2) + normal.inv_cdf(analysis.power)) * self.standard_error


def columns(metric: Metric | Guardrail) -> tuple[str, ...]:
    """Return the column of a mean, or the numerator and denominator of a ratio."""
    if isinstance(metric, RatioSettings):
        return metric.numerator, metric.denominator
    return (metric.column if metric.winsorize is None else winsorized(metric.column, metric.winsorize),)


def covariate_columns(metric: Metric | Guardrail) -> tuple[str, ...]:
    """Return the CUPED covariate of each column; empty if a column has none, such as the number of pages."""
    candidates = [covariate(column) for column in columns(metric)]
    known = tuple(column for column in candidates if column is not None)
    return known if len(known) == len(candidates) else ()


def value(metric: Metric | Guardrail, sums: Sums) -> float | None:
    """Return a metric over a variant's users; None without users, or if the denominator is 0."""
    numerator, *denominator = columns(metric)
    divisor = sums.sums.get(denominator[0], 0.0) if denominator else sums.n
    return sums.sums[numerator] / divisor if divisor else None


def decisive_contrast(
    metric: Metric | Guardrail, control: Sums, treatment: Sums, analysis: AnalysisSettings
) -> Contrast | None:
    """Return the contrast that decides: CUPED-adjusted if that is configured and the metric has covariates."""
    adjusted = cuped_contrast(metric, control, treatment, analysis)
    return adjusted or contrast(metric, control, treatment, analysis.alpha)


def cuped_contrast(
    metric: Metric | Guardrail, control: Sums, treatment: Sums, analysis: AnalysisSettings
) -> Contrast | None:
    """Return the CUPED-adjusted contrast; None if CUPED is not configured or a column has no covariate."""
    covariates = covariate_columns(metric)
    return contrast(metric, control, treatment, analysis.alpha, covariates) if covariates and analysis.cuped else None


def contrast(
    metric: Metric | Guardrail, control: Sums, treatment: Sums, alpha: float, covariates: Sequence[str] = ()
) -> Contrast | None:
    """Return the contrast of two variants; None if one has fewer than two users, or a denominator is 0.

    Interval and p value are Welch's, corrected for skewness if the sums have products of three columns.

    Args:
        metric: What is compared.
        control: Sums over the users of control.
        treatment: Sums over the users of the other variant.
        alpha: One minus the confidence level of the interval.
        covariates: The covariate of each column, for a CUPED-adjusted contrast.
    """
    n, before, after = control.n + treatment.n, value(metric, control), value(metric, treatment)
    if before is None or after is None or min(control.n, treatment.n) < 2:
        return None
    measure = _ratio_of_means(columns(metric), covariates, alpha)
    arms = [_aggregates(each, measure.aggr_cols.mean_cols) for each in (control, treatment)]
    theta = _theta(measure, arms[0] + arms[1])
    variances = [_variance(measure, arm, theta) for arm in arms]
    squares = [variance / arm.count() for variance, arm in zip(variances, arms, strict=True)]
    error = math.sqrt(sum(squares))
    rounding = _ROUNDING * max(abs(before), abs(after))
    if error <= rounding:  # no variance: a ratio that is the same for every user has one by rounding, even below 0
        difference = after - before if abs(after - before) > rounding else 0.0
        return Contrast(_difference_without_variance(difference), 0.0, n, _evidence(metric, control, treatment, 0.0))
    freedom = error**4 / sum(square**2 / (arm.count() - 1) for square, arm in zip(squares, arms, strict=True))
    skewness = _skewness(measure, (control, treatment), arms, variances, theta)
    difference = _adjusted_value(measure, arms[1], theta) - _adjusted_value(measure, arms[0], theta)
    return Contrast(
        _corrected_difference(difference, error, freedom, skewness, alpha),
        error,
        n,
        _evidence(metric, control, treatment, skewness),
    )


def lift(
    metric: Metric | Guardrail, control: Sums, treatment: Sums, alpha: float, covariates: Sequence[str] = ()
) -> Lift | None:
    """Return the difference relative to control, for the arguments of `contrast`; None unless both are above 0.

    The metric must have a variance in at least one variant.
    """
    if min(value(metric, control) or 0.0, value(metric, treatment) or 0.0) <= 0:
        return None
    measure = _ratio_of_means(columns(metric), covariates, alpha)
    arms = [_aggregates(each, measure.aggr_cols.mean_cols) for each in (control, treatment)]
    try:
        result = measure.analyze_aggregates(*arms)
    except ArithmeticError:  # few users and a mean near zero: the interval of its logarithm overflows
        return None
    if result.control <= 0 or result.treatment <= 0:
        return None
    interval = Interval(float(result.rel_effect_size_ci_lower), float(result.rel_effect_size_ci_upper))
    return Lift(float(result.rel_effect_size), interval)


def user_variance(metric: Metric | Guardrail, sums: Sums, covariates: Sequence[str] = ()) -> float:
    """Return the variance of a metric between users; divided by the number of users, that of the metric's value."""
    measure = _ratio_of_means(columns(metric), covariates, alpha=0.05)
    moments = _aggregates(sums, measure.aggr_cols.mean_cols)
    return _variance(measure, moments, _theta(measure, moments))


def user_skewness(metric: Metric | Guardrail, sums: Sums) -> float:
    """Return the skewness of a metric between users."""
    measure = _ratio_of_means(columns(metric), (), alpha=0.05)
    moments = _aggregates(sums, measure.aggr_cols.mean_cols)
    return _third_moment(sums, _coefficients(measure, moments, 0.0)) / _variance(measure, moments, 0.0) ** 1.5


def nonzero_users(metric: Metric | Guardrail, sums: Sums) -> int:
    """Return the number of users with a value other than 0; of a ratio, in its numerator."""
    return round(sums.sums.get(nonzero(columns(metric)[0]), sums.n))


def _ratio_of_means(outcome: Sequence[str], covariates: Sequence[str], alpha: float) -> RatioOfMeans:
    (numerator, denominator), (numerator_covariate, denominator_covariate) = _pad_pair(outcome), _pad_pair(covariates)
    return RatioOfMeans(
        numerator,
        denominator,
        numerator_covariate,
        denominator_covariate,
        alternative="two-sided",
        confidence_level=1 - alpha,
        equal_var=False,
        use_t=True,
    )


def _pad_pair(names: Sequence[str]) -> tuple[str | None, str | None]:
    first, second = (*names, None, None)[:2]
    return first, second


def _aggregates(sums: Sums, names: Sequence[str]) -> Aggregates:
    means = {name: sums.sums[name] / sums.n for name in names}
    pairs = [(a, b) for a in names for b in names if a <= b]
    covariances = {(a, b): (sums.product(a, b) - sums.sums[a] * means[b]) / (sums.n - 1) for a, b in pairs}
    variances = {name: max(0.0, covariances[name, name]) for name in names}  # rounding may leave -1e-20
    return Aggregates(sums.n, means, variances, covariances)


def _theta(measure: RatioOfMeans, arm: Aggregates) -> float:
    """Return CUPED's coefficient of the covariate."""
    covariates = (measure.numer_covariate, measure.denom_covariate)
    variance = arm.ratio_var(*covariates)
    return arm.ratio_cov(measure.numer, measure.denom, *covariates) / variance if variance else 0.0


def _variance(measure: RatioOfMeans, arm: Aggregates, theta: float) -> float:
    """Return the variance of outcome - theta * covariate between users, by the delta method."""
    outcome, covariates = (measure.numer, measure.denom), (measure.numer_covariate, measure.denom_covariate)
    change = theta * theta * arm.ratio_var(*covariates) - 2 * theta * arm.ratio_cov(*outcome, *covariates)
    return max(0.0, arm.ratio_var(*outcome) + change)


def _adjusted_value(measure: RatioOfMeans, arm: Aggregates, theta: float) -> float:
    """Return the mean of outcome - theta * covariate, or the difference of two ratios; not centred."""
    outcome = arm.mean(measure.numer) / arm.mean(measure.denom)
    return float(outcome - theta * arm.mean(measure.numer_covariate) / arm.mean(measure.denom_covariate))


def _skewness(
    measure: RatioOfMeans, sums: Sequence[Sums], arms: Sequence[Aggregates], variances: Sequence[float], theta: float
) -> float:
    """Return the skewness of the difference, by moments within the arms pooled over both."""
    counts = [each.n for each in sums]
    moments = [_third_moment(each, _coefficients(measure, arm, theta)) for each, arm in zip(sums, arms, strict=True)]
    pooled = [
        sum(n * part for n, part in zip(counts, parts, strict=True)) / sum(counts) for parts in (moments, variances)
    ]
    return skewness_of_difference(pooled[0] / pooled[1] ** 1.5, *counts)


def _coefficients(measure: RatioOfMeans, arm: Aggregates, theta: float) -> dict[str, float]:
    """Return the coefficient of each column in a user's linearised outcome - theta * covariate, by the delta method."""
    coefficients: dict[str, float] = {}
    for scale, top, bottom in (
        (1.0, measure.numer, measure.denom),
        (-theta, measure.numer_covariate, measure.denom_covariate),
    ):
        if top is not None:
            divisor = 1.0 if bottom is None else arm.mean(bottom)
            coefficients[top] = coefficients.get(top, 0.0) + scale / divisor
            if bottom is not None:
                coefficients[bottom] = coefficients.get(bottom, 0.0) - scale * arm.mean(top) / divisor**2
    return coefficients


def _third_moment(sums: Sums, coefficients: Mapping[str, float]) -> float:
    """Return the third central moment between users of a linear combination of columns; 0 if the sums lack it."""
    names = sorted(coefficients)
    if (names[0],) * 3 not in sums.products:
        return 0.0
    means = {name: sums.sums[name] / sums.n for name in names}
    return sum(
        coefficients[a] * coefficients[b] * coefficients[c] * _central_moment(sums, means, a, b, c)
        for a, b, c in product(names, repeat=3)
    )


def _central_moment(sums: Sums, means: Mapping[str, float], a: str, b: str, c: str) -> float:
    """Return the mean over users of (a - mean of a) * (b - mean of b) * (c - mean of c)."""
    pairs = ((a, b, c), (b, c, a), (c, a, b))
    mixed = sum(means[one] * sums.product(two, three) / sums.n for one, two, three in pairs)
    return sums.product(a, b, c) / sums.n - mixed + 2 * means[a] * means[b] * means[c]


def _evidence(metric: Metric | Guardrail, control: Sums, treatment: Sums, skewness: float) -> Evidence:
    counts = (nonzero_users(metric, control), nonzero_users(metric, treatment))
    return evidence(counts, (control.n, treatment.n), skewness)


def _difference_without_variance(difference: float) -> Difference:
    """Return the difference of variants without variance, such as fallbacks where no page fell back."""
    return Difference(difference, Interval(difference, difference), float(difference == 0))


def _corrected_difference(value: float, error: float, freedom: float, skewness: float, alpha: float) -> Difference:
    """Return the difference with Welch's interval and p value, corrected for skewness."""
    reach = float(stdtrit(freedom, 1 - alpha / 2))
    low, high = (value - error * skewed_score(score, skewness) for score in (reach, -reach))
    p = 2 * float(stdtr(freedom, -abs(symmetric_score(value / error, skewness))))
    return Difference(value, Interval(low, high), p)
