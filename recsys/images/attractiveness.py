"""Attractiveness of what photos show: its share of the visits relative to its share of the open sales."""

from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field
from scipy.stats import t as student_t

from recsys.errors import ConfigurationError, EmptyInputError, InputError
from recsys.settings import StepSettings
from recsys.wording import plural

ALL = "all"
"""The value of a dimension in a row that is a total over it."""

DIMENSIONS = ["month", "country", "category"]
COLUMNS = [
    *("family", "feature", *DIMENSIONS, "attractiveness", "low", "high"),
    *("visits", "visits_with", "sale_days", "sale_days_with", "sales_with"),
]
_COUNTS = ["visits", "sale_days"]


class AttractivenessSettings(StepSettings):
    """Which attractiveness values are reported."""

    min_sales: int = Field(5, ge=2)
    """Minimum number of sales in a group that show a feature; below it no attractiveness is reported. The nominal 95 %
    intervals cover the true value in about 90 % of cases at 5 to 10 sales, 92 % at 20 and 95 % at 60, where the
    standard deviation of the log of visits is 1."""


def attractiveness(sale_months: pd.DataFrame, features: pd.DataFrame, settings: AttractivenessSettings) -> pd.DataFrame:
    """Measure the attractiveness of each feature in each month, country and category, and in all of them.

    attractiveness = (visits_with / visits) / (sale_days_with / sale_days) - 1, all summed over the sales of a group.
    At 0.2, sales whose photos show the feature receive a share of the visits that is 20 % above their share of the
    sale-days. A feature that all sales of a group show has attractiveness 0 by definition.

    Random tags have expectation 0 if visits are drawn uniformly among open sales. Two biases do not come from users'
    taste: every started day counts as a whole sale-day, so sales of one or two days, which open at noon, seem less
    attractive (by a third for one day); and a total over months favours what was open in months with many visits per
    sale.

    The interval is the standard error of the jackknife over sales, on the logarithm of the ratio, times the quantile
    of Student's t with Welch's degrees of freedom for the sales with and without the feature. The sale is the unit of
    resampling because the visits of one sale are not independent.

    Args:
        sale_months: Columns `sale_id`, `month`, `country`, `category`, `visits`, `sale_days`, as
            `recsys.pipeline.attractiveness.sale_months` counts them. Sales without a feature count in the totals.
        features: Columns `sale_id`, `family`, `feature`; duplicates count once; sales not in sale_months are ignored.
        settings: When a value is reported.

    Returns:
        One row per group and feature that a sale of the group has, sorted by key, with `COLUMNS`. A total has 'all'
        as its month, country or category. `sales_with` counts the sales of the group that have the feature.
        `attractiveness`, `low` and `high` are relative differences, at least -1. They are nan where fewer than
        `min_sales` sales have the feature, where the group has no visit, and where no sale with the feature was open.
        `high` is infinite and `low` is -1 where a single sale has all the visits or sale-days of a feature, or none
        of its sales was visited.

    Raises:
        EmptyInputError: If there is no visit, no sale-day or no feature.
        InputError: If a country or category is called 'all'.

    Source:
        Efron and Stein 1981, sec. 1 (jackknife, around the estimate itself); Welch 1947 for the degrees of freedom.
    """
    _check_input(sale_months, features)
    features = features[["sale_id", "family", "feature"]].drop_duplicates()
    cuts = [cut for size in range(len(DIMENSIONS) + 1) for cut in combinations(DIMENSIONS, size)]
    table = _with_intervals(pd.concat([_count_by_group(sale_months, features, cut) for cut in cuts], ignore_index=True))
    is_undefined = (table["sales_with"] < settings.min_sales) | (table["visits"] == 0) | (table["sale_days_with"] == 0)
    table.loc[is_undefined, ["attractiveness", "low", "high"]] = np.nan
    return table.sort_values(["family", "feature", *DIMENSIONS], ignore_index=True)[COLUMNS]


def _check_input(sale_months: pd.DataFrame, features: pd.DataFrame) -> None:
    for column, meaning in (("visits", "visits of sales with tagged photos"), ("sale_days", "days of sales on offer")):
        if not sale_months[column].sum():
            raise EmptyInputError(
                f"attractiveness has 0 {meaning}, needs at least 1: choose other days, or tag the photos of the sales "
                "that were open on them"
            )
    if not features["sale_id"].isin(sale_months["sale_id"]).any():
        raise EmptyInputError(
            f"table sale_features has {plural(len(features), 'row')}, none of a sale that was visited or open, needs "
            "at least 1: tag the photos of these sales, or lower the threshold from which a photo shows a tag or theme"
        )
    for name in DIMENSIONS:
        if (sale_months[name] == ALL).any():
            raise InputError(
                f"{name} == '{ALL}' of a sale, must be another value, as '{ALL}' marks totals: rename it in sales.sql"
            )


