"""Says figures of a result in sentences."""

from recsys.experiments.analysis.results import Comparison, Difference, Interleaving, Interval
from recsys.experiments.settings import AnalysisSettings


def difference_sentence(comparison: Comparison) -> str:
    """Say that a metric is better or worse, and by how much."""
    decisive = comparison.decisive
    if decisive is None:
        return unknown_sentence(comparison)
    side = "better" if comparison.improves(decisive.value) else "worse"
    p = decisive.p if comparison.adjusted_p is None else comparison.adjusted_p
    return f"{_subject(comparison)} is {side}: {_figures(comparison, decisive)}, p {p:.2g}."


def unseen_sentence(comparison: Comparison, analysis: AnalysisSettings) -> str:
    """Say that no difference is shown, and which one would have been."""
    decisive, detectable = comparison.decisive, comparison.detectable
    if decisive is None or detectable is None:
        return unknown_sentence(comparison)
    relative = "" if detectable.relative is None else f" ({detectable.relative:.1%} of control)"
    return (
        f"{_subject(comparison)}: no difference is shown, {_figures(comparison, decisive)}; one of"
        f" {detectable.absolute:.3g}{relative} would have been with {analysis.power:.0%} power."
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
    return f"{states[guard.state]}: {_figures(comparison, decisive)}, margin {guard.margin:g}."


def preference_sentence(found: Interleaving) -> str:
    """Say whose sales were bought."""
    counted = ", ".join(f"{n:,.0f} from {key}" for key, n in found.credits.items())
    if found.difference is None:
        return f"Purchases: {counted}; too few to compare."
    interval = _interval(found.difference.interval)
    return f"Purchases: {counted}; {found.difference.value:+.3g} a user, {interval}, p {found.difference.p:.2g}."


def unknown_sentence(comparison: Comparison) -> str:
    """Say that a metric cannot be compared."""
    return f"{_subject(comparison)} cannot be compared: too few users, or nothing to divide by."


def _subject(comparison: Comparison) -> str:
    return f"{comparison.metric} of {comparison.variant}"


def _figures(comparison: Comparison, difference: Difference) -> str:
    lift = "" if comparison.lift is None else f" ({comparison.lift.value:+.1%})"
    return f"{difference.value:+.3g}{lift}, {_interval(difference.interval)}"


def _interval(interval: Interval) -> str:
    return f"interval {interval.low:+.3g} to {interval.high:+.3g}"
