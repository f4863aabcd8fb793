"""Figures and findings of an experiment in words."""

from datetime import UTC, datetime
from typing import Literal

from recsys.experiments.analysis.results import AlwaysValid, Comparison, Difference, Interval, Result, Verdict
from recsys.experiments.holdouts import OUTSIDE
from recsys.reports.wording import UNKNOWN, number, percent

Finding = Literal[
    "better", "worse", "not shown", "holds", "violated", "not shown to hold", "too few to tell", "unknown"
]
"""Of a comparison; the fourth to the sixth are findings of a guardrail."""

TOO_FEW: Finding = "too few to tell"

_HEADLINES = {
    "ship": "Ship",
    "no-ship": "Do not ship",
    "inconclusive": "Inconclusive",
    "running": "Still running",
    "invalid": "Invalid",
}
_MEANINGS = {
    "ship": "The variant is better than control, and no guardrail is worse by more than its margin.",
    "no-ship": "The variant is worse than control in a primary metric or a guardrail: keep control.",
    "inconclusive": "The data show neither that the variant is better than control nor that it is worse.",
    "running": "There is no verdict yet; findings may still change.",
    "invalid": "The set-up is faulty: do not use the differences, which the fault alone may cause.",
}


_MEANINGS_OF_HOLDOUT = {
    "ship": "Users outside of the holdout do better than its users: what the experiments have changed pays off.",
    "no-ship": "Users outside of the holdout do worse than its users: something that was shipped or is tested costs.",
    "inconclusive": "The data do not show whether users outside of the holdout do better than its users.",
}


def headline(verdict: Verdict) -> str:
    """Return the verdict as a headline."""
    if verdict.variant == OUTSIDE:
        return "The experiments pay off"
    return " ".join(filter(None, (_HEADLINES[verdict.name], verdict.variant)))


def meaning(result: Result) -> str:
    """Return what the verdict means, in a sentence."""
    if result.type == "aa" and result.verdict.name == "inconclusive":
        return "The variants are the same, so there is nothing to ship; the test shows whether the set-up is sound."
    is_holdout = result.variants[-1].key == OUTSIDE
    return (_MEANINGS_OF_HOLDOUT if is_holdout else _MEANINGS).get(result.verdict.name, _MEANINGS[result.verdict.name])


def finding(comparison: Comparison, alpha: float) -> Finding:
    """Return what a comparison shows, by the adjusted p value where there is one."""
    decisive, guard = comparison.decisive, comparison.guard
    if decisive is None:
        return "unknown"
    if not comparison.can_tell and (guard is None or guard.state == "open"):
        return TOO_FEW
    if guard is not None:
        return "not shown to hold" if guard.state == "open" else guard.state
    if deciding_p(comparison, decisive) > alpha:
        return "not shown"
    return "better" if comparison.improves(decisive.value) else "worse"


def deciding_p(comparison: Comparison, decisive: Difference) -> float:
    """Return the p value that the finding rests on."""
    return decisive.p if comparison.adjusted_p is None else comparison.adjusted_p


def p_value(p: float | None) -> str:
    """Write a p value; below 0.001 its digits mean nothing."""
    if p is None:
        return UNKNOWN
    return "< 0.001" if p < 0.001 else f"{p:.3g}"


def tested(found: Difference | AlwaysValid | None) -> str:
    """Write the p value of a difference."""
    return p_value(None if found is None else found.p)


def bounds(interval: Interval) -> str:
    """Write the ends of an interval of a difference."""
    return f"[{number(interval.low, '+')}, {number(interval.high, '+')}]"


def estimate(difference: Difference | None) -> str:
    """Write a difference with its interval."""
    return UNKNOWN if difference is None else f"{number(difference.value, '+')} {bounds(difference.interval)}"


def stopping(found: AlwaysValid | None) -> str:
    """Write the always-valid interval, by which an experiment may be stopped on any day."""
    return UNKNOWN if found is None else bounds(found.interval)


def lift(comparison: Comparison) -> str:
    """Write the relative difference with its interval."""
    found = comparison.lift
    if found is None:
        return UNKNOWN
    low, high = percent(found.interval.low, "+"), percent(found.interval.high, "+")
    return f"{percent(found.value, '+')} [{low}, {high}]"


def level(alpha: float) -> str:
    """Write the confidence level of an interval; 95% for an alpha of 0.05."""
    return f"{100 * (1 - alpha):.4g}%"


def instant(time: datetime) -> str:
    """Write an instant to the minute."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
