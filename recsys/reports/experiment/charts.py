"""Plots of an experiment: forest plots of its differences, and the cumulative difference by day."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from recsys.experiments.analysis.results import Difference, Direction, Interval, Look
from recsys.reports.charts import BAD, GOOD, INK, LINE, OPEN, QUIET, Chart, chart, keep_bottom_spine, short
from recsys.reports.experiment.wording import Finding, bounds, estimate, level
from recsys.reports.wording import number

_LABELS, _PLOT, _VALUES = 112.0, 216.0, 172.0  # points, side by side in a forest
_WIDTH = _LABELS + _PLOT + _VALUES
_TITLE, _ROW, _TICKS, _GAP = 20.0, 19.0, 18.0, 12.0
_DAILY_HEIGHT = 250.0
_LONGEST_LABEL, _LONGEST_TITLE = 21, 52
_MOST_DAYS_NAMED = 5
_STARTING = 3
"""The intervals of the first third of the days may leave the plot: those of few users would flatten all others."""

_MARKS: dict[Finding, tuple[str, str]] = {
    "better": (GOOD, "o"),
    "holds": (GOOD, "o"),
    "worse": (BAD, "D"),
    "violated": (BAD, "D"),
}


@dataclass(frozen=True)
class Row:
    """A difference in a forest plot."""

    label: str
    difference: Difference | None
    finding: Finding


@dataclass(frozen=True)
class Panel:
    """Differences in the same unit, on one axis."""

    title: str
    direction: Direction
    rows: tuple[Row, ...]
    margin: float | None = None
    """Of a guardrail: the largest change for the worse that is acceptable."""

    @property
    def limit(self) -> float | None:
        """The difference at which a guardrail is violated."""
        if self.margin is None:
            return None
        return -self.margin if self.direction == "higher" else self.margin


def forest(panels: Sequence[Panel], caption: str) -> Chart:
    """Draw a forest plot: differences with their intervals, in panels one above the other, with zeros aligned."""
    text = f"{caption} " + " ".join(_in_words(panel) for panel in panels)
    return chart(lambda: _forest_figure(panels), text, caption)


def daily(looks: Sequence[Look], alpha: float, caption: str) -> Chart:
    """Draw the difference known at the end of each day, of one metric and variant.

    Args:
        looks: At least one, by day.
        alpha: One minus the confidence level of the intervals.
        caption: What the plot shows.
    """
    last = looks[-1]
    text = (
        f"{caption} At the end of {last.day}: {number(last.difference, '+')}, interval {bounds(last.interval)}, "
        f"always-valid interval {bounds(last.always_valid)}."
    )
    return chart(lambda: _daily_figure(looks, alpha), text, caption)


def _in_words(panel: Panel) -> str:
    margin = "" if panel.margin is None else f", margin {number(panel.margin)}"
    rows = "; ".join(f"{row.label} {estimate(row.difference)}, {row.finding}" for row in panel.rows)
    return f"{panel.title}, {panel.direction} is better{margin}: {rows}."


def _forest_figure(panels: Sequence[Panel]) -> Figure:
    height = sum(_panel_height(panel) for panel in panels)
    figure = Figure(figsize=(_WIDTH / 72, height / 72))
    top = height
    for panel in panels:
        bottom = top - _TITLE - _ROW * len(panel.rows)
        axes = figure.add_axes((_LABELS / _WIDTH, bottom / height, _PLOT / _WIDTH, _ROW * len(panel.rows) / height))
        _draw_panel(axes, panel)
        title = (top - _TITLE / 2) / height
        figure.text(0, title, short(panel.title, _LONGEST_TITLE), weight="bold", va="center")
        figure.text(1, title, f"{panel.direction} is better", color=QUIET, ha="right", va="center")
        top -= _panel_height(panel)
    return figure


def _panel_height(panel: Panel) -> float:
    return _TITLE + _ROW * len(panel.rows) + _TICKS + _GAP


def _draw_panel(axes: Axes, panel: Panel) -> None:
    reach = _half_range(panel)
    axes.set(xlim=(-reach, reach), ylim=(len(panel.rows) - 0.5, -0.5))
    keep_bottom_spine(axes)
    axes.axvline(0, color=QUIET, linewidth=1)
    if panel.limit is not None:
        axes.axvline(panel.limit, color=BAD, linewidth=1.2, linestyle=(0, (4, 3)))
    for y, row in enumerate(panel.rows):
        _draw_row(axes, y, row)
    is_empty = all(row.difference is None for row in panel.rows)
    axes.xaxis.set_major_locator(NullLocator() if is_empty else MaxNLocator(nbins=4, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(_tick_formatter(reach))


def _draw_row(axes: Axes, y: int, row: Row) -> None:
    beside = axes.get_yaxis_transform()
    left, right = -_LABELS / _PLOT, 1 + _VALUES / _PLOT
    axes.text(left, y, short(row.label, _LONGEST_LABEL), transform=beside, va="center")
    if row.difference is None:
        axes.text(right, y, "cannot be compared", color=QUIET, transform=beside, ha="right", va="center")
        return
    value, interval = row.difference.value, row.difference.interval
    colour, shape = _MARKS.get(row.finding, (OPEN, "o"))
    axes.hlines(y, interval.low, interval.high, colors=colour, linewidth=2)
    axes.plot(value, y, shape, color=colour, markersize=5.5, zorder=3)
    axes.text(right, y, estimate(row.difference), transform=beside, ha="right", va="center")


def _half_range(panel: Panel) -> float:
    """Return the length of the axis to either side of zero."""
    intervals = [row.difference.interval for row in panel.rows if row.difference is not None]
    ends = [abs(end) for interval in intervals for end in (interval.low, interval.high)]
    return 1.08 * max([*ends, panel.margin or 0.0]) or 1.0


def _daily_figure(looks: Sequence[Look], alpha: float) -> Figure:
    figure = Figure(figsize=(_WIDTH / 72, _DAILY_HEIGHT / 72))
    axes = figure.add_axes((0.11, 0.11, 0.84, 0.77), facecolor="none")
    days = [look.day.toordinal() for look in looks]
    padded, x = (
        [looks[0], *looks, looks[-1]],
        [days[0] - 0.4, *days, days[-1] + 0.4],
    )  # so that a single day has a width
    axes.axhline(0, color=INK, linewidth=1)
    always, fixed = [look.always_valid for look in padded], [look.interval for look in padded]
    _draw_band(axes, x, always, 0.12, f"{level(alpha)} always-valid interval")
    _draw_band(axes, x, fixed, 0.35, f"{level(alpha)} interval")
    axes.plot(
        days, [look.difference for look in looks], "o-", color=GOOD, linewidth=2, markersize=4, label="difference"
    )
    axes.set(xlim=(x[0], x[-1]), ylim=_vertical_limits(looks))
    _label_days(axes, days)
    axes.legend(loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=3, frameon=False, reverse=True, borderpad=0)
    return figure


def _draw_band(axes: Axes, x: Sequence[float], intervals: Sequence[Interval], opacity: float, name: str) -> None:
    low, high = [interval.low for interval in intervals], [interval.high for interval in intervals]
    axes.fill_between(x, low, high, color=GOOD, alpha=opacity, linewidth=0, label=name)
    for ends in (low, high):
        axes.plot(x, ends, color=GOOD, linewidth=0.8, linestyle="-" if opacity > 0.2 else (0, (4, 3)))


def _vertical_limits(looks: Sequence[Look]) -> tuple[float, float]:
    """Return the ends of the vertical axis."""
    later = looks[len(looks) // _STARTING :]
    ends = [end for look in later for each in (look.interval, look.always_valid) for end in (each.low, each.high)]
    low, high = min(0.0, *ends), max(0.0, *ends)
    space = 0.06 * (high - low) or 1.0
    return low - space, high + space


def _label_days(axes: Axes, days: Sequence[int]) -> None:
    step = -(-len(days) // _MOST_DAYS_NAMED)
    axes.set_xticks(days[::step], [date.fromordinal(day).isoformat() for day in days[::step]])
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6))
    axes.yaxis.set_major_formatter(_tick_formatter(max(map(abs, axes.get_ylim()))))
    axes.grid(axis="y", color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=8)


def _tick_formatter(reach: float) -> Callable[[float, float], str]:
    """Return a formatter of ticks that writes 0 where rounding leaves a number such as 1e-17."""
    return lambda value, _: number(value, "+") if abs(value) > reach / 1e6 else "0"
