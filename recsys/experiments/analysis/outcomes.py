"""User-days, one row per user and day → daily sums over users, the input of the statistics.

A row holds the growth of each of a user's columns on a day. The user's state at the end of a day is the sum of their
rows up to that day. The sums are the growth of the states, and of products of two states, added up over users.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from itertools import chain, combinations_with_replacement

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.experiments.phase_summary import ALL, ALL_USERS, TRIGGERED, Group, Sums
from recsys.experiments.settings import Experiment, MeanSettings, Metric

COUNTED = ("exposures", "fallbacks", "visits", "purchases", "revenue")
ATTRIBUTED = ("attributed_visits", "attributed_purchases", "attributed_revenue")
PAST = ("pre_visits", "pre_purchases", "pre_revenue")
COLUMNS = (*COUNTED, *ATTRIBUTED, *PAST)
"""The columns of user-days; an interleaving experiment has a column `credit(variant)` per variant in addition."""

HAPPENED = {
    "visited": "visits",
    "purchased": "purchases",
    "pre_visited": "pre_visits",
    "pre_purchased": "pre_purchases",
}
"""Indicator columns: 1 if the other column is above 0, else 0."""

_NONZERO = " != 0"

_Values = NDArray[np.float64]
_Flags = NDArray[np.bool_]
_Codes = NDArray[np.intp]


def winsorized(column: str, quantile: float) -> str:
    """Return the name of a column winsorised at a quantile."""
    return f"{column}^{quantile}"


def nonzero(column: str) -> str:
    """Return the name of the indicator that a column is not 0; that of a winsorised column is the column's own."""
    return f"{column.partition('^')[0]}{_NONZERO}"


def covariate(column: str) -> str | None:
    """Return the CUPED covariate of a column, the same outcome before a user's first page; None if there is none."""
    before = f"pre_{column}"
    return before if before.partition("^")[0] in {*PAST, *HAPPENED} else None


def credit(variant: str) -> str:
    """Return the column of purchases of sales that a variant contributed to an interleaved page."""
    return f"credit_{variant}"


def segment_column(attribute: str) -> str:
    """Return the column that holds a user's segment by an attribute, such as country=DE."""
    return f"segment_{attribute}"


@dataclass(frozen=True)
class Quantities:
    """The columns and products that are summed for an experiment."""

    columns: tuple[str, ...]
    products: tuple[tuple[str, ...], ...]
    """Two or three columns each, in ascending order."""
    segments: tuple[str, ...] = ()
    """The attributes whose values are segments."""

    @classmethod
    def of(cls, experiment: Experiment) -> "Quantities":
        """Return the quantities of an experiment's metrics.

        They are all products of two and three of each metric's columns and covariates, for variance and skewness, and
        the number of users for whom the first column is not 0.
        """
        analysis = experiment.analysis
        metrics = (*analysis.primary, *analysis.secondary, *analysis.guardrails)
        families = [_columns_of_metric(metric, with_covariates=analysis.cuped is not None) for metric in metrics]
        if experiment.type == "interleave":
            credits = [credit(variant.key) for variant in experiment.variants]
            families += [credits, credits[1:]]  # the second for its number of users
        columns = sorted({column for family in families for column in [nonzero(family[0]), *family]})
        products = sorted({product for family in families for product in _products(sorted(family))})
        return cls(tuple(columns), tuple(products), analysis.segments)

    @property
    def capped(self) -> tuple[str, ...]:
        """The winsorised columns."""
        return tuple(column for column in self.columns if "^" in column)

    @property
    def counted(self) -> tuple[str, ...]:
        """The columns of user-days that the quantities are computed from."""
        plain = {column.partition("^")[0].removesuffix(_NONZERO) for column in self.columns}
        return tuple(sorted({HAPPENED.get(column, column) for column in plain}))


def caps(user_days: pa.Table, quantities: Quantities) -> dict[str, float]:
    """Return the limit of each winsorised column: the quantile of users' final values over all variants."""
    users = _UserRows.of(user_days)
    return {
        column: float(np.quantile(users.state(base)[users.lasts], float(quantile)))
        for column in quantities.capped
        for base, _, quantile in [column.partition("^")]
    }


def daily_sums(user_days: pa.Table, quantities: Quantities, caps: Mapping[str, float]) -> dict[Group, Sums]:
    """Return the daily growth of the sums over users, by population, segment, day and variant.

    Args:
        user_days: All rows of each user, sorted by user and day. Columns: `user_id`, `day` (date32), `variant`,
            `triggered` (whether the variants' pages differed on that day), the growth of `COLUMNS`, and one
            `segment_column` per attribute. Variant and segments are the same in all rows of a user.
        quantities: What is summed.
        caps: The upper limit of each winsorised column.

    Returns:
        Sums over all users, over all users by segment, and over the users triggered so far. The results of disjoint
        sets of users can be added.
    """
    if not len(user_days):
        return {}
    users = _UserRows.of(user_days)
    states = np.stack([users.state(column, caps) for column in quantities.columns])
    growth = _growth_of_products(states, users.firsts, quantities)
    sums = _sum_by_group(user_days, growth, ALL, quantities)
    for attribute in quantities.segments:
        sums |= _sum_by_group(user_days, growth, ALL, quantities, attribute)
    is_triggered = users.cumulated("triggered") > 0
    enters = is_triggered & (users.firsts | ~np.roll(is_triggered, 1))
    growth = _growth_of_products(states[:, is_triggered], enters[is_triggered], quantities)
    return sums | _sum_by_group(user_days.filter(is_triggered), growth, TRIGGERED, quantities)


