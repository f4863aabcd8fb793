"""What users did, a row a user and day → sums over users that the statistics are made of.

A row holds by how much each column of a user grew on a day. His state at the end of the day is the sum of his rows up
to it; the sums say by how much the states, and products of them, of all users grew.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.experiments.evidence import ALL, EVERYBODY, TRIGGERED, Group, Sums
from recsys.experiments.settings import Experiment, MeanSettings, Metric

COUNTED = ("exposures", "fallbacks", "visits", "purchases", "revenue")
ATTRIBUTED = ("attributed_visits", "attributed_purchases", "attributed_revenue")
PAST = ("pre_visits", "pre_purchases", "pre_revenue")
COLUMNS = (*COUNTED, *ATTRIBUTED, *PAST)
"""What grows from row to row; an interleaving experiment has a column `credit(variant)` a variant besides."""

HAPPENED = {
    "visited": "visits",
    "purchased": "purchases",
    "pre_visited": "pre_visits",
    "pre_purchased": "pre_purchases",
}
"""1 where the other column is above 0, else 0."""

_Values = NDArray[np.float64]
_Flags = NDArray[np.bool_]
_Codes = NDArray[np.intp]


def winsorized(column: str, quantile: float) -> str:
    """Return what a column is called whose values above a quantile count as the quantile."""
    return f"{column}^{quantile}"


def covariate(column: str) -> str | None:
    """Return the column of the time before a user's first page that CUPED takes out of a column; None where none is."""
    before = f"pre_{column}"
    return before if before.partition("^")[0] in {*PAST, *HAPPENED} else None


def credit(variant: str) -> str:
    """Return the column of purchases of sales that a variant put on an interleaved page."""
    return f"credit_{variant}"


def segment_column(attribute: str) -> str:
    """Return the column that holds a user's segment by an attribute, such as country=DE."""
    return f"segment_{attribute}"


@dataclass(frozen=True)
class Quantities:
    """What is summed up for an experiment."""

    columns: tuple[str, ...]
    products: tuple[tuple[str, str], ...]
    """Pairs in ascending order."""
    segments: tuple[str, ...] = ()
    """Attributes."""

    @classmethod
    def of(cls, experiment: Experiment) -> "Quantities":
        """Return what the metrics of an experiment need: of each, all products of its columns and their covariates."""
        analysis = experiment.analysis
        metrics = (*analysis.primary, *analysis.secondary, *analysis.guardrails)
        families = [_family(metric, with_past=analysis.cuped is not None) for metric in metrics]
        if experiment.type == "interleave":
            families.append([credit(variant.key) for variant in experiment.variants])
        columns = sorted({column for family in families for column in family})
        products = sorted({(a, b) for family in families for a in family for b in family if a <= b})
        return cls(tuple(columns), tuple(products), analysis.segments)

    @property
    def capped(self) -> tuple[str, ...]:
        """The winsorised columns."""
        return tuple(column for column in self.columns if "^" in column)

    @property
    def counted(self) -> tuple[str, ...]:
        """The columns of user-days that they are made of."""
        plain = {column.partition("^")[0] for column in self.columns}
        return tuple(sorted({HAPPENED.get(column, column) for column in plain}))


def caps(user_days: pa.Table, quantities: Quantities) -> dict[str, float]:
    """Return the cap of each winsorised column: the quantile of users' last values, all variants together."""
    users = _Users.of(user_days)
    return {
        column: float(np.quantile(users.state(of)[users.lasts], float(quantile)))
        for column in quantities.capped
        for of, _, quantile in [column.partition("^")]
    }


def daily_sums(user_days: pa.Table, quantities: Quantities, caps: Mapping[str, float]) -> dict[Group, Sums]:
    """Sum up, by variant, day and segment, by how much users' states differ from the day before.

    Args:
        user_days: Sorted by user and day, all rows of a user: columns `user_id`, `day` (date32), `variant`, `triggered`
            (whether the variants' pages differed on that day), the growth of `COLUMNS`, and a `segment_column` an
            attribute. Variant and segments are the same on all rows of a user.
        quantities: What is summed.
        caps: The highest value of each winsorised column.

    Returns:
        Sums of every user, of every user by segment, and of those triggered so far. Those of two sets of users add up.
    """
    if not len(user_days):
        return {}
    users = _Users.of(user_days)
    states = np.stack([users.state(column, caps) for column in quantities.columns])
    growth = _growth(states, users.firsts, quantities)
    sums = _grouped(user_days, growth, ALL, quantities)
    for attribute in quantities.segments:
        sums |= _grouped(user_days, growth, ALL, quantities, attribute)
    is_in = users.cumulated("triggered") > 0
    enters = is_in & (users.firsts | ~np.roll(is_in, 1))
    return sums | _grouped(
        user_days.filter(is_in), _growth(states[:, is_in], enters[is_in], quantities), TRIGGERED, quantities
    )