def _count_by_group(sale_months: pd.DataFrame, features: pd.DataFrame, cut: tuple[str, ...]) -> pd.DataFrame:
    """Return one row per group and feature; a group is one combination of values of the cut's dimensions.

    `spread_with` and `spread_without` are the jackknife's sums of squared changes of the log ratio, leaving out one
    sale at a time: over the sales with the feature and over those without it.
    """
    totals = {name: ALL for name in DIMENSIONS if name not in cut}
    sales = sale_months.assign(**totals).groupby(["sale_id", *DIMENSIONS], as_index=False)[_COUNTS].sum()
    sales["group"] = sales.groupby(DIMENSIONS).ngroup()
    groups = _sum_by_key(sales, "group", DIMENSIONS)
    sales["change"] = -_log_change_without_each_sale(sales, groups.loc[sales["group"]])
    groups["spread"] = _sum_of_squares(sales["change"], sales["group"])

    shown = sales.merge(features, how="inner", on="sale_id")
    shown["cell"] = shown.groupby(["group", "family", "feature"]).ngroup()
    cells = _sum_by_key(shown, "cell", ["group", "family", "feature"])
    change_with = shown["change"] + _log_change_without_each_sale(shown, cells.loc[shown["cell"]])
    cells["spread_with"] = _sum_of_squares(change_with, shown["cell"])
    cells["spread_without"] = _sum_of_squares(shown["change"], shown["cell"])
    cells = cells.merge(groups, how="left", left_on="group", right_index=True, suffixes=("_with", ""))
    cells["spread_without"] = (cells["spread"] - cells["spread_without"]).clip(lower=0)
    return cells


def _sum_by_key(sales: pd.DataFrame, key: str, names: list[str]) -> pd.DataFrame:
    """Return one row per value of `key`: `names` (constant within a key) and totals `visits`, `sale_days`, `sales`."""
    groups = sales.groupby(key)
    return groups[names].first().join(groups[_COUNTS].sum()).assign(sales=groups.size())


def _log_change_without_each_sale(sales: pd.DataFrame, totals: pd.DataFrame) -> NDArray[np.float64]:
    """Return, for each sale, log(1 - its share of the visits) - log(1 - its share of the sale-days).

    Infinite or nan where the sale has all the visits or all the sale-days of its group.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        visits, sale_days = np.log1p(-sales[_COUNTS].to_numpy() / totals[_COUNTS].to_numpy()).T
        return visits - sale_days


def _sum_of_squares(changes: pd.Series, keys: pd.Series) -> NDArray[np.float64]:
    """Return the sum of squares per key; infinite where a change is infinite or nan."""
    squares = np.nan_to_num(changes.to_numpy() ** 2, nan=np.inf, posinf=np.inf)
    return np.bincount(keys, weights=squares).astype(np.float64)


def _with_intervals(table: pd.DataFrame) -> pd.DataFrame:
    """Add `attractiveness`, `low` and `high` to counts and spreads."""
    half_width = _half_width(table)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = (table["visits_with"] / table["visits"]) / (table["sale_days_with"] / table["sale_days"])
        high = np.where(np.isinf(half_width), np.inf, ratio * np.exp(half_width))
    return table.assign(attractiveness=ratio - 1, low=ratio * np.exp(-half_width) - 1, high=high - 1)


def _half_width(table: pd.DataFrame) -> NDArray[np.float64]:
    """Return the half-width of the interval of the log ratio; infinite where one sale has all visits or sale-days."""
    spreads = table[["spread_with", "spread_without"]].to_numpy()
    degrees_of_freedom = np.maximum(np.column_stack([table["sales_with"], table["sales"] - table["sales_with"]]) - 1, 1)
    spread = spreads.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = spread**2 / (spreads**2 / degrees_of_freedom).sum(axis=1)
        half_width = student_t.ppf(0.975, freedom) * np.sqrt(spread * (1 - 1 / table["sales"]))
    has_no_variance = (spread == 0) | (table["sales_with"] == table["sales"])
    return np.where(has_no_variance, 0, np.where(np.isfinite(spread), half_width, np.inf))


def total(table: pd.DataFrame, by: str | None = None) -> pd.DataFrame:
    """Return the rows of an attractiveness table that are totals over every dimension, or over all but `by`.

    Raises:
        ConfigurationError: If `by` is not a dimension.
    """
    if by not in (None, *DIMENSIONS):
        raise ConfigurationError(f"by == '{by}', must be one of {', '.join(DIMENSIONS)}")
    is_total = (table[DIMENSIONS] == ALL) != [name == by for name in DIMENSIONS]
    return table[is_total.all(axis=1)]


def group_visits(rows: pd.DataFrame, by: str) -> dict[str, int]:
    """Return the visits per value of a dimension: months chronologically, other dimensions by descending visits."""
    groups = rows[[by, "visits"]].drop_duplicates()
    if by == "month":
        groups = groups.sort_values(by=["month"])
    else:
        groups = groups.sort_values(by=["visits", by], ascending=[False, True])
    return dict(zip(groups[by], groups["visits"], strict=True))


def strongest_and_weakest(rows: pd.DataFrame, top: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the most and the least attractive features of a group, ranked conservatively.

    The strongest have the highest lower ends of their intervals, the weakest the lowest upper ends, so that a feature
    of a few lucky sales is not ranked first. Ties are broken by name.

    Args:
        rows: One row per feature; those without attractiveness are left out.
        top: Maximum number of features in each; no feature is in both.

    Returns:
        Both in descending order of attractiveness.
    """
    known = rows.dropna(subset=["attractiveness"]).sort_values("feature")
    strongest = known.sort_values("low", ascending=False, kind="stable").head(min(top, (len(known) + 1) // 2))
    rest = known.drop(strongest.index)
    weakest = rest.sort_values("high", kind="stable").head(top)
    return _by_attractiveness(strongest), _by_attractiveness(weakest)


def _by_attractiveness(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.sort_values(by=["attractiveness", "feature"], ascending=[False, True])


def percent(ratio: float) -> str:
    """Format a relative difference as a signed percentage, such as '+12 %'; '∞' if infinite."""
    if np.isinf(ratio):
        return "∞"
    points = round(100 * ratio)
    return f"{points:+d} %" if points else "0 %"
