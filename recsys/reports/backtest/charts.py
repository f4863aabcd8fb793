"""Plots of a backtest, narrow enough for a phone; the numbers are in the tables beside them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from recsys.metrics import Estimate
from recsys.reports.backtest.wording import format_difference, format_metric
from recsys.reports.charts import BAD, GOOD, INK, LINE, OPEN, QUIET, Chart, chart, keep_bottom_spine, short
from recsys.reports.wording import number

MOST_SERIES = 3
_WIDTH, _LABELS, _RIGHT = 316.0, 124.0, 8.0  # points
_ROW, _SERIES, _ABOVE, _BELOW = 12.0, 7.0, 20.0, 34.0
_CURVE_HEIGHT = 230.0
_LONGEST_LABEL = 25
_MARKS = ((GOOD, "o"), (BAD, "D"), (OPEN, "s"))


@dataclass(frozen=True)
class Row:
    """The estimates of all series at one label."""

    label: str
    estimates: tuple[Estimate | None, ...]


@dataclass(frozen=True)
class Decile:
    """Sales of about the same predicted probability, and the share of them that was bought."""

    predicted: float
    observed: Estimate


def dots(rows: Sequence[Row], series: Sequence[str], unit: str, caption: str, zero: bool = False) -> Chart:
    """Draw estimates with their intervals, one row per label.

    Args:
        rows: Each with one estimate per series; None is not drawn.
        series: At most MOST_SERIES names; two or more are named in a legend above.
        unit: Label of the axis.
        caption: What the plot shows.
        zero: Whether the estimates are differences, written with a sign and drawn with a line at 0.
    """
    write = format_difference if zero else format_metric
    words = "; ".join(f"{row.label}: {_in_words(row, series, write)}" for row in rows)
    return chart(lambda: _dots(rows, series, unit, zero), f"{caption} {words}.", caption)


def _in_words(row: Row, series: Sequence[str], write: Callable[[Estimate | None], str]) -> str:
    return ", ".join(
        f"{name} {write(each)}" for name, each in zip(series, row.estimates, strict=True) if each is not None
    )


def bars(rows: Sequence[tuple[str, float, float | None]], series: Sequence[str], unit: str, caption: str) -> Chart:
    """Draw two bars per label, around zero; the second may be unknown."""
    words = "; ".join(f"{label}: {number(one, '+')}, {number(other, '+')}" for label, one, other in rows)
    return chart(lambda: _bars(rows, series, unit), f"{caption} {', '.join(series)}. {words}.", caption)


def curve(points: Sequence[tuple[float, Estimate]], unit: str, caption: str) -> Chart:
    """Draw estimates with their intervals over a quantity."""
    words = "; ".join(f"{x:g}: {format_metric(each)}" for x, each in points)
    return chart(lambda: _curve(points, unit), f"{caption} {words}.", caption)


def calibration(deciles: Sequence[Decile], caption: str) -> Chart:
    """Draw the calibration curve with the diagonal, on logarithmic axes; deciles at 0 are left out of the plot."""
    words = "; ".join(f"predicted {number(each.predicted)}, observed {number(each.observed.value)}" for each in deciles)
    return chart(lambda: _calibration(deciles), f"{caption} {words}.", caption)


def _dots(rows: Sequence[Row], series: Sequence[str], unit: str, zero: bool) -> Figure:
    abreast = max((sum(found is not None for found in row.estimates) for row in rows), default=1)
    figure, axes = _rows_figure([row.label for row in rows], abreast, len(series) > 1, unit)
    axes.grid(axis="x", color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    if zero:
        axes.axvline(0, color=QUIET, linewidth=1)
    spacing = 0.0 if abreast == 1 else 1.2 * _SERIES / (_ROW + _SERIES * abreast)  # as a share of a row
    for order, (name, mark) in enumerate(zip(series, _MARKS, strict=False)):
        offset = spacing * (order - (len(series) - 1) / 2)
        _draw_series(axes, [(y + offset, row.estimates[order]) for y, row in enumerate(rows)], name, mark)
    if len(series) > 1:
        _legend(axes, len(series))
    return figure


def _draw_series(axes: Axes, points: Sequence[tuple[float, Estimate | None]], name: str, mark: tuple[str, str]) -> None:
    colour, shape = mark
    known = [(y, found) for y, found in points if found is not None]
    for y, found in known:
        axes.hlines(y, found.low, found.high, colors=colour, linewidth=2)
    axes.plot([found.value for _, found in known], [y for y, _ in known], shape, color=colour, markersize=5, label=name)


def _rows_figure(labels: Sequence[str], abreast: int, has_legend: bool, unit: str) -> tuple[Figure, Axes]:
    above = _ABOVE if has_legend else 4.0
    inner = len(labels) * (_ROW + _SERIES * abreast)
    height = above + inner + _BELOW
    figure = Figure(figsize=(_WIDTH / 72, height / 72))
    plot = _WIDTH - _LABELS - _RIGHT
    axes = figure.add_axes((_LABELS / _WIDTH, _BELOW / height, plot / _WIDTH, inner / height))
    keep_bottom_spine(axes)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 5, 10]))
    axes.set_xlabel(unit, color=QUIET, fontsize=8)
    beside = axes.get_yaxis_transform()
    for y, label in enumerate(labels):
        axes.text(-_LABELS / plot, y, short(label, _LONGEST_LABEL), transform=beside, va="center")
    return figure, axes


def _bars(rows: Sequence[tuple[str, float, float | None]], series: Sequence[str], unit: str) -> Figure:
    figure, axes = _rows_figure([label for label, _, _ in rows], 2, True, unit)
    axes.barh([y - 0.17 for y in range(len(rows))], [one for _, one, _ in rows], 0.32, color=GOOD, label=series[0])
    if len(series) > 1:
        axes.barh(
            [y + 0.19 for y in range(len(rows))],
            [other or 0 for _, _, other in rows],
            0.28,
            facecolor="none",
            edgecolor=OPEN,
            linewidth=1.4,
            label=series[1],
        )
    axes.axvline(0, color=QUIET, linewidth=1)
    _legend(axes, len(series))
    return figure


def _curve(points: Sequence[tuple[float, Estimate]], unit: str) -> Figure:
    figure, axes = _square(unit)
    x = [at for at, _ in points]
    axes.plot(x, [found.value for _, found in points], "o-", color=GOOD, linewidth=2, markersize=5)
    for at, found in points:
        axes.vlines(at, found.low, found.high, colors=GOOD, linewidth=1.5)
    axes.set_xticks(x, [f"{at:g}" for at in x])
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6))
    return figure


def _calibration(deciles: Sequence[Decile]) -> Figure:
    figure, axes = _square("predicted probability, logarithmic")
    axes.set_ylabel("observed share of purchases, logarithmic", color=QUIET, fontsize=8)
    drawn = [each for each in deciles if each.predicted > 0 and each.observed.value > 0]
    ends = [end for each in drawn for end in (each.predicted, each.observed.value, each.observed.high)]
    lowest, highest = min(ends, default=0.001) / 1.6, max(ends, default=1.0) * 1.6
    axes.set(xscale="log", yscale="log", xlim=(lowest, highest), ylim=(lowest, highest))
    axes.plot([lowest, highest], [lowest, highest], color=QUIET, linewidth=1, linestyle=(0, (4, 3)))
    for each in drawn:
        axes.vlines(each.predicted, max(each.observed.low, lowest), each.observed.high, colors=GOOD, linewidth=1.5)
    axes.plot(
        [each.predicted for each in drawn], [each.observed.value for each in drawn], "o", color=GOOD, markersize=5
    )
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(_format_percent)
        axis.set_minor_formatter(NullFormatter())
    return figure


def _square(unit: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH / 72, _CURVE_HEIGHT / 72))
    axes = figure.add_axes((0.17, 0.16, 0.79, 0.80), facecolor="none")
    axes.spines[:].set_visible(False)
    axes.grid(color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", length=0, labelsize=8)
    axes.set_xlabel(unit, color=QUIET, fontsize=8)
    return figure, axes


def _legend(axes: Axes, columns: int) -> None:
    axes.legend(
        loc="lower right",
        bbox_to_anchor=(1.03, 1.0),
        borderaxespad=0.1,
        ncols=columns,
        frameon=False,
        labelcolor=INK,
        fontsize=8,
        handletextpad=0.4,
        columnspacing=1.2,
    )


def _format_percent(value: float, _: float) -> str:
    return f"{100 * value:g}%"
