"""Tables written and read by Spark: by its Python workers, so that no Hadoop connector is needed wherever fsspec can.

Spark itself reads what is on a local disk.
"""

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark import TaskContext
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

from recsys.storage.places import Place, absolute, arrow, sizes_below
from recsys.tables.parts import BATCH_ROWS, BUFFER_BYTES, Part, PartWriter, parts_of, write_file, write_list
from recsys.tables.paths import load

_PART = pa.schema([("name", pa.string()), ("rows", pa.int64()), ("bytes", pa.int64()), ("sha256", pa.string())])
_PART_DDL = "name string, rows long, bytes long, sha256 string"

Function = Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]


def write_parts(frame: DataFrame, table: Place, partitioned_by: Sequence[str] = ()) -> None:
    """Write a frame: each partition by its worker, then the list of parts.

    Args:
        frame: The rows.
        table: Folder of the table; must not have a list of parts.
        partitioned_by: Columns whose values name folders, as in `day=2026-03-01`, and are not in the files.
    """
    written = new_parts(frame, table, partitioned_by)
    if not written:
        schema = to_arrow_schema(frame.drop(*partitioned_by).schema, timezone="UTC")
        written = [write_file(table, "part-00000-empty.parquet", [schema.empty_table()])]
    write_list(table, written)


def new_parts(frame: DataFrame, table: Place, partitioned_by: Sequence[str] = ()) -> list[Part]:
    """Write a frame as parts that no list has yet; none for a frame without rows. See `write_parts`."""
    table = absolute(table)
    if isinstance(table, Path):
        table.mkdir(parents=True, exist_ok=True)
    write = partial(_write_partition, table=table, partitioned_by=tuple(partitioned_by))
    return [Part(**part) for part in frame.mapInArrow(write, _PART_DDL).toArrow().to_pylist()]


def read_spark(spark: SparkSession, table: Place, schema: StructType, only: Sequence[str] | None = None) -> DataFrame:
    """Read a table's parts by Spark, or by its Python workers if they are not on a local disk.

    Args:
        spark: The session.
        table: Folder of the table.
        schema: Its columns, those in the names of folders last.
        only: Names of the parts to read, at least one; all by default.
    """
    names = [part.name for part in parts_of(table)] if only is None else list(only)
    if isinstance(table, Path):
        if len(names) == sum(name.endswith(".parquet") for name in sizes_below(table)):
            return load(spark.read.schema(schema), [table])
        return load(spark.read.schema(schema).option("basePath", str(table)), [table / name for name in names])
    return read_named(spark, table, names, schema)


def read_named(spark: SparkSession, table: Place, names: Sequence[str], schema: StructType) -> DataFrame:
    """Read parts of a table by Spark's Python workers; columns that a part of an earlier version lacks are null.

    Args:
        spark: The session.
        table: Folder of the table.
        names: The parts' paths in it; may be none.
        schema: The columns, those in the names of folders last.
    """
    read = partial(_read_parts, table=table, names=names, schema=to_arrow_schema(schema, timezone="UTC"))
    return spark.range(0, len(names), 1, max(len(names), 1)).mapInArrow(read, schema)


@dataclass(frozen=True)
class PartTasks:
    """The parts of a table as tasks of Spark, whose Python workers read them: no row goes through Java.

    There is a task for each part, in the order of the parts' names, whatever their sizes and wherever they are: so
    what is made of them has the same parts in the same order on every machine and in every store.
    """

    spark: SparkSession
    table: Place

    def mapInArrow(self, function: Function, schema: str | StructType) -> DataFrame:  # noqa: N802  as that of a frame
        """Return what a function makes of the rows of each part; see `DataFrame.mapInArrow`."""
        table = absolute(self.table)
        names = [part.name for part in parts_of(table)]

        def apply(numbers: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            yield from function(_batches_of(table, [names[number] for number in _numbers(numbers)]))

        return self.spark.range(0, len(names), 1, len(names)).mapInArrow(apply, schema)


def _numbers(batches: Iterator[pa.RecordBatch]) -> Iterator[int]:
    return (number for batch in batches for number in batch.column(0).to_pylist())


def _batches_of(table: Place, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    system, root = arrow(table)
    for name in names:
        with pq.ParquetFile(system.open_input_file(f"{root}/{name}"), buffer_size=BUFFER_BYTES) as file:
            yield from file.iter_batches(BATCH_ROWS)


def _write_partition(
    batches: Iterator[pa.RecordBatch], table: Place, partitioned_by: tuple[str, ...]
) -> Iterator[pa.RecordBatch]:
    """Write the rows of one task; return what was written, which counts only if the task does."""
    context = TaskContext.get()
    name = f"part-{context.partitionId() if context else 0:05}-{secrets.token_hex(4)}.parquet"
    writers: dict[str, PartWriter] = {}
    for batch in batches:
        for folder, rows in _by_folder(batch, partitioned_by):
            if rows.num_rows:
                writers.setdefault(folder, PartWriter(table, folder + name)).write(rows)
    parts = [writer.close()._asdict() for writer in writers.values()]
    yield pa.RecordBatch.from_pylist(parts, _PART)


def _by_folder(batch: pa.RecordBatch, partitioned_by: tuple[str, ...]) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Divide rows by the folder that the values of some columns name."""
    if not partitioned_by:
        yield "", batch
        return
    keys = pa.Table.from_batches([batch.select(list(partitioned_by))])
    plain = batch.drop_columns(list(partitioned_by))
    rows: dict[str, list[int]] = {}
    for row, values in enumerate(keys.to_pylist()):
        folder = "".join(f"{column}={value}/" for column, value in values.items())
        rows.setdefault(folder, []).append(row)
    for folder, chosen in rows.items():
        yield folder, plain.take(pa.array(chosen))


def _read_parts(
    batches: Iterator[pa.RecordBatch], table: Place, names: Sequence[str], schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    """Read the parts of the given numbers; the values in the names of their folders become columns."""
    for name in (names[number] for number in _numbers(batches)):
        in_folders = dict(each.split("=", 1) for each in name.split("/")[:-1])
        for rows in _batches_of(table, [name]):
            yield _with_columns(rows, in_folders, schema)


def _with_columns(rows: pa.RecordBatch, in_folders: dict[str, str], schema: pa.Schema) -> pa.RecordBatch:
    columns = [_column(rows, each, in_folders) for each in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _column(rows: pa.RecordBatch, wanted: pa.Field, in_folders: dict[str, str]) -> pa.Array:
    if wanted.name in in_folders:
        return pa.array([in_folders[wanted.name]] * rows.num_rows).cast(wanted.type)
    if wanted.name not in rows.schema.names:
        return pa.nulls(rows.num_rows, wanted.type)
    return rows.column(wanted.name).cast(wanted.type)
