"""What a report says of one metric of one variant, and the correction for how many of them there are."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from tea_tasting.experiment import ExperimentResult
from tea_tasting.multiplicity import adjust_fdr, adjust_fwer

from recsys.experiments.analysis.contrasts import Contrast, contrast, contrast_with_past, value
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
from recsys.experiments.evidence import Sums
from recsys.experiments.settings import AnalysisSettings, Guardrail, MeanGuardrail, Metric, RatioGuardrail

Multiplicity = Literal["holm", "benjamini_hochberg", "none"]


def compare(
    metric: Metric | Guardrail, role: Role, variant: str, control: Sums, treatment: Sums, analysis: AnalysisSettings
) -> Comparison:
    """Compare a variant with control by one metric; p values are those of a single comparison."""
    plain = contrast(metric, control, treatment, analysis.alpha)
    cuped = contrast_with_past(metric, control, treatment, analysis)
    decisive = cuped or plain
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
        lift=decisive and decisive.lift,
        cuped=_cuped(cuped, plain) if cuped and plain else None,
        always_valid=decisive and decisive.always_valid(analysis),
        detectable=_detectable(decisive.detectable(analysis), value(metric, control)) if decisive else None,
        guard=_guard_of(metric, decisive),
    )


def guard(difference: Difference, direction: Direction, margin: float) -> Guard:
    """Say whether a metric got worse by no more than a margin: one-sided at half of alpha, as its interval tells.

    Args:
        difference: With its two-sided interval.
        direction: Which is better.
        margin: So much worse is still acceptable, included.
    """
    low, high = difference.interval.low, difference.interval.high
    worst, best = (-low, -high) if direction == "higher" else (high, low)  # by how much worse
    state: GuardState = "holds" if worst <= margin else "violated" if best > margin else "open"
    return Guard(margin, low if direction == "higher" else high, state)


def corrected(comparisons: Sequence[Comparison], method: Multiplicity) -> tuple[Comparison, ...]:
    """Return comparisons with the p values of the primary ones corrected for how many these are."""
    counted = [each for each in comparisons if each.role == "primary" and each.decisive and each.always_valid]
    fixed = adjusted_p([each.decisive.p for each in counted if each.decisive], method)
    sequential = adjusted_p([each.always_valid.p for each in counted if each.always_valid], method)
    found = {(each.metric, each.variant): ps for each, *ps in zip(counted, fixed, sequential, strict=True)}
    return tuple(
        _with_adjusted(each, *found[each.metric, each.variant]) if each in counted else each for each in comparisons
    )


def adjusted_p(ps: Sequence[float], method: Multiplicity) -> list[float]:
    """Return p values corrected for their number, in the same order."""
    if method == "none" or not ps:
        return list(ps)
    results = ExperimentResult({str(place): {"pvalue": p} for place, p in enumerate(ps)})
    if method == "holm":
        found = adjust_fwer(results, arbitrary_dependence=True, method="bonferroni")
    else:
        found = adjust_fdr(results, arbitrary_dependence=False)
    return [min(1.0, float(each["pvalue_adj"])) for each in found.to_dicts()]


def _with_adjusted(comparison: Comparison, fixed: float, sequential: float) -> Comparison:
    always_valid = comparison.always_valid and replace(comparison.always_valid, adjusted_p=sequential)
    return replace(comparison, adjusted_p=fixed, always_valid=always_valid)


def _cuped(cuped: Contrast, plain: Contrast) -> CupedDifference:
    reduction = 1 - (cuped.standard_error / plain.standard_error) ** 2 if plain.standard_error else 0.0
    difference = cuped.difference
    return CupedDifference(difference.value, difference.interval, difference.p, reduction)


def _detectable(smallest: float, control_value: float | None) -> Detectable:
    return Detectable(smallest, smallest / abs(control_value) if control_value else None)


def _guard_of(metric: Metric | Guardrail, decisive: Contrast | None) -> Guard | None:
    if decisive is None or not isinstance(metric, MeanGuardrail | RatioGuardrail):
        return None
    return guard(decisive.difference, metric.direction, metric.margin)
