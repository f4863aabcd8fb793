"""Plots of a tagger: learning curve and calibration."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from recsys.images.lab.evaluation import Bin, LearningCurve
from recsys.reports.charts import GOOD, LINE, QUIET, Chart, chart
from recsys.reports.tagger.wording import share

_INCHES = (4.4, 3.2)


def calibration(bins: Sequence[Bin]) -> Chart:
    """Draw the share of right answers over the predicted probability, with the diagonal."""
    words = "; ".join(f"predicted {share(each.confidence)}, right {share(each.accuracy.value)}" for each in bins)
    caption = "Right answers by predicted probability, in bins of equally many photos; lines are 95 % intervals."
    return chart(lambda: _calibration(bins), f"{caption} {words}.", caption)


def accuracy_by_photos(curve: LearningCurve) -> Chart:
    """Draw the accuracy over the number of learnt photos, with the target."""
    words = "; ".join(f"{photos:,} photos: {share(found.value)}" for photos, found in curve.points)
    caption = "Accuracy by number of learnt photos, of a linear head; the dashed line is the target."
    return chart(lambda: _accuracy_by_photos(curve), f"{caption} {words}.", caption)


def _calibration(bins: Sequence[Bin]) -> Figure:
    figure, axes = _square("predicted probability", "share right")
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle=(0, (4, 3)))
    axes.vlines(
        [each.confidence for each in bins],
        [each.accuracy.low for each in bins],
        [each.accuracy.high for each in bins],
        colors=GOOD,
        linewidth=1.5,
    )
    axes.plot([each.confidence for each in bins], [each.accuracy.value for each in bins], "o", color=GOOD, markersize=5)
    return figure


def _accuracy_by_photos(curve: LearningCurve) -> Figure:
    figure, axes = _square("photos learnt, logarithmic", "accuracy")
    photos = [at for at, _ in curve.points]
    axes.set_xscale("log")
    axes.axhline(curve.target, color=QUIET, linewidth=1, linestyle=(0, (4, 3)))
    lows, highs = [found.low for _, found in curve.points], [found.high for _, found in curve.points]
    axes.vlines(photos, lows, highs, colors=GOOD, linewidth=1.5)
    axes.plot(photos, [found.value for _, found in curve.points], "o-", color=GOOD, linewidth=2, markersize=5)
    axes.set_xticks(photos, [f"{at:,}" for at in photos])
    axes.minorticks_off()
    return figure


def _square(across: str, up: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=_INCHES)
    axes = figure.add_axes((0.14, 0.16, 0.82, 0.80), facecolor="none")
    axes.spines[:].set_visible(False)
    axes.grid(color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", length=0, labelsize=8)
    axes.set_xlabel(across, color=QUIET, fontsize=8)
    axes.set_ylabel(up, color=QUIET, fontsize=8)
    return figure, axes
