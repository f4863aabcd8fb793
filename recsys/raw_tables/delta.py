"""Delta tables without Spark's connector: `deltalake` reads the log, and Spark or its workers the files it names.

A file that Spark can read as it is, Spark reads. One with deleted rows, or behind a URL for which Spark has no file
system, is read by workers. A table that needs more than is known here is refused: rows would be wrong silently.
"""

import datetime as dt
import json
import os
import re
import zlib
from functools import partial, reduce
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import ArrayType, DataType, MapType, StructField, StructType

from recsys.config.pipeline import RawTable
from recsys.errors import ConfigurationError, InputError
from recsys.raw_tables.column_types import quoted
from recsys.raw_tables.spark_reach import spelling_for_spark
from recsys.raw_tables.workers import ParquetFile, Unit, read_in_workers, read_parquet
from recsys.storage.places import Place, absolute, place
from recsys.tables.paths import load

LOG = "_delta_log"
"""Folder of a Delta table with its log."""
_KNOWN_FEATURES = {
    *("appendOnly", "checkConstraints", "columnMapping", "deletionVectors", "domainMetadata", "generatedColumns"),
    *("identityColumns", "invariants", "timestampNtz", "typeWidening", "typeWidening-preview", "v2Checkpoint"),
    *("vacuumProtocolCheck", "changeDataFeed", "rowTracking", "clustering", "inCommitTimestamp"),
}
_PHYSICAL_NAME = "delta.columnMapping.physicalName"
_LISTED = ("path", "size_bytes", "partition")
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


class _File(NamedTuple):
    path: str
    """Below the table's folder, or a whole URL."""
    size: int
    partition: dict[str, Any]
    keeps: bytes


def read_delta(spark: SparkSession, name: str, raw: RawTable) -> DataFrame:
    """Return the rows of a Delta table at `raw.path`, as of `raw.version` or the newest version.

    Raises:
        InputError: If there is no such table or version, or it needs what is not known here.
        ConfigurationError: If `deltalake` is not installed.
    """
    where = absolute(place(raw.path or ""))
    table = _opened(name, raw, where)
    logical = StructType.fromJson(json.loads(table.schema().to_json()))
    partitioned_by = table.metadata().partition_columns
    physical = _physical(logical)
    assert isinstance(physical, StructType)
    names = {field.name: written.name for field, written in zip(logical, physical, strict=True)}
    found = _files(name, table, where)
    files = [each._replace(partition={names[k]: v for k, v in each.partition.items()}) for each in found]
    constants = StructType([field for field in physical if field.name in {names[each] for each in partitioned_by}])
    root = str(where) if isinstance(where, Path) else spelling_for_spark(spark, str(where))
    plain: list[_File] = []
    by_workers: list[_File] = []
    parts = []
    for each in files:
        by_spark = root is not None and not each.keeps and _tells_partition(each, constants.names)
        (plain if by_spark else by_workers).append(each)
    if plain:
        reader = spark.read.schema(physical).option("basePath", str(root)).option("mergeSchema", "false")
        parts.append(load(reader, [_joined(str(root), each.path) for each in plain]).select(*physical.names))
    if by_workers or not parts:
        units = [
            Unit(ParquetFile(_joined(str(where), each.path), each.partition, each.keeps), each.size)
            for each in by_workers
        ]
        columns = [each for each in physical.names if each not in constants.names]
        read = partial(read_parquet, columns=columns, constants=to_arrow_schema(constants, timezone="UTC"))
        parts.append(read_in_workers(spark, units, physical, read))
    return reduce(DataFrame.unionByName, parts).select(
        *(
            f.col(quoted(written.name)).cast(field.dataType).alias(field.name)
            for field, written in zip(logical, physical, strict=True)
        )
    )


def _opened(name: str, raw: RawTable, where: Place) -> Any:
    try:
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError
    except ImportError as error:
        raise ConfigurationError(
            f"raw table '{name}' is a Delta table, and neither Spark has a connector nor is deltalake installed: pip "
            "install 'flash-sale-recsys[delta]', or add Spark's package io.delta:delta-spark to spark.conf"
        ) from error
    try:
        table = DeltaTable(str(where), version=raw.version, storage_options=_storage_options())
    except (DeltaError, OSError, ValueError) as error:
        version = "" if raw.version is None else f" version {raw.version} of"
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"raw table '{name}':{version} Delta table {raw.path} cannot be opened ({reason}): correct "
            f"source.raw.{name}"
        ) from error
    needed = set(table.protocol().reader_features or ())
    mode = table.metadata().configuration.get("delta.columnMapping.mode", "none")
    unknown = sorted(needed - _KNOWN_FEATURES) + ([f"columnMapping by {mode}"] if mode not in ("none", "name") else [])
    if unknown:
        raise InputError(
            f"raw table '{name}': Delta table {raw.path} needs {', '.join(unknown)} of its readers, which only Spark's "
            "connector knows: add Spark's package io.delta:delta-spark to spark.conf"
        )
    return table


