"""Sentences of a verdict about single comparisons."""

from recsys.experiments.analysis.results import Comparison, Difference, Interleaving, Interval
from recsys.experiments.analysis.skewness import FEWEST_NONZERO, MOST_SKEWED
from recsys.experiments.settings import AnalysisSettings


def difference_sentence(comparison: Comparison) -> str:
    """Say whether a metric is better or worse, and by how much."""
    decisive = comparison.decisive
    if decisive is None:
        return unknown_sentence(comparison)
    side = "better" if comparison.improves(decisive.value) else "worse"
    p = decisive.p if comparison.adjusted_p is None else comparison.adjusted_p
    return f"{_subject(comparison)} is {side}: {_format_difference(comparison, decisive)}, p {p:.2g}."


def inconclusive_sentence(comparison: Comparison, analysis: AnalysisSettings) -> str:
    """Say that a difference is not significant, and give the minimum detectable effect."""
    decisive, detectable = comparison.decisive, comparison.detectable
    if decisive is None or detectable is None:
        return unknown_sentence(comparison)
    if not comparison.can_tell:
        return scarcity_sentence(comparison)
    relative = "" if detectable.relative is None else f" ({detectable.relative:.1%} of control)"
    return (
        f"{_subject(comparison)}: no significant difference, {_format_difference(comparison, decisive)}; minimum"
        f" detectable effect {detectable.absolute:.3g}{relative} at {analysis.power:.0%} power."
    )


def guard_sentence(comparison: Comparison) -> str:
    """Say whether a guardrail holds."""
    guard, decisive = comparison.guard, comparison.decisive
    if guard is None or decisive is None:
        return unknown_sentence(comparison)
    states = {
        "holds": f"Guardrail {_subject(comparison)} holds",
        "violated": f"Guardrail {_subject(comparison)} is violated",
        "open": f"Guardrail {_subject(comparison)} is not shown to hold",
    }
    if guard.state == "open" and not comparison.can_tell:
        return f"{states['open']}. {scarcity_sentence(comparison)}"
    return f"{states[guard.state]}: {_format_difference(comparison, decisive)}, margin {guard.margin:g}."


def scarcity_sentence(comparison: Comparison) -> str:
    """Say why the data do not suffice to tell a difference, and what to do."""
    evidence = comparison.evidence
    if evidence is None:
        return unknown_sentence(comparison)
    counts = f"{evidence.control_nonzero:,} of control and {evidence.variant_nonzero:,} of {comparison.variant}"
    if abs(evidence.skewness) > MOST_SKEWED:
        return (
            f"{_subject(comparison)}: too skewed to tell, the users with a value other than 0 are {counts}, and a few"
            f" large values decide (skewness {evidence.skewness:+.2g}, at most {MOST_SKEWED:g}). Wait for more users,"
            " winsorize the metric, or give the variants more equal weights."
        )
    return (
        f"{_subject(comparison)}: too few to tell, the users with a value other than 0 are {counts}; about"
        f" {FEWEST_NONZERO} or more are needed in each. Wait for more users, or choose a more frequent outcome."
    )


def preference_sentence(interleaving: Interleaving) -> str:
    """Say which policy's sales were purchased more."""
    credits = ", ".join(f"{n:,.0f} from {key}" for key, n in interleaving.credits.items())
    difference = interleaving.difference
    if difference is None or not interleaving.can_tell:
        return f"Purchases: {credits}; too few to tell, {2 * FEWEST_NONZERO} or more buyers are needed."
    interval = _format_interval(difference.interval)
    return f"Purchases: {credits}; {difference.value:+.3g} per user, {interval}, p {difference.p:.2g}."


def unknown_sentence(comparison: Comparison) -> str:
    """Say that a metric cannot be compared."""
    return f"{_subject(comparison)} cannot be compared: too few users, or a denominator of 0."


def _subject(comparison: Comparison) -> str:
    return f"{comparison.metric} of {comparison.variant}"


def _format_difference(comparison: Comparison, difference: Difference) -> str:
    lift = "" if comparison.lift is None else f" ({comparison.lift.value:+.1%})"
    return f"{difference.value:+.3g}{lift}, {_format_interval(difference.interval)}"


def _format_interval(interval: Interval) -> str:
    return f"interval {interval.low:+.3g} to {interval.high:+.3g}"