@dataclass(frozen=True)
class _Users:
    """Columns of rows sorted by user and day."""

    rows: pa.Table
    firsts: _Flags
    """Whether a row is its user's first."""

    @classmethod
    def of(cls, rows: pa.Table) -> "_Users":
        firsts = np.ones(len(rows), bool)
        ids = rows["user_id"].combine_chunks()
        firsts[1:] = pc.not_equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False)
        return cls(rows, firsts)

    @property
    def lasts(self) -> _Flags:
        return np.roll(self.firsts, -1)

    def state(self, column: str, caps: Mapping[str, float] | None = None) -> _Values:
        """Return a column's value at the end of each row's day."""
        of, _, quantile = column.partition("^")
        if quantile:
            return np.minimum(self.state(of), (caps or {})[column])
        if of in HAPPENED:
            return (self.cumulated(HAPPENED[of]) > 0).astype(np.float64)
        return self.cumulated(of)

    def cumulated(self, column: str) -> _Values:
        """Return the sum of a user's rows up to each."""
        growth = pc.cast(self.rows[column], pa.float64()).to_numpy()
        total = np.cumsum(growth)
        starts = np.flatnonzero(self.firsts)
        before = total[starts] - growth[starts]
        return total - np.repeat(before, np.diff(starts, append=len(growth)))


def _family(metric: Metric, with_past: bool) -> list[str]:
    """Return the columns that a metric needs the products of."""
    if isinstance(metric, MeanSettings):
        columns = [metric.column if metric.winsorize is None else winsorized(metric.column, metric.winsorize)]
    else:
        columns = [metric.numerator, metric.denominator]
    before = [covariate(column) for column in columns]
    known = [column for column in before if column is not None]
    return columns + known if with_past and len(known) == len(columns) else columns


def _growth(states: _Values, firsts: _Flags, quantities: Quantities) -> _Values:
    """Return by how much users, columns and products grew with each row, (1 + n_columns + n_products, n_rows)."""
    before = np.roll(states, 1, axis=1)
    before[:, firsts] = 0.0
    growth = np.empty((1 + len(quantities.columns) + len(quantities.products), len(firsts)))
    growth[0] = firsts
    growth[1 : 1 + len(states)] = states - before
    position = {column: place for place, column in enumerate(quantities.columns)}
    for place, (a, b) in enumerate(quantities.products, 1 + len(states)):
        x, y = position[a], position[b]
        growth[place] = states[x] * states[y] - before[x] * before[y]
    return growth


def _grouped(
    rows: pa.Table, growth: _Values, population: str, quantities: Quantities, attribute: str | None = None
) -> dict[Group, Sums]:
    """Add up by segment, day and variant."""
    if not len(rows):
        return {}
    names = [None if attribute is None else segment_column(attribute), "day", "variant"]
    codes, values = zip(*[_coded(rows, name) for name in names], strict=True)
    shape = tuple(len(each) for each in values)
    flat = np.ravel_multi_index(codes, shape)
    totals = np.stack([np.bincount(flat, each, minlength=int(np.prod(shape))) for each in growth], axis=1)
    found: dict[Group, Sums] = {}
    for place in np.unique(flat):
        segment, day, variant = (each[at] for each, at in zip(values, np.unravel_index(place, shape), strict=True))
        found[Group(population, segment, day, variant)] = _sums(totals[place].tolist(), quantities)
    return found


def _coded(rows: pa.Table, name: str | None) -> tuple[_Codes, list[str] | list[date]]:
    """Return the place of each row's value in the list of different values."""
    if name is None:
        return np.zeros(len(rows), np.intp), [EVERYBODY]
    column = rows[name].combine_chunks()
    coded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    return coded.indices.to_numpy().astype(np.intp), coded.dictionary.to_pylist()


def _sums(totals: list[float], quantities: Quantities) -> Sums:
    n, sums, products = totals[0], totals[1 : 1 + len(quantities.columns)], totals[1 + len(quantities.columns) :]
    return Sums(
        round(n),
        dict(zip(quantities.columns, sums, strict=True)),
        dict(zip(quantities.products, products, strict=True)),
    )
