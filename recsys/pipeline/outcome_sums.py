"""What users did day by day → table experiment_sums, and back into sums that the statistics read."""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as f

from recsys.experiments.analysis.outcomes import HAPPENED, Quantities, daily_sums, segment_column
from recsys.experiments.phase_summary import Group, Sums
from recsys.tables.experiments import EXPERIMENT_SUMS

CHUNK_ROWS = 200_000
"""So many rows are summed at once: some 100 MB of numbers."""
_ROWS = pa.schema(
    [
        *[("population", pa.string()), ("segment", pa.string()), ("day", pa.date32()), ("variant", pa.string())],
        *[("a", pa.string()), ("b", pa.string()), ("value", pa.float64())],
    ]
)


def caps(users: DataFrame, quantities: Quantities) -> dict[str, float]:
    """Return the cap of each winsorised column: its quantile over table `experiment_users`, all variants together."""
    percentiles = []
    for column in quantities.capped:
        of, _, quantile = column.partition("^")
        percentiles.append(f.percentile(_last_value(of), float(quantile)).alias(column))
    found = users.agg(*percentiles).collect()[0].asDict() if percentiles else {}
    return {column: cap or 0.0 for column, cap in found.items()}  # null where there is no user


def experiment_sums(user_days: DataFrame, quantities: Quantities, caps: Mapping[str, float]) -> DataFrame:
    """Return table `experiment_sums`.

    Args:
        user_days: From `recsys.pipeline.outcomes.user_days`, sorted as it is there, with a column a segment.
        quantities: What is summed.
        caps: Of the winsorised columns.
    """

    def sum_up(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield _rows(merged(daily_sums(chunk, quantities, caps) for chunk in whole_users(batches)))

    measured = [*quantities.counted, *[segment_column(name) for name in quantities.segments]]
    needed = user_days.select("user_id", "day", "variant", "triggered", *[f"`{name}`" for name in measured])
    columns = ", ".join(f"{name} {kind.simpleString()}" for name, kind in EXPERIMENT_SUMS.columns.items())
    key = [name for name in EXPERIMENT_SUMS.columns if name != "value"]
    return needed.mapInArrow(sum_up, columns).groupBy(*key).agg(f.sum("value").alias("value"))


def sums_of(rows: pa.Table) -> dict[Group, Sums]:
    """Read table `experiment_sums`."""
    numbers: dict[Group, int] = {}
    sums: dict[Group, dict[str, float]] = {}
    products: dict[Group, dict[tuple[str, str], float]] = {}
    columns = [rows[name].to_pylist() for name in _ROWS.names]
    for population, segment, day, variant, a, b, value in zip(*columns, strict=True):
        group = Group(population, segment, day, variant)
        if a is None:
            numbers[group] = round(value)
        elif b is None:
            sums.setdefault(group, {})[a] = value
        else:
            products.setdefault(group, {})[a, b] = value
    return {group: Sums(n, sums.get(group, {}), products.get(group, {})) for group, n in numbers.items()}


def merged(parts: Iterable[Mapping[Group, Sums]]) -> dict[Group, Sums]:
    """Add up the sums of disjoint sets of users."""
    total: dict[Group, Sums] = {}
    for part in parts:
        for group, sums in part.items():
            total[group] = total[group] + sums if group in total else sums
    return total


def whole_users(batches: Iterable[pa.RecordBatch], rows: int = CHUNK_ROWS) -> Iterator[pa.Table]:
    """Gather rows sorted by user into tables of about as many rows as wanted, each user in one of them."""
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        waiting.append(batch)
        if sum(map(len, waiting)) >= rows:
            table = pa.Table.from_batches(waiting)
            end = _start_of_last_user(table["user_id"].combine_chunks())
            yield table[:end]
            waiting = table[end:].to_batches()
    if waiting:
        yield pa.Table.from_batches(waiting)


def _start_of_last_user(user_ids: pa.Array) -> int:
    return int(np.argmax(pc.equal(user_ids, user_ids[-1]).to_numpy(zero_copy_only=False)))


def _rows(sums: Mapping[Group, Sums]) -> pa.RecordBatch:
    rows = [
        dict(zip(_ROWS.names, (*group, *row), strict=True)) for group, each in sums.items() for row in _values(each)
    ]
    return pa.RecordBatch.from_pylist(rows, schema=_ROWS)


def _values(sums: Sums) -> Iterator[tuple[str | None, str | None, float]]:
    yield None, None, float(sums.n)
    yield from ((column, None, value) for column, value in sums.sums.items())
    yield from ((a, b, value) for (a, b), value in sums.products.items())


def _last_value(column: str) -> Column:
    return (f.col(HAPPENED[column]) > 0).cast("double") if column in HAPPENED else f.col(f"`{column}`")
