"""What photos that show something are worth: their share of the visits against their share of the offer."""

from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field
from scipy.stats import t as student_t

from recsys.errors import ConfigurationError, EmptyInputError, InputError
from recsys.settings import StepSettings

ALL = "all"
"""The value of a dimension in a row that is a total over it."""

DIMENSIONS = ["month", "country", "category"]
COLUMNS = [
    *("family", "feature", *DIMENSIONS, "attractiveness", "low", "high"),
    *("visits", "visits_with", "sale_days", "sale_days_with", "sales_with"),
]
_COUNTS = ["visits", "sale_days"]


class AttractivenessSettings(StepSettings):
    """What the table of attractiveness says, and what it keeps silent about."""

    min_sales: int = Field(5, ge=2)
    """Sales of a group that must show a feature before its attractiveness is given: 95 % intervals hold the truth in
    some 90 % of cases at 5 to 10 sales, 92 % at 20 and 95 % at 60, where the log of visits varies by 1."""


def attractiveness(sale_months: pd.DataFrame, features: pd.DataFrame, settings: AttractivenessSettings) -> pd.DataFrame:
    """Measure the attractiveness of each feature in each month, country and category, and in all of them.

    attractiveness = (visits_with / visits) / (sale_days_with / sale_days) - 1, all summed over the sales of a group.
    At 0.2, sales whose photos show the feature get 20 % more of the visits than their share of the sales that were on
    offer the day before; a feature that all sales of a group have is at 0 whatever happens.

    Random tags on visits drawn evenly among open sales are at 0. Others are not where what is measured is no taste:
    a day counts whole in sale-days, so sales of a day or two, which open at noon, look weak (a third at one day); a
    total over months favours what was on offer in months with many visits a sale.

    The interval says what other sales like these would have given: visits come in clumps, a sale at a time. It is
    the jackknife over sales, on the logarithm of the ratio, times Student's t with Welch's degrees of freedom for
    the sales with and those without the feature.

    Args:
        sale_months: Columns `sale_id`, `month`, `country`, `category`, `visits`, `sale_days`, as
            `recsys.pipeline.attractiveness.sale_months` counts them. All its sales are the whole, with features or not.
        features: Columns `sale_id`, `family`, `feature`; duplicates count once, sales not in sale_months nowhere.
        settings: Which rows say something.

    Returns:
        One row a feature and group that a sale of the group has, in order of the key; `COLUMNS`. A total has 'all'
        for its month, country or category. `sales_with` counts the sales of the group that have the feature.
        `attractiveness`, `low` and `high` are ratios of at least -1; they are nan where fewer than `min_sales` sales
        have the feature, and where nothing was visited or the feature never on offer. `high` is infinite, and `low`
        -1, where a single sale has all the visits or sale-days of a feature, or none was visited.

    Raises:
        EmptyInputError: If there is no visit, no sale-day or no feature.
        InputError: If a country or category is called 'all'.

    Source:
        Efron and Stein 1981, sec. 1 (jackknife, around the estimate itself); Welch 1947 for the degrees of freedom.
    """
    _check(sale_months, features)
    features = features[["sale_id", "family", "feature"]].drop_duplicates()
    cuts = [cut for size in range(len(DIMENSIONS) + 1) for cut in combinations(DIMENSIONS, size)]
    table = _with_intervals(pd.concat([_counted(sale_months, features, cut) for cut in cuts], ignore_index=True))
    silent = (table["sales_with"] < settings.min_sales) | (table["visits"] == 0) | (table["sale_days_with"] == 0)
    table.loc[silent, ["attractiveness", "low", "high"]] = np.nan
    return table.sort_values(["family", "feature", *DIMENSIONS], ignore_index=True)[COLUMNS]


def _check(sale_months: pd.DataFrame, features: pd.DataFrame) -> None:
    for column, meaning in (("visits", "visits of sales with tagged photos"), ("sale_days", "days of sales on offer")):
        if not sale_months[column].sum():
            raise EmptyInputError(
                f"attractiveness has 0 {meaning}, needs at least 1: choose other days, or tag the photos of the sales "
                "that were open on them"
            )
    if not features["sale_id"].isin(sale_months["sale_id"]).any():
        raise EmptyInputError(
            f"table sale_features has {len(features):,} rows, none of a sale that was visited or on offer, needs at "
            "least 1: tag the photos of these sales, or lower the threshold from which a photo shows a tag or theme"
        )
    for name in DIMENSIONS:
        if (sale_months[name] == ALL).any():
            raise InputError(
                f"{name} '{ALL}' of a sale, must be another word, as totals have it: rename it in sales.sql"
            )


