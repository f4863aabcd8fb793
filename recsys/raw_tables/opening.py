"""How a raw table becomes a DataFrame: by Spark where this session can read it, otherwise without its JARs."""

from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f

from recsys.config.pipeline import RawTable
from recsys.errors import InputError
from recsys.raw_tables.column_types import quoted
from recsys.raw_tables.delta import read_delta
from recsys.raw_tables.files import is_url, read_files, reader_of, types_of
from recsys.raw_tables.iceberg import read_iceberg
from recsys.raw_tables.spark_reach import if_spark_can, spellings
from recsys.raw_tables.worker_formats import read_files_in_workers
from recsys.spark_errors import SPARK_ERRORS
from recsys.tables.paths import load

_BY_LIBRARY: dict[str, Callable[[SparkSession, str, RawTable], DataFrame]] = {
    "delta": read_delta,
    "iceberg": read_iceberg,
    "avro": read_files_in_workers,
}
"""Formats that Spark reads by a connector, and what reads them without one."""
_OF_URLS = {"parquet": {"mergeSchema": "true"}, "csv": {"enforceSchema": "false"}}
"""Options with which Spark reads files that the driver does not look into: their columns may differ, and where those of
CSV are not those of the first file, it says so instead of mixing them up."""
_OPTION_OF_VERSION = {"delta": "versionAsOf", "iceberg": "snapshot-id"}


def open_raw_table(spark: SparkSession, name: str, raw: RawTable, only: Collection[Path] | None = None) -> DataFrame:
    """Return a raw table, with the types that the configuration gives to its columns.

    Args:
        spark: The session.
        name: The raw table's name.
        raw: Where it is, and how it is read.
        only: If given, rows of these files alone, see `read_files`.

    Raises:
        InputError: If it is not there or cannot be read as the configuration says.
        ConfigurationError: If a library for its format or its store is not installed.
    """
    frame = _rows(spark, name, raw, only)
    types = types_of(raw)
    if missing := sorted(set(types) - set(frame.columns)):
        raise InputError(
            f"raw table '{name}': source.raw.{name}.types names {', '.join(missing)}, must name columns of the table: "
            f"{', '.join(frame.columns)}"
        )
    others = {
        column: f.col(quoted(column)).cast(kind)
        for column, kind in types.items()
        if frame.schema[column].dataType != kind
    }
    return frame.withColumns(others) if others else frame  # Spark Connect refuses none


def _rows(spark: SparkSession, name: str, raw: RawTable, only: Collection[Path] | None) -> DataFrame:
    if raw.table:
        return _of_catalogue(spark, name, raw)
    location = raw.path or raw.pattern or ""
    if raw.format in _BY_LIBRARY:
        by_library = _BY_LIBRARY[raw.format]
    elif is_url(location):
        by_library = read_files_in_workers
    else:
        return read_files(spark, name, raw, only)
    by_spark = _by_connector(spark, raw, location)
    return by_library(spark, name, raw) if by_spark is None else by_spark


def _by_connector(spark: SparkSession, raw: RawTable, location: str) -> DataFrame | None:
    """Return what Spark reads; None if it lacks a connector, or cannot put the types of several files together."""
    for spelling in spellings(location):
        reader = reader_of(spark, raw, _OF_URLS.get(raw.format, {}))
        if raw.version is not None:
            reader = reader.option(_OPTION_OF_VERSION[raw.format], str(raw.version))
        is_literal = raw.path and raw.format not in _OPTION_OF_VERSION
        frame = if_spark_can(partial(load, reader, [spelling]) if is_literal else partial(reader.load, spelling))
        if frame is not None:
            return frame
    return None


def _of_catalogue(spark: SparkSession, name: str, raw: RawTable) -> DataFrame:
    reader = spark.read
    if raw.version is not None:
        reader = reader.option(_OPTION_OF_VERSION[raw.format], str(raw.version))
    try:
        frame = reader.table(raw.table or "")
        frame.schema  # noqa: B018  a remote session looks for the table only now
    except SPARK_ERRORS as error:
        if raw.format == "iceberg" and _is_unknown(error):
            return read_iceberg(spark, name, raw)
        raise
    return frame


def _is_unknown(error: Exception) -> bool:
    return any(
        each in str(error)
        for each in ("TABLE_OR_VIEW_NOT_FOUND", "REQUIRES_SINGLE_PART_NAMESPACE", "CATALOG_NOT_FOUND")
    )
