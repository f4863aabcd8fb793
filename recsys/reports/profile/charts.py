"""Plots of a data profile: one quantity over the days of the log, or over the hours of the day."""

from collections.abc import Sequence
from datetime import datetime

from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from recsys.reports.charts import GOOD, LINE, QUIET, Chart, chart
from recsys.reports.wording import number

_WIDTH, _HEIGHT = 460.0, 150.0  # points
_MOST_NAMED = 5


def by_day(days: Sequence[datetime], values: Sequence[float], noun: str) -> Chart:
    """Draw a quantity over the days of the log."""
    caption = f"{noun} per day."
    busiest = sorted(zip(values, days, strict=True), reverse=True)[:_MOST_NAMED]
    words = ", ".join(f"{number(value)} on {day:%Y-%m-%d}" for value, day in busiest)
    return chart(lambda: _by_day(days, values), f"{caption} Highest: {words}.", caption)


def by_hour(values: Sequence[float], noun: str) -> Chart:
    """Draw a quantity over the 24 hours of the day."""
    caption = f"{noun} by hour of the day, UTC."
    words = ", ".join(f"{number(value)} at {hour}:00" for hour, value in enumerate(values))
    return chart(lambda: _by_hour(values), f"{caption} {words}.", caption)


def _by_day(days: Sequence[datetime], values: Sequence[float]) -> Figure:
    figure, axes = _figure()
    at = date2num(days)
    axes.fill_between(at, values, step="mid", color=GOOD, alpha=0.25, linewidth=0)
    axes.step(at, values, where="mid", color=GOOD, linewidth=1.2)
    axes.margins(x=0.01)
    locator = AutoDateLocator(maxticks=8)
    axes.xaxis_date()
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, show_offset=False))
    axes.set_ylim(bottom=0)
    return figure


def _by_hour(values: Sequence[float]) -> Figure:
    figure, axes = _figure()
    axes.bar(range(24), values, width=0.8, color=GOOD)
    axes.set_xticks(range(0, 24, 3))
    axes.set_ylim(bottom=0)
    return figure


def _figure() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH / 72, _HEIGHT / 72))
    axes = figure.add_axes((0.11, 0.14, 0.87, 0.80), facecolor="none")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(LINE)
    axes.grid(axis="y", color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(color=LINE, labelcolor=QUIET, labelsize=8, length=2)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    return figure, axes