@dataclass(frozen=True)
class _UserRows:
    """User-days, sorted by user and day."""

    rows: pa.Table
    firsts: _Flags
    """Whether a row is its user's first."""

    @classmethod
    def of(cls, rows: pa.Table) -> "_UserRows":
        firsts = np.ones(len(rows), bool)
        ids = rows["user_id"].combine_chunks()
        firsts[1:] = pc.not_equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False)
        return cls(rows, firsts)

    @property
    def lasts(self) -> _Flags:
        return np.roll(self.firsts, -1)

    def state(self, column: str, caps: Mapping[str, float] | None = None) -> _Values:
        """Return a column's value at the end of each row's day."""
        base, _, quantile = column.partition("^")
        if quantile:
            return np.minimum(self.state(base), (caps or {})[column])
        if base.endswith(_NONZERO):
            return (self.state(base.removesuffix(_NONZERO)) != 0).astype(np.float64)
        if base in HAPPENED:
            return (self.cumulated(HAPPENED[base]) > 0).astype(np.float64)
        return self.cumulated(base)

    def cumulated(self, column: str) -> _Values:
        """Return the cumulative sum of a column within each user.

        Each user is summed alone: in a sum over all users, one value of 1e16 would round those of the others to 0.
        """
        growth = pd.Series(pc.cast(self.rows[column], pa.float64()).to_numpy())
        return growth.groupby(np.cumsum(self.firsts)).cumsum().to_numpy()


def _columns_of_metric(metric: Metric, with_covariates: bool) -> list[str]:
    """Return the columns, and the covariates if all columns have one, whose products a metric needs."""
    if isinstance(metric, MeanSettings):
        columns = [metric.column if metric.winsorize is None else winsorized(metric.column, metric.winsorize)]
    else:
        columns = [metric.numerator, metric.denominator]
    candidates = [covariate(column) for column in columns]
    known = [column for column in candidates if column is not None]
    return columns + known if with_covariates and len(known) == len(columns) else columns


def _products(columns: list[str]) -> Iterable[tuple[str, ...]]:
    """Return all products of two and of three columns."""
    return chain.from_iterable(combinations_with_replacement(columns, factors) for factors in (2, 3))


def _growth_of_products(states: _Values, firsts: _Flags, quantities: Quantities) -> _Values:
    """Return the growth of users, columns and products in each row; shape (1 + n_columns + n_products, n_rows)."""
    before = np.roll(states, 1, axis=1)
    before[:, firsts] = 0.0
    growth = np.empty((1 + len(quantities.columns) + len(quantities.products), len(firsts)))
    growth[0] = firsts
    growth[1 : 1 + len(states)] = states - before
    index_of = {column: index for index, column in enumerate(quantities.columns)}
    for row, columns in enumerate(quantities.products, 1 + len(states)):
        factors = [index_of[column] for column in columns]
        growth[row] = states[factors].prod(axis=0) - before[factors].prod(axis=0)
    return growth


def _sum_by_group(
    rows: pa.Table, growth: _Values, population: str, quantities: Quantities, attribute: str | None = None
) -> dict[Group, Sums]:
    """Sum the growth by segment, day and variant."""
    if not len(rows):
        return {}
    names = [None if attribute is None else segment_column(attribute), "day", "variant"]
    codes, values = zip(*[_dictionary_encode(rows, name) for name in names], strict=True)
    shape = tuple(len(each) for each in values)
    flat = np.ravel_multi_index(codes, shape)
    totals = np.stack([np.bincount(flat, each, minlength=int(np.prod(shape))) for each in growth], axis=1)
    sums: dict[Group, Sums] = {}
    for cell in np.unique(flat):
        segment, day, variant = (each[at] for each, at in zip(values, np.unravel_index(cell, shape), strict=True))
        sums[Group(population, segment, day, variant)] = _sums_from_totals(totals[cell].tolist(), quantities)
    return sums


def _dictionary_encode(rows: pa.Table, name: str | None) -> tuple[_Codes, list[str] | list[date]]:
    """Return the index of each row's value in the list of distinct values, and that list."""
    if name is None:
        return np.zeros(len(rows), np.intp), [ALL_USERS]
    column = rows[name].combine_chunks()
    coded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    return coded.indices.to_numpy().astype(np.intp), coded.dictionary.to_pylist()


def _sums_from_totals(totals: list[float], quantities: Quantities) -> Sums:
    n, sums, products = totals[0], totals[1 : 1 + len(quantities.columns)], totals[1 + len(quantities.columns) :]
    return Sums(
        round(n),
        dict(zip(quantities.columns, sums, strict=True)),
        dict(zip(quantities.products, products, strict=True)),
    )
