"""Iceberg tables without Spark's connector: `pyiceberg` reads the metadata, and Spark or its workers the data files.

Spark reads the files by the names of their columns if names mean the same in every version of the table's schema and no
row was deleted in a file; otherwise workers read them by `pyiceberg`, which knows columns by their ids.
"""

import re
import uuid
from collections.abc import Iterator, Mapping
from functools import partial, reduce
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema
from pyspark.sql.types import StringType, StructField, StructType

from recsys.config.pipeline import RawTable
from recsys.errors import ConfigurationError, InputError
from recsys.raw_tables.spark_reach import spelling_for_spark
from recsys.raw_tables.workers import Unit, read_in_workers
from recsys.storage.places import absolute, place
from recsys.tables.paths import load

METADATA = "metadata"
"""Folder of an Iceberg table with its metadata."""
_HINT = "version-hint.text"
_BY_HADOOP = re.compile(r"v(\d+)\.metadata\.json")
_FSSPEC = {"py-io-impl": "pyiceberg.io.fsspec.FsspecFileIO"}
_UNREADABLE = re.compile(r"(time|fixed|geometry|geography|unknown|variant)\b")
"""Iceberg's names of the column types that Spark does not have."""


def read_iceberg(spark: SparkSession, name: str, raw: RawTable) -> DataFrame:
    """Return the rows of an Iceberg table as of the snapshot `raw.version`, or of the newest one.

    Args:
        spark: The session.
        name: The raw table's name.
        raw: Where it is: at `path`, or `table` of a catalogue that its options or pyiceberg's own configuration name.

    Raises:
        InputError: If there is no such table or snapshot, or rows were deleted in a way that pyiceberg does not read.
        ConfigurationError: If `pyiceberg` is not installed.
    """
    table = open_iceberg(name, raw)
    try:
        return _rows(spark, table, raw.version)
    except (NotImplementedError, ValueError) as error:  # equality deletes, an unknown snapshot
        raise InputError(
            f"raw table '{name}': Iceberg table {raw.path or raw.table} cannot be read without Spark's connector "
            f"({error}): add Spark's package org.apache.iceberg:iceberg-spark-runtime to spark.conf, or rewrite the "
            f"table's files; a 'version' must be one of its snapshots"
        ) from error


def open_iceberg(name: str, raw: RawTable) -> Any:
    """Return a table as pyiceberg has it.

    Raises:
        InputError: If there is none.
        ConfigurationError: If `pyiceberg` is not installed.
    """
    try:
        from pyiceberg.catalog import load_catalog
        from pyiceberg.table import StaticTable
    except ImportError as error:
        raise ConfigurationError(
            f"raw table '{name}' is an Iceberg table, and neither Spark has a connector nor is pyiceberg installed: "
            "pip install 'flash-sale-recsys[iceberg]', or add Spark's package "
            "org.apache.iceberg:iceberg-spark-runtime to spark.conf"
        ) from error
    try:
        if raw.table:
            catalogue, _, identifier = raw.table.partition(".")
            return load_catalog(catalogue, **_FSSPEC, **raw.options).load_table(identifier)
        return StaticTable.from_metadata(metadata_file(name, raw), _FSSPEC)
    except InputError:
        raise
    except Exception as error:  # pyiceberg's catalogues raise those of SQLAlchemy, requests and others
        raise InputError(
            f"raw table '{name}': Iceberg table {raw.path or raw.table} cannot be opened ("
            f"{type(error).__name__}: {' '.join(str(error).split())[:200]}): correct source.raw.{name}"
        ) from error


def metadata_file(name: str, raw: RawTable) -> str:
    """Return the file with the current metadata of a table at `raw.path`, which may be that file itself.

    Raises:
        InputError: If it cannot be told: only a catalogue knows which of several files is the current one.
    """
    location = (raw.path or "").rstrip("/")
    where = absolute(place(location))
    if location.endswith(".metadata.json"):
        return str(where)
    folder = where / METADATA
    if (folder / _HINT).exists():
        hint = (folder / _HINT).read_text().strip()
        return str(
            folder / (hint if hint.endswith(".json") else f"{f'v{hint}' if hint.isdigit() else hint}.metadata.json")
        )
    names = [each.name for each in folder.iterdir() if each.name.endswith(".metadata.json")] if folder.exists() else []
    if not names:
        raise InputError(
            f"raw table '{name}': {raw.path} has no folder {METADATA} with metadata of Iceberg: correct "
            f"source.raw.{name}.path"
        )
    by_hadoop = {int(match[1]): each for each in names if (match := _BY_HADOOP.fullmatch(each))}
    if len(by_hadoop) < len(names):
        raise InputError(
            f"raw table '{name}': which of the {len(names)} files of metadata in {raw.path} is the current one, only "
            f"the table's catalogue knows: write source.raw.{name} as {{table: CATALOGUE.SCHEMA.TABLE, format: "
            "iceberg}} with its address in options, or give the file itself as 'path'"
        )
    return str(folder / by_hadoop[max(by_hadoop)])


