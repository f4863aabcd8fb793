"""Files read by Spark's Python workers, where Spark itself cannot read them as they are meant.

The driver lists the files and sends the list; rows never pass through it. A worker reads all columns of a file, while
Spark's own reader leaves out those that no query names: what Spark can read, it should read.
"""

import pickle
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

from recsys.storage.places import arrow, place
from recsys.tables.parts import BATCH_ROWS

_BUNDLE_BYTES = 128 << 20


class Unit(NamedTuple):
    """What a worker reads at once: a file, as its reader understands it."""

    what: Any
    """Anything that can be pickled."""
    bytes: int
    """Size, by which small ones are put together."""


def read_in_workers(
    spark: SparkSession, units: Iterable[Unit], schema: StructType, read: Callable[[Any], Iterator[pa.Table]]
) -> DataFrame:
    """Return the rows of files that workers read.

    Args:
        spark: The session.
        units: The files.
        schema: Columns of the result: one that a file lacks is null there, a narrower type is widened.
        read: From `Unit.what` to rows; columns are found by their names.
    """
    bundles = _bundles(units)
    wanted = to_arrow_schema(schema, timezone="UTC")

    def read_bundles(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for bundle in (value for batch in batches for value in batch.column(0).to_pylist()):
            for what in pickle.loads(bundle):
                for rows in read(what):
                    yield from aligned(rows, wanted).to_batches(BATCH_ROWS)

    sent = spark.createDataFrame(pa.table({"files": pa.array(bundles, pa.binary())}), "files binary")
    if len(bundles) > 1:
        sent = sent.repartition(len(bundles))
    return sent.mapInArrow(read_bundles, schema)


def _bundles(units: Iterable[Unit]) -> list[bytes]:
    bundles: list[list[Any]] = []
    filled = _BUNDLE_BYTES
    for unit in units:
        if filled >= _BUNDLE_BYTES:
            bundles.append([])
            filled = 0
        bundles[-1].append(unit.what)
        filled += unit.bytes
    return [pickle.dumps(bundle) for bundle in bundles]


def aligned(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return rows with just these columns, in this order and these types; those that are missing are null."""
    columns = []
    for field in schema:
        index = rows.schema.get_field_index(field.name)
        column = rows.column(index) if index >= 0 else pa.nulls(rows.num_rows, field.type)
        columns.append(_cast(column, field.type))
    return pa.Table.from_arrays(columns, schema=schema)


def _cast(column: Any, to: pa.DataType) -> Any:
    """Return a column in a wider type; instants in nanoseconds are rounded down to microseconds, as Spark has them."""
    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        column = pc.floor_temporal(column, 1, "microsecond")
    return column.cast(to) if column.type != to else column


class ParquetFile(NamedTuple):
    """A Parquet file, and what belongs to its rows without being in it."""

    location: str
    constants: dict[str, Any]
    """Values of columns that are the same for all rows of the file."""
    keeps: bytes = b""
    """Which rows count, a bit each, as `numpy.packbits` makes it, compressed by zlib; b"" for all of them."""


def read_parquet(file: ParquetFile, columns: Sequence[str], constants: pa.Schema) -> Iterator[pa.Table]:
    """Read some columns of a Parquet file, with its constants as columns, without the rows that do not count.

    Args:
        file: The file.
        columns: Those that are read, if the file has them.
        constants: Types of its constants.
    """
    keeps = _kept(file.keeps) if file.keeps else None
    system, path = arrow(place(file.location))
    with pq.ParquetFile(system.open_input_file(path)) as opened:
        present = [name for name in opened.schema_arrow.names if name in set(columns)]
        start = 0
        for batch in opened.iter_batches(BATCH_ROWS, columns=present):
            rows, end = pa.Table.from_batches([batch]), start + batch.num_rows
            for field in constants:
                value = pa.array([file.constants.get(field.name)], field.type)
                rows = rows.append_column(
                    field, pa.chunked_array([value.take(pa.array([0] * batch.num_rows, "int32"))])
                )
            yield rows if keeps is None else rows.filter(pa.array(keeps(start, end)))
            start = end


def _kept(packed: bytes) -> Callable[[int, int], Any]:
    """Return a function from a range of rows to whether each counts; rows beyond the end of the bits do."""
    bits = np.unpackbits(np.frombuffer(zlib.decompress(packed), np.uint8)).astype(bool)

    def within(start: int, end: int) -> Any:
        known = bits[start:end]
        return np.concatenate([known, np.ones(end - start - len(known), bool)])

    return within
