"""Plots of an experiment: its differences, and what each day told."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from recsys.experiments.analysis.results import Difference, Direction, Interval, Look
from recsys.reports.charts import BAD, GOOD, INK, LINE, OPEN, QUIET, Chart, chart, lie_bare, short
from recsys.reports.experiment.wording import Finding, bounds, estimate, level
from recsys.reports.wording import number

_LABELS, _PLOT, _VALUES = 112.0, 216.0, 172.0  # points, side by side in a forest
_WIDTH = _LABELS + _PLOT + _VALUES
_TITLE, _ROW, _TICKS, _GAP = 20.0, 19.0, 18.0, 12.0
_DAILY_HEIGHT = 250.0
_LONGEST_LABEL, _LONGEST_TITLE = 21, 52
_MOST_DAYS_NAMED = 5
_STARTING = 3
"""The first third of the days may leave the plot: the intervals of few users would flatten all others."""

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
    """Differences in one unit, on one axis."""

    title: str
    direction: Direction
    rows: tuple[Row, ...]
    margin: float | None = None
    """Of a guardrail: so much worse is acceptable."""

    @property
    def limit(self) -> float | None:
        """Where the margin ends."""
        if self.margin is None:
            return None
        return -self.margin if self.direction == "higher" else self.margin


def forest(panels: Sequence[Panel], caption: str) -> Chart:
    """Draw differences with their intervals; panels stand one above the other, all zeros in one line."""
    text = f"{caption} " + " ".join(_in_words(panel) for panel in panels)
    return chart(lambda: _forest_figure(panels), text, caption)


def daily(looks: Sequence[Look], alpha: float, caption: str) -> Chart:
    """Draw what each day's end told of one metric and variant.

    Args:
        looks: At least one, by day.
        alpha: One minus the intervals' level.
        caption: What is seen.
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
    reach = _reach(panel)
    axes.set(xlim=(-reach, reach), ylim=(len(panel.rows) - 0.5, -0.5))
    lie_bare(axes)
    axes.axvline(0, color=QUIET, linewidth=1)
    if panel.limit is not None:
        axes.axvline(panel.limit, color=BAD, linewidth=1.2, linestyle=(0, (4, 3)))
    for place, row in enumerate(panel.rows):
        _draw_row(axes, place, row)
    is_empty = all(row.difference is None for row in panel.rows)
    axes.xaxis.set_major_locator(NullLocator() if is_empty else MaxNLocator(nbins=4, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(_tick(reach))


def _draw_row(axes: Axes, place: int, row: Row) -> None:
    beside = axes.get_yaxis_transform()
    left, right = -_LABELS / _PLOT, 1 + _VALUES / _PLOT
    axes.text(left, place, short(row.label, _LONGEST_LABEL), transform=beside, va="center")
    if row.difference is None:
        axes.text(right, place, "cannot be compared", color=QUIET, transform=beside, ha="right", va="center")
        return
    value, interval = row.difference.value, row.difference.interval
    colour, shape = _MARKS.get(row.finding, (OPEN, "o"))
    axes.hlines(place, interval.low, interval.high, colors=colour, linewidth=2)
    axes.plot(value, place, shape, color=colour, markersize=5.5, zorder=3)
    axes.text(right, place, estimate(row.difference), transform=beside, ha="right", va="center")


def _reach(panel: Panel) -> float:
    """Return how far the axis goes to either side of zero."""
    intervals = [row.difference.interval for row in panel.rows if row.difference is not None]
    ends = [abs(end) for interval in intervals for end in (interval.low, interval.high)]
    return 1.08 * max([*ends, panel.margin or 0.0]) or 1.0


def _daily_figure(looks: Sequence[Look], alpha: float) -> Figure:
    figure = Figure(figsize=(_WIDTH / 72, _DAILY_HEIGHT / 72))
    axes = figure.add_axes((0.11, 0.11, 0.84, 0.77), facecolor="none")
    days = [look.day.toordinal() for look in looks]
    padded, x = [looks[0], *looks, looks[-1]], [days[0] - 0.4, *days, days[-1] + 0.4]  # a single day has a width too
    axes.axhline(0, color=INK, linewidth=1)
    always, fixed = [look.always_valid for look in padded], [look.interval for look in padded]
    _draw_band(axes, x, always, 0.12, f"{level(alpha)} always-valid interval")
    _draw_band(axes, x, fixed, 0.35, f"{level(alpha)} interval")
    axes.plot(
        days, [look.difference for look in looks], "o-", color=GOOD, linewidth=2, markersize=4, label="difference"
    )
    axes.set(xlim=(x[0], x[-1]), ylim=_visible(looks))
    _label_days(axes, days)
    axes.legend(loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=3, frameon=False, reverse=True, borderpad=0)
    return figure


def _draw_band(axes: Axes, x: Sequence[float], intervals: Sequence[Interval], strength: float, name: str) -> None:
    low, high = [interval.low for interval in intervals], [interval.high for interval in intervals]
    axes.fill_between(x, low, high, color=GOOD, alpha=strength, linewidth=0, label=name)
    for ends in (low, high):
        axes.plot(x, ends, color=GOOD, linewidth=0.8, linestyle="-" if strength > 0.2 else (0, (4, 3)))


def _visible(looks: Sequence[Look]) -> tuple[float, float]:
    """Return the ends of the vertical axis."""
    settled = looks[len(looks) // _STARTING :]
    ends = [end for look in settled for each in (look.interval, look.always_valid) for end in (each.low, each.high)]
    low, high = min(0.0, *ends), max(0.0, *ends)
    space = 0.06 * (high - low) or 1.0
    return low - space, high + space


def _label_days(axes: Axes, days: Sequence[int]) -> None:
    step = -(-len(days) // _MOST_DAYS_NAMED)
    axes.set_xticks(days[::step], [date.fromordinal(day).isoformat() for day in days[::step]])
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6))
    axes.yaxis.set_major_formatter(_tick(max(map(abs, axes.get_ylim()))))
    axes.grid(axis="y", color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=8)


def _tick(reach: float) -> Callable[[float, float], str]:
    """Return what writes a tick; rounding may leave 1e-17 where it means zero."""
    return lambda value, _: number(value, "+") if abs(value) > reach / 1e6 else "0"
