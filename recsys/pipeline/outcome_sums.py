"""User-days → table experiment_sums, and from the table back to the sums that the statistics use."""

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
"""Number of rows summed at once: about 100 MB of numbers."""
_SCHEMA = pa.schema(
    [
        *[("population", pa.string()), ("segment", pa.string()), ("day", pa.date32()), ("variant", pa.string())],
        *[("a", pa.string()), ("b", pa.string()), ("c", pa.string()), ("value", pa.float64())],
    ]
)


def caps(users: DataFrame, quantities: Quantities) -> dict[str, float]:
    """Return the limit of each winsorised column: its quantile in table `experiment_users` over all variants."""
    percentiles = []
    for column in quantities.capped:
        base, _, quantile = column.partition("^")
        percentiles.append(f.percentile(_final_value(base), float(quantile)).alias(column))
    limits = users.agg(*percentiles).collect()[0].asDict() if percentiles else {}
    return {column: limit or 0.0 for column, limit in limits.items()}  # null without users


def experiment_sums(user_days: DataFrame, quantities: Quantities, caps: Mapping[str, float]) -> DataFrame:
    """Return table `experiment_sums`.

    Args:
        user_days: From `recsys.pipeline.outcomes.user_days`, in its order, with one column per segment attribute.
        quantities: What is summed.
        caps: The limits of the winsorised columns.
    """

    def sum_users(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield _to_record_batch(merged(daily_sums(chunk, quantities, caps) for chunk in whole_users(batches)))

    outcomes_and_segments = [*quantities.counted, *[segment_column(name) for name in quantities.segments]]
    needed = user_days.select(
        "user_id", "day", "variant", "triggered", *[f"`{name}`" for name in outcomes_and_segments]
    )
    columns = ", ".join(f"{name} {kind.simpleString()}" for name, kind in EXPERIMENT_SUMS.columns.items())
    key = [name for name in EXPERIMENT_SUMS.columns if name != "value"]
    return needed.mapInArrow(sum_users, columns).groupBy(*key).agg(f.sum("value").alias("value"))


def sums_of(rows: pa.Table) -> dict[Group, Sums]:
    """Return the sums in table `experiment_sums` by group."""
    numbers: dict[Group, int] = {}
    sums: dict[Group, dict[str, float]] = {}
    products: dict[Group, dict[tuple[str, ...], float]] = {}
    columns = [rows[name].to_pylist() for name in _SCHEMA.names]
    for population, segment, day, variant, a, b, c, value in zip(*columns, strict=True):
        group = Group(population, segment, day, variant)
        if a is None:
            numbers[group] = round(value)
        elif b is None:
            sums.setdefault(group, {})[a] = value
        else:
            products.setdefault(group, {})[(a, b) if c is None else (a, b, c)] = value
    return {group: Sums(n, sums.get(group, {}), products.get(group, {})) for group, n in numbers.items()}


def merged(parts: Iterable[Mapping[Group, Sums]]) -> dict[Group, Sums]:
    """Add up the sums of disjoint sets of users."""
    total: dict[Group, Sums] = {}
    for part in parts:
        for group, sums in part.items():
            total[group] = total[group] + sums if group in total else sums
    return total


def whole_users(batches: Iterable[pa.RecordBatch], rows: int = CHUNK_ROWS) -> Iterator[pa.Table]:
    """Join batches sorted by user into tables of `rows` rows or a few more, with all rows of a user in one table."""
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


def _to_record_batch(sums: Mapping[Group, Sums]) -> pa.RecordBatch:
    rows = [
        dict(zip(_SCHEMA.names, (*group, *quantity), strict=True))
        for group, each in sums.items()
        for quantity in _quantities_with_values(each)
    ]
    return pa.RecordBatch.from_pylist(rows, schema=_SCHEMA)


def _quantities_with_values(sums: Sums) -> Iterator[tuple[str | float | None, ...]]:
    """Yield columns a, b, c and value of table `experiment_sums`."""
    yield None, None, None, float(sums.n)
    yield from ((column, None, None, value) for column, value in sums.sums.items())
    yield from ((*columns, *[None] * (3 - len(columns)), value) for columns, value in sums.products.items())


def _final_value(column: str) -> Column:
    return (f.col(HAPPENED[column]) > 0).cast("double") if column in HAPPENED else f.col(f"`{column}`")