def _rows(spark: SparkSession, table: Any, version: int | None) -> DataFrame:
    from pyiceberg.expressions import AlwaysTrue
    from pyiceberg.io.pyarrow import ArrowScan, schema_to_pyarrow

    scan = table.scan(snapshot_id=version)
    readable = [each.name for each in scan.projection().fields if not _UNREADABLE.match(str(each.field_type))]
    scan = scan.select(*readable)
    wanted = scan.projection()
    arrow = pa.schema(list(schema_to_pyarrow(wanted, include_field_ids=False)))
    uuids = [each.name for each in wanted.fields if str(each.field_type) == "uuid"]
    schema = _in_spark(arrow, uuids)
    plain: list[Any] = []
    by_workers: list[Any] = []
    by_name = _names_are_enough(table, wanted) and not uuids
    root = _root_for_spark(spark, table)
    for task in scan.plan_files():
        by_spark = by_name and root is not None and not task.delete_files and _has_all_columns(table, task)
        (plain if by_spark else by_workers).append(task)
    parts = []
    if plain:
        paths = [_for_spark(task.file.file_path, root) for task in plain]
        # Folders named COLUMN=VALUE hold transformed values; the columns themselves are in the files.
        reader = spark.read.schema(schema).option("recursiveFileLookup", "true").option("mergeSchema", "false")
        parts.append(load(reader, paths))
    if by_workers or not parts:
        arrow_scan = ArrowScan(table.metadata, table.io, wanted, AlwaysTrue())
        units = [Unit(task, task.file.file_size_in_bytes) for task in by_workers]
        parts.append(read_in_workers(spark, units, schema, partial(_read_task, scan=arrow_scan, uuids=uuids)))
    return reduce(DataFrame.unionByName, parts)


def _read_task(task: Any, scan: Any, uuids: list[str]) -> Iterator[pa.Table]:
    for batch in scan.to_record_batches([task]):
        rows = pa.Table.from_batches([batch])
        for column in uuids:
            values = [None if value is None else _uuid(value) for value in rows[column].to_pylist()]
            rows = rows.set_column(rows.schema.get_field_index(column), column, pa.array(values, pa.string()))
        yield rows


def _uuid(value: Any) -> str:
    return str(value if isinstance(value, uuid.UUID) else uuid.UUID(bytes=value))


def _in_spark(schema: pa.Schema, uuids: list[str]) -> StructType:
    """Return the columns as Spark has them; uuids are texts, and instants in nanoseconds are cut to microseconds."""
    fields = []
    for field in schema:
        if field.name in uuids:
            fields.append(StructField(field.name, StringType()))
        else:
            kind = field.type
            if pa.types.is_timestamp(kind):
                kind = pa.timestamp("us", kind.tz)
            fields += from_arrow_schema(pa.schema([(field.name, kind)])).fields
    return StructType(fields)


def _names_are_enough(table: Any, wanted: Any) -> bool:
    """Return whether each name means one column in all versions of the schema, and files need no default values."""
    from pyiceberg.schema import index_name_by_id
    from pyiceberg.types import NestedField

    ids: dict[str, set[int]] = {}
    names: dict[int, set[str]] = {}
    for schema in table.schemas().values():
        for field_id, name in index_name_by_id(schema).items():
            ids.setdefault(name, set()).add(field_id)
            names.setdefault(field_id, set()).add(name)
    fields: list[NestedField] = list(wanted.fields)
    has_defaults = any(field.initial_default is not None for field in fields)
    has_nanoseconds = any("_ns" in str(field.field_type) for field in fields)
    return not has_defaults and not has_nanoseconds and _are_pairs(ids) and _are_pairs(names)


def _are_pairs(found: Mapping[Any, set[Any]]) -> bool:
    return all(len(each) == 1 for each in found.values())


def _has_all_columns(table: Any, task: Any) -> bool:
    """Return whether Spark reads a file alone: it is Parquet and holds the columns that the table is partitioned by.

    Files that were taken over from a Hive table have those in the names of their folders only.
    """
    from pyiceberg.transforms import IdentityTransform

    spec = table.specs()[task.file.spec_id]
    identical = [each.source_id for each in spec.fields if isinstance(each.transform, IdentityTransform)]
    counted = task.file.value_counts or {}
    return str(task.file.file_format).upper().endswith("PARQUET") and all(each in counted for each in identical)


def _root_for_spark(spark: SparkSession, table: Any) -> str | None:
    """Return the scheme and slashes with which Spark finds the table's files; None if it cannot."""
    location = str(table.location())
    if "://" not in location or location.startswith("file:"):
        return ""
    spelling = spelling_for_spark(spark, location)
    return spelling and spelling.partition("://")[0] + "://"


def _for_spark(path: str, root: str | None) -> str:
    if not root:
        return str(Path(path.removeprefix("file://").removeprefix("file:")))
    return root + path.partition("://")[2]
