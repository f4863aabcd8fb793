"""Figures of taggers in words."""

from math import isfinite

from recsys.images.lab.evaluation import Comparison, LearningCurve
from recsys.metrics import Estimate
from recsys.reports.wording import UNKNOWN


def share(value: float | None) -> str:
    """Write a share in percent with one digit after the point; a dash for the undefined."""
    return UNKNOWN if value is None else f"{100 * value:.1f} %"


def interval(estimate: Estimate) -> str:
    """Write the interval of a share in percent."""
    return f"{100 * estimate.low:.1f} … {100 * estimate.high:.1f} %"


def comparison_in_words(found: Comparison, previous: str) -> str:
    """Write the difference to the version before."""
    low, high = 100 * found.difference.low, 100 * found.difference.high
    verdict = "could be chance" if found.p_value >= 0.05 else "unlikely to be chance"
    return (
        f"Accuracy {100 * found.difference.value:+.1f} points against {previous} on the same test photos "
        f"(95 % interval {low:+.1f} … {high:+.1f}): {found.only_new} only this one has right, {found.only_old} only "
        f"that one; p = {found.p_value:.3f}, {verdict}."
    )


def curve_in_words(curve: LearningCurve) -> str:
    """Write how many more labels the target accuracy needs."""
    if not curve.points:
        return "Too few photos for a learning curve."
    learnt, last = curve.points[-1]
    target = f"{100 * curve.target:.3g} %"
    if last.value >= curve.target:
        return f"{share(last.value)} of photos are right with {learnt:,} learnt: the target of {target} is reached."
    if curve.needed is None:
        return f"Too few photos to say how many more {target} needs."
    if not isfinite(curve.needed.low):
        return (
            f"The curve ends below {target}: more labels alone will not reach it. Correct labels with 'recsys tagger "
            "clean', fine-tune, or take a stronger base network."
        )
    most = f"{_more(curve.needed.high, learnt):,}" if isfinite(curve.needed.high) else "any number, or never"
    likely = f"some {_more(curve.needed.value, learnt):,}" if isfinite(curve.needed.value) else "an unknown number of"
    return f"{target} needs {likely} more labels; with 80 % confidence {_more(curve.needed.low, learnt):,} to {most}."


def _more(needed: float, learnt: int) -> int:
    """Return the labels to add, at two digits: a curve says no more."""
    more = max(needed - learnt, 0.0)
    return int(float(f"{more:.2g}"))
