"""Files that workers read because Spark cannot: Parquet, CSV and JSON behind a URL, and Avro anywhere.

What comes out is what Spark would make of the same files; the options of Spark's reader that are not known here are
refused. Values in the names of folders, COLUMN=VALUE, become columns.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f
from pyspark.sql.types import StringType, StructField, StructType

from recsys.config.pipeline import RawTable
from recsys.errors import InputError
from recsys.raw_tables import avro, csv_files, json_files, parquet_files
from recsys.raw_tables.column_types import merged, quoted, with_types
from recsys.raw_tables.files import UNTYPED, types_of
from recsys.raw_tables.listing import ListedFile, listed_files, partition_columns
from recsys.raw_tables.workers import Unit, read_in_workers

_THREADS = 32


class _Format(NamedTuple):
    columns: Callable[[str, dict[str, str]], StructType] | None
    """From a file's location and the options to its columns, by a look at its beginning; None if that does not tell."""
    rows: Callable[[str, dict[str, str], StructType], Iterator[pa.Table]]
    """From a file's location, the options and the wanted columns to its rows; columns may be missing."""
    options: frozenset[str]
    """Options that are known here."""


_FORMATS = {
    "avro": _Format(avro.columns, avro.rows, frozenset()),
    "csv": _Format(csv_files.columns, csv_files.rows, csv_files.OPTIONS),
    "json": _Format(None, json_files.rows, json_files.OPTIONS),
    "parquet": _Format(parquet_files.columns, parquet_files.rows, frozenset({"mergeSchema"})),
}


def read_files_in_workers(spark: SparkSession, name: str, raw: RawTable) -> DataFrame:
    """Return the rows of a raw table's files, read by workers.

    Raises:
        InputError: If there is no file, one cannot be read, or an option is not known here.
    """
    location, format_ = raw.path or raw.pattern, _known_format(name, raw)
    try:
        files = [file for file in listed_files(name, raw) if file.size]
    except FileNotFoundError:
        files = []
    if not files:
        key = "path" if raw.path else "pattern"
        raise InputError(f"raw table '{name}': {location} holds no file with content: correct source.raw.{name}.{key}")
    schemas = _schemas(spark, name, raw, format_, files)
    columns, untyped = with_types(merged(schemas))
    partitions = partition_columns(files, types_of(raw))
    columns = StructType([field for field in columns if field.name not in partitions.names])
    if not columns.names:
        raise InputError(f"raw table '{name}': {location} has no column that Spark has a type for: write it again")
    as_text = StructType([StructField(field.name, StringType()) for field in partitions])
    read = partial(_rows_of, rows=format_.rows, options=raw.options, columns=columns, partitions=partitions.names)
    wanted = json_files.READ if raw.format == "json" else columns
    frame = read_in_workers(spark, (Unit(file, file.size) for file in files), StructType([*wanted, *as_text]), read)
    if raw.format == "json":
        frame = json_files.parsed(frame, columns)
    for field in partitions:
        frame = frame.withColumn(field.name, f.col(quoted(field.name)).cast(field.dataType))
    for column in untyped:
        frame = frame.withMetadata(column, UNTYPED)
    return frame


def _known_format(name: str, raw: RawTable) -> _Format:
    format_ = _FORMATS.get(raw.format)
    if format_ is None:
        raise InputError(
            f"raw table '{name}': {raw.format.upper()} at {raw.path or raw.pattern} is read by Spark alone, which has "
            "no file system for this URL: add its package, such as org.apache.hadoop:hadoop-aws, to spark.conf"
        )
    known = {*format_.options, "pathGlobFilter"}
    if unknown := sorted(set(raw.options) - known):
        raise InputError(
            f"raw table '{name}': options {', '.join(unknown)} are known to Spark alone, which cannot read "
            f"{raw.path or raw.pattern}; without it these are: {', '.join(sorted(known))}. Leave them out, or add the "
            "package that Spark needs to spark.conf"
        )
    return format_


def _schemas(
    spark: SparkSession, name: str, raw: RawTable, format_: _Format, files: Sequence[ListedFile]
) -> list[StructType]:
    look = format_.columns
    if look is None:  # a type is known when all records have been seen
        return json_files.schemas(spark, files, raw.options)

    def columns(file: ListedFile) -> StructType:
        try:
            return look(file.location, raw.options)
        except (pa.ArrowException, OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(
                f"raw table '{name}': {file.location} cannot be read as {raw.format.upper()} ({reason}): write it "
                "again or remove it; if the folder holds other files too, select by options: {pathGlobFilter: '*.…'}"
            ) from error

    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(columns, files))


def _rows_of(
    file: ListedFile,
    rows: Callable[[str, dict[str, str], StructType], Iterator[pa.Table]],
    options: dict[str, str],
    columns: StructType,
    partitions: Sequence[str],
) -> Iterator[pa.Table]:
    for table in rows(file.location, options, columns):
        for name in partitions:
            value = file.partition.get(name)
            table = table.append_column(name, pa.array([value] * table.num_rows, pa.string()))
        yield table
