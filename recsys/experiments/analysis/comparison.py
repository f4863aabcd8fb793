"""Compares a variant with control by one metric, and corrects the p values for multiple testing."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from tea_tasting.experiment import ExperimentResult
from tea_tasting.multiplicity import adjust_fdr, adjust_fwer

from recsys.experiments.analysis.contrasts import (
    Contrast,
    columns,
    contrast,
    covariate_columns,
    cuped_contrast,
    lift,
    value,
)
from recsys.experiments.analysis.results import (
    Comparison,
    CupedDifference,
    Detectable,
    Difference,
    Direction,
    Guard,
    GuardState,
    Role,
)
from recsys.experiments.analysis.skewness import FEWEST_NONZERO
from recsys.experiments.phase_summary import Sums
from recsys.experiments.settings import AnalysisSettings, Guardrail, MeanGuardrail, Metric, RatioGuardrail

Multiplicity = Literal["holm", "benjamini_hochberg", "none"]


def compare(
    metric: Metric | Guardrail, role: Role, variant: str, control: Sums, treatment: Sums, analysis: AnalysisSettings
) -> Comparison:
    """Compare a variant with control by one metric, with uncorrected p values.

    Args:
        metric: What is compared.
        role: The role of the metric in the experiment.
        variant: The key of the variant.
        control: Sums over the users of control.
        treatment: Sums over the users of the variant.
        analysis: The settings of the analysis.
    """
    plain = contrast(metric, control, treatment, analysis.alpha)
    cuped = cuped_contrast(metric, control, treatment, analysis)
    decisive = cuped or plain
    relative = None
    if decisive and decisive.standard_error:
        relative = lift(metric, control, treatment, analysis.alpha, covariate_columns(metric) if cuped else ())
    return Comparison(
        metric=metric.name,
        role=role,
        direction=metric.direction,
        variant=variant,
        control_users=control.n,
        variant_users=treatment.n,
        control_value=value(metric, control),
        variant_value=value(metric, treatment),
        plain=plain and plain.difference,
        lift=relative,
        cuped=_cuped_difference(cuped, plain) if cuped and plain else None,
        always_valid=decisive and decisive.always_valid(analysis),
        detectable=_detectable_effect(decisive.detectable(analysis), value(metric, control)) if decisive else None,
        guard=_guard_of_metric(metric, decisive, control, treatment),
        evidence=decisive and decisive.evidence,
    )


def guard(difference: Difference, direction: Direction, margin: float) -> Guard:
    """Test whether a guardrail metric deteriorated by no more than a margin (a non-inferiority test).

    The test compares the two-sided interval with the margin: it is one-sided at half of alpha.

    Args:
        difference: Treatment minus control, with its two-sided interval.
        direction: Which direction is better.
        margin: The largest acceptable deterioration, inclusive.
    """
    low, high = difference.interval.low, difference.interval.high
    worst, best = (-low, -high) if direction == "higher" else (high, low)  # deteriorations; below 0 is better
    state: GuardState = "holds" if worst <= margin else "violated" if best > margin else "open"
    return Guard(margin, low if direction == "higher" else high, state)


def corrected(comparisons: Sequence[Comparison], method: Multiplicity) -> tuple[Comparison, ...]:
    """Return comparisons with the p values of the primary ones corrected for multiple testing."""
    primary = [each for each in comparisons if each.role == "primary" and each.decisive and each.always_valid]
    fixed = adjusted_p([each.decisive.p for each in primary if each.decisive], method)
    sequential = adjusted_p([each.always_valid.p for each in primary if each.always_valid], method)
    adjusted = {(each.metric, each.variant): ps for each, *ps in zip(primary, fixed, sequential, strict=True)}
    return tuple(
        _with_adjusted_p(each, *adjusted[each.metric, each.variant]) if each in primary else each
        for each in comparisons
    )


def adjusted_p(ps: Sequence[float], method: Multiplicity) -> list[float]:
    """Return p values adjusted for their number, in the same order."""
    if method == "none" or not ps:
        return list(ps)
    results = ExperimentResult({str(index): {"pvalue": p} for index, p in enumerate(ps)})
    if method == "holm":
        adjusted = adjust_fwer(results, arbitrary_dependence=True, method="bonferroni")
    else:
        adjusted = adjust_fdr(results, arbitrary_dependence=False)
    return [min(1.0, float(each["pvalue_adj"])) for each in adjusted.to_dicts()]


def _with_adjusted_p(comparison: Comparison, fixed: float, sequential: float) -> Comparison:
    always_valid = comparison.always_valid and replace(comparison.always_valid, adjusted_p=sequential)
    return replace(comparison, adjusted_p=fixed, always_valid=always_valid)


def _cuped_difference(cuped: Contrast, plain: Contrast) -> CupedDifference:
    reduction = 1 - (cuped.standard_error / plain.standard_error) ** 2 if plain.standard_error else 0.0
    difference = cuped.difference
    return CupedDifference(difference.value, difference.interval, difference.p, reduction)


def _detectable_effect(absolute: float, control_value: float | None) -> Detectable:
    return Detectable(absolute, absolute / abs(control_value) if control_value else None)


def _guard_of_metric(
    metric: Metric | Guardrail, decisive: Contrast | None, control: Sums, treatment: Sums
) -> Guard | None:
    """Return the state of a guardrail.

    Where too few users have a value other than 0, such as a fallback, it is never violated. It still holds if a change
    by the margin would be seen: in the smaller arm it would be the values of as many users as a finding needs.
    """
    if decisive is None or not isinstance(metric, MeanGuardrail | RatioGuardrail):
        return None
    found = guard(decisive.difference, metric.direction, metric.margin)
    if decisive.evidence.is_enough:
        return found
    column, *denominator = columns(metric)
    both = control + treatment
    size_of_value = both.product(column, column) / both.sums[column] if both.sums[column] else 1.0
    smaller_arm = min(each.sums[denominator[0]] if denominator else each.n for each in (control, treatment))
    would_be_seen = FEWEST_NONZERO * size_of_value / smaller_arm <= metric.margin
    return found if found.state == "holds" and would_be_seen else replace(found, state="open")