def _storage_options() -> dict[str, str]:
    """Return options of the store beside its credentials, which come from the environment."""
    return {"allow_http": "true"} if os.environ.get("AWS_ENDPOINT_URL", "").startswith("http:") else {}


def _files(name: str, table: Any, where: Place) -> list[_File]:
    """Return the files of a table, and which of their rows were deleted."""
    actions = pa.table(table.get_add_actions())
    listed = actions.select([each for each in actions.column_names if each in _LISTED]).to_pylist()
    paths = [unquote(row["path"]) for row in listed]
    keeps = _rows_kept(name, table, where, {_below(path, where) for path in paths})
    return [
        _File(path, row["size_bytes"], row.get("partition") or {}, keeps.get(_below(path, where), b""))
        for path, row in zip(paths, listed, strict=True)
    ]


def _rows_kept(name: str, table: Any, where: Place, paths: set[str]) -> dict[str, bytes]:
    """Return which rows of each file with deleted ones were not, as bits; see `ParquetFile.keeps`."""
    if "deletionVectors" not in (table.protocol().reader_features or ()):
        return {}
    from deltalake.exceptions import DeltaError

    keeps: dict[str, bytes] = {}
    try:
        for batch in pa.RecordBatchReader.from_stream(table.deletion_vectors()):
            for uri, kept in zip(batch.column(0).to_pylist(), batch.column(1), strict=True):
                path = next((each for each in (_below(uri, where), _below(unquote(uri), where)) if each in paths), None)
                if path is None:  # rows would come back that were deleted
                    raise InputError(f"raw table '{name}': rows were deleted in {uri}, which is no file of {where}")
                bits = np.packbits(kept.values.to_numpy(zero_copy_only=False))
                keeps[path] = zlib.compress(bits.tobytes(), 1)
    except (DeltaError, pa.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"raw table '{name}': the deleted rows of Delta table {where} cannot be read ({reason}): add Spark's "
            "package io.delta:delta-spark to spark.conf, or purge them from its files (REORG TABLE … APPLY (PURGE))"
        ) from error
    return keeps


def _below(path: str, where: Place) -> str:
    """Return a file's path below its table's folder, without a scheme."""
    root = str(where).partition("://")[2] if "://" in str(where) else str(where)
    plain = path.partition("://")[2] if "://" in path else path
    return plain.removeprefix(root.rstrip("/") + "/")


def _joined(root: str, path: str) -> str:
    return path if "://" in path else f"{root.rstrip('/')}/{path}"


def _physical(kind: DataType) -> DataType:
    """Return a type with the names that its fields have in the files."""
    if isinstance(kind, StructType):
        return StructType(
            [
                StructField(field.metadata.get(_PHYSICAL_NAME, field.name), _physical(field.dataType), True)
                for field in kind
            ]
        )
    if isinstance(kind, ArrayType):
        return ArrayType(_physical(kind.elementType), True)
    if isinstance(kind, MapType):
        return MapType(_physical(kind.keyType), _physical(kind.valueType), True)
    return kind


def _tells_partition(file: _File, columns: list[str]) -> bool:
    """Return whether Spark finds a file's values of the partition columns in its path."""
    if "://" in file.path:
        return False
    in_path = dict(part.split("=", 1) for part in file.path.split("/")[:-1] if "=" in part)
    if set(in_path) != set(columns):
        return False
    return all(_as_spark_reads(in_path[column]) == _in_path(file.partition[column]) for column in columns)


def _as_spark_reads(name: str) -> str:
    """Return the value in the name of a folder; Spark takes each %XX as a character, not as a byte of UTF-8."""
    return re.sub("%([0-9A-Fa-f]{2})", lambda found: chr(int(found[1], 16)), name)


def _in_path(value: Any) -> str | None:
    if value is None:
        return _NO_VALUE
    if isinstance(value, dt.datetime) or not isinstance(value, str | int | dt.date) or isinstance(value, bool):
        return None
    return str(value)