def _counted(sale_months: pd.DataFrame, features: pd.DataFrame, cut: tuple[str, ...]) -> pd.DataFrame:
    """Return one row a feature and group, a group being a value of each dimension of the cut.

    Beside the counts it has `spread_with` and `spread_without`, the sums of squares of the jackknife over the sales
    with the feature and those without it: of how far the log of the ratio moves where a sale is left out.
    """
    totals = {name: ALL for name in DIMENSIONS if name not in cut}
    sales = sale_months.assign(**totals).groupby(["sale_id", *DIMENSIONS], as_index=False)[_COUNTS].sum()
    sales["group"] = sales.groupby(DIMENSIONS).ngroup()
    groups = _sums(sales, "group", DIMENSIONS)
    sales["move"] = -_log_rest(sales, groups.loc[sales["group"]])
    groups["spread"] = _sum_of_squares(sales["move"], sales["group"])

    shown = sales.merge(features, how="inner", on="sale_id")
    shown["cell"] = shown.groupby(["group", "family", "feature"]).ngroup()
    cells = _sums(shown, "cell", ["group", "family", "feature"])
    move_with = shown["move"] + _log_rest(shown, cells.loc[shown["cell"]])
    cells["spread_with"] = _sum_of_squares(move_with, shown["cell"])
    cells["spread_without"] = _sum_of_squares(shown["move"], shown["cell"])
    cells = cells.merge(groups, how="left", left_on="group", right_index=True, suffixes=("_with", ""))
    cells["spread_without"] = (cells["spread"] - cells["spread_without"]).clip(lower=0)
    return cells


def _sums(sales: pd.DataFrame, key: str, names: list[str]) -> pd.DataFrame:
    """Return one row a value of the key, which numbers the names: their first, `visits`, `sale_days` and `sales`."""
    groups = sales.groupby(key)
    return groups[names].first().join(groups[_COUNTS].sum()).assign(sales=groups.size())


def _log_rest(sales: pd.DataFrame, totals: pd.DataFrame) -> NDArray[np.float64]:
    """Return the log of the share of the visits that is left without a sale, less that of the sale-days.

    It has no limit, or is nan, where a sale has all of either.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        visits, sale_days = np.log1p(-sales[_COUNTS].to_numpy() / totals[_COUNTS].to_numpy()).T
        return visits - sale_days


def _sum_of_squares(moves: pd.Series, keys: pd.Series) -> NDArray[np.float64]:
    """Return the sum of squares of each key, infinite where a move has no limit."""
    squares = np.nan_to_num(moves.to_numpy() ** 2, nan=np.inf, posinf=np.inf)
    return np.bincount(keys, weights=squares).astype(np.float64)


def _with_intervals(table: pd.DataFrame) -> pd.DataFrame:
    """Add `attractiveness`, `low` and `high` to counts and spreads."""
    half_width = _half_width(table)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = (table["visits_with"] / table["visits"]) / (table["sale_days_with"] / table["sale_days"])
        high = np.where(np.isinf(half_width), np.inf, ratio * np.exp(half_width))
    return table.assign(attractiveness=ratio - 1, low=ratio * np.exp(-half_width) - 1, high=high - 1)


def _half_width(table: pd.DataFrame) -> NDArray[np.float64]:
    """Return half the width of the interval of the log of the ratio, infinite where a sale stands for all."""
    spreads = table[["spread_with", "spread_without"]].to_numpy()
    freedoms = np.maximum(np.column_stack([table["sales_with"], table["sales"] - table["sales_with"]]) - 1, 1)
    spread = spreads.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = spread**2 / (spreads**2 / freedoms).sum(axis=1)
        half_width = student_t.ppf(0.975, freedom) * np.sqrt(spread * (1 - 1 / table["sales"]))
    nothing_moves = (spread == 0) | (table["sales_with"] == table["sales"])
    return np.where(nothing_moves, 0, np.where(np.isfinite(spread), half_width, np.inf))


def total(table: pd.DataFrame, by: str | None = None) -> pd.DataFrame:
    """Return the rows of a table of attractiveness that are totals over every dimension, or over all but one.

    Raises:
        ConfigurationError: If `by` is no dimension.
    """
    if by not in (None, *DIMENSIONS):
        raise ConfigurationError(f"by == '{by}', must be one of {', '.join(DIMENSIONS)}")
    is_total = (table[DIMENSIONS] == ALL) != [name == by for name in DIMENSIONS]
    return table[is_total.all(axis=1)]


def group_visits(rows: pd.DataFrame, by: str) -> dict[str, int]:
    """Return the visits of each value of a dimension: months in order of time, others by visits, most first."""
    groups = rows[[by, "visits"]].drop_duplicates()
    if by == "month":
        groups = groups.sort_values(by=["month"])
    else:
        groups = groups.sort_values(by=["visits", by], ascending=[False, True])
    return dict(zip(groups[by], groups["visits"], strict=True))


def strongest_and_weakest(rows: pd.DataFrame, top: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the features of a group that are most surely attractive and those most surely not.

    Chosen by the end of the interval that is nearer to 0, so that a few lucky sales make no strongest feature; ties by
    name.

    Args:
        rows: One row a feature; those without attractiveness are left out.
        top: How many of either, no feature twice.

    Returns:
        Both in descending order of attractiveness.
    """
    told = rows.dropna(subset=["attractiveness"]).sort_values("feature")
    strongest = told.sort_values("low", ascending=False, kind="stable").head(min(top, (len(told) + 1) // 2))
    rest = told.drop(strongest.index)
    weakest = rest.sort_values("high", kind="stable").head(top)
    return _by_attractiveness(strongest), _by_attractiveness(weakest)


def _by_attractiveness(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.sort_values(by=["attractiveness", "feature"], ascending=[False, True])


def percent(ratio: float) -> str:
    """Return a change as people read it, such as '+12 %', and '∞' for one without limit."""
    if np.isinf(ratio):
        return "∞"
    points = round(100 * ratio)
    return f"{points:+d} %" if points else "0 %"
