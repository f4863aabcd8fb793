"""The plot of attractiveness: one figure with the estimate and interval of each feature, by month and by country."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from recsys.errors import ConfigurationError, EmptyInputError
from recsys.images.attractiveness import ALL, group_visits, percent, strongest_and_weakest, total
from recsys.wording import plural

MAP_FAMILY = "theme"
"""The family that is shown by month and country; there are too many tags to show."""

_MAX_MAP_ROWS = 30
_MAX_MAP_COLUMNS = 12
_ROW_INCHES = 0.27
_ATTRACTIVE, _UNATTRACTIVE, _UNSURE, _PALE = "#2166ac", "#b2182b", "#8a8a8a", "#f2f2f2"
_TICKS = np.array([-0.9, -0.75, -0.5, -0.25, 0, 0.5, 1, 2, 4, 9])
_FULL_COLOUR_LOG = np.log(2)
"""The colour scale is saturated from twice and from half the expected share of the visits."""
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "attractiveness",  # the same table gives the same bytes
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 9,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "text.parse_math": False,  # a tag may contain a $
}


def write_attractiveness_plot(table: pd.DataFrame, path: Path, top: int = 10) -> None:
    """Write the figure to a file; the same table gives the same bytes.

    Args:
        table: The result of `recsys.images.attractiveness.attractiveness`.
        path: Its suffix is .png or .svg.
        top: Maximum number of strongest and of weakest features shown per family.

    Raises:
        ConfigurationError: If the suffix is not .png or .svg.
        EmptyInputError: If no row has an attractiveness.
    """
    if path.suffix not in (".png", ".svg"):
        raise ConfigurationError(f"plot '{path}' ends in '{path.suffix}', must end in .png or .svg: rename it")
    with matplotlib.rc_context(_STYLE):
        metadata = {"Date": None} if path.suffix == ".svg" else {}
        _draw_figure(table, top).savefig(path, dpi=130, metadata=metadata)


def _draw_figure(table: pd.DataFrame, top: int) -> Figure:
    """Draw a forest plot for each family and, for themes, a heat map by month and one by country."""
    overall = total(table).dropna(subset=["attractiveness"])
    if overall.empty:
        raise EmptyInputError(
            f"table attractiveness has {plural(len(table), 'row')}, none with a value because of too few sales, needs "
            "at least 1 for the plot: choose more days, or lower attractiveness.min_sales"
        )
    families = {str(family): rows for family, rows in overall.groupby("family")}
    map_features = _map_features(families[MAP_FAMILY]) if MAP_FAMILY in families else []
    heights = [min(2 * top, max(map(len, families.values()))) + 4, len(map_features) + 5][: 1 + bool(map_features)]
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.12)
    figure = Figure(figsize=(15, 1 + _ROW_INCHES * sum(heights)), layout=layout)
    figure.suptitle(_figure_title(table), fontsize=13)
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    panels = parts[0].subplots(1, 2 * len(families), width_ratios=[1, 0.4] * len(families)).reshape(-1, 2)
    for (axes, counts), (family, rows) in zip(panels, families.items(), strict=True):
        _draw_forest(axes, counts, rows, f"{family}s".capitalize(), top)
    if map_features:
        for axes, by in zip(parts[1].subplots(1, 2), ("month", "country"), strict=True):
            rows = total(table, by)
            _draw_map(axes, rows[rows["family"] == MAP_FAMILY], by, map_features)
    return figure


def _figure_title(table: pd.DataFrame) -> str:
    months = table.loc[table["month"] != ALL, "month"]
    return (
        f"What photos attract visits, {months.min()} to {months.max()}: share of the visits against share of the sales "
        "on offer the day before"
    )


def _map_features(themes: pd.DataFrame) -> list[str]:
    """Return the features in the rows of the heat maps, most attractive first."""
    return list(pd.concat(strongest_and_weakest(themes, _MAX_MAP_ROWS // 2))["feature"])


def _draw_forest(axes: Axes, counts: Axes, rows: pd.DataFrame, name: str, top: int) -> None:
    strongest, weakest = strongest_and_weakest(rows, top)
    shown = pd.concat([strongest, weakest])
    height = np.arange(len(shown))
    with np.errstate(divide="ignore"):
        middle, low, high = (np.log1p(shown[column].to_numpy(float)) for column in ("attractiveness", "low", "high"))
    limit = _axis_limit(low, high)
    colours = [_colour(row) for _, row in shown.iterrows()]
    axes.hlines(height, np.clip(low, -limit, limit), np.clip(high, -limit, limit), colors=colours, linewidth=2)
    for row, colour in enumerate(colours):
        for end in [-limit] * int(low[row] < -limit) + [limit] * int(high[row] > limit):
            axes.scatter(end, row, color=colour, marker=">" if end > 0 else "<", s=40, clip_on=False)
    axes.scatter(np.clip(middle, -limit, limit), height, c=colours, s=36, zorder=3)
    axes.axvline(0, color="black", linewidth=0.8, zorder=0)
    is_cut = len(shown) < len(rows)
    if is_cut:
        axes.axhline(len(strongest) - 0.5, color=_UNSURE, linewidth=0.8, linestyle=":")
    _label_forest(axes, shown, limit)
    _draw_counts(counts, shown)
    which = f"{len(strongest)} strongest and {len(weakest)} weakest of {len(rows):,}" if is_cut else f"all {len(rows)}"
    axes.set_title(f"{name}: {which}")


def _label_forest(axes: Axes, shown: pd.DataFrame, limit: float) -> None:
    """Label the rows with features and the ticks with percentages."""
    axes.set_yticks(range(len(shown)), shown["feature"])
    axes.set_ylim(len(shown) - 0.4, -0.6)
    ticks = _TICKS[np.abs(np.log1p(_TICKS)) <= limit]
    axes.set_xticks(np.log1p(ticks), [percent(tick) for tick in ticks])
    axes.set_xlim(-limit * 1.02, limit * 1.02)
    axes.grid(axis="x", color=_PALE)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False)
    axes.set_xlabel("attractiveness with its 95 % interval; grey if it contains 0")


def _draw_counts(axes: Axes, shown: pd.DataFrame) -> None:
    """Write the value of each row and the numbers of visits and sales that it is computed from."""
    axes.set_axis_off()
    axes.set_ylim(len(shown) - 0.4, -0.6)
    for right, title, texts in (
        (0.25, "", [percent(value) for value in shown["attractiveness"]]),
        (0.72, "visits", [f"{value:,}" for value in shown["visits_with"]]),
        (1.0, "sales", [f"{value:,}" for value in shown["sales_with"]]),
    ):
        axes.text(right, -0.75, title, ha="right", va="bottom", color=_UNSURE)
        for row, text in enumerate(texts):
            axes.text(right, row, text, ha="right", va="center")


def _axis_limit(low: np.ndarray, high: np.ndarray) -> float:
    """Return the end of the symmetric axis, a logarithm: that of the farthest interval end, at most log(4)."""
    ends = np.abs(np.concatenate([low, high]))
    return float(np.clip(1.05 * ends[np.isfinite(ends)].max(initial=0), np.log(1.6), np.log(4)))


def _colour(row: pd.Series) -> str:
    return _ATTRACTIVE if row.low > 0 else _UNATTRACTIVE if row.high < 0 else _UNSURE


def _draw_map(axes: Axes, rows: pd.DataFrame, by: str, features: list[str]) -> None:
    groups = list(group_visits(rows, by))
    columns = groups[-_MAX_MAP_COLUMNS:] if by == "month" else groups[:_MAX_MAP_COLUMNS]
    cells = rows.set_index(["feature", by]).reindex(pd.MultiIndex.from_product([features, columns]))
    shape = (len(features), len(columns))
    with np.errstate(divide="ignore"):
        logs = np.log1p(cells["attractiveness"].to_numpy(float)).reshape(shape)
    colours = matplotlib.colormaps["RdBu"].with_extremes(bad=_PALE)
    strength = np.where((cells["low"] > 0) | (cells["high"] < 0), 1.0, 0.4).reshape(shape)
    axes.imshow(logs, cmap=colours, vmin=-_FULL_COLOUR_LOG, vmax=_FULL_COLOUR_LOG, alpha=strength, aspect="auto")
    for position, (_, cell) in enumerate(cells.iterrows()):
        row, column = divmod(position, shape[1])
        text, style = _cell_text_and_style(cell)
        axes.text(column, row, text, ha="center", va="center", fontsize=8, **style)
    axes.set_yticks(range(shape[0]), features)
    axes.set_xticks(
        range(shape[1]), columns, rotation=0 if by == "month" else 30, ha="center" if by == "month" else "right"
    )
    axes.set_xticks(np.arange(1, shape[1]) - 0.5, minor=True)
    axes.set_yticks(np.arange(1, shape[0]) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    left_out = f", {shape[1]} of {len(groups)}" if shape[1] < len(groups) else ""
    axes.set_title(f"Themes by {by}{left_out}, %")
    axes.set_xlabel("bold: the 95 % interval excludes 0;   ·: too few sales")


def _cell_text_and_style(cell: pd.Series) -> tuple[str, dict[str, Any]]:
    """Return the text and style of a heat map's cell: bold where significant, and white on a dark colour."""
    if np.isnan(cell.attractiveness):
        return "·", {"color": _UNSURE}
    text = f"{round(100 * cell.attractiveness):+d}"
    if _colour(cell) == _UNSURE:
        return text, {"color": "#555555"}
    is_dark = not 0.6 < 1 + cell.attractiveness < 1 / 0.6
    return text, {"color": "white" if is_dark else "black", "weight": "bold"}
