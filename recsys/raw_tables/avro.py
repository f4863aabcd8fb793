"""Avro files without Spark's module for them: `fastavro` reads them in workers."""

from collections.abc import Iterator
from itertools import islice
from typing import Any
from uuid import UUID

import pyarrow as pa
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    BooleanType,
    DataType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    MapType,
    NullType,
    StringType,
    StructField,
    StructType,
    TimestampNTZType,
    TimestampType,
)

from recsys.errors import ConfigurationError
from recsys.raw_tables.opened import opened
from recsys.tables.parts import BATCH_ROWS

_PLAIN = {
    "null": NullType(),
    "boolean": BooleanType(),
    "int": IntegerType(),
    "long": LongType(),
    "float": FloatType(),
    "double": DoubleType(),
    "bytes": BinaryType(),
    "string": StringType(),
    "enum": StringType(),
    "fixed": BinaryType(),
}
_LOGICAL = {
    "date": DateType(),
    "timestamp-millis": TimestampType(),
    "timestamp-micros": TimestampType(),
    "local-timestamp-millis": TimestampNTZType(),
    "local-timestamp-micros": TimestampNTZType(),
    "uuid": StringType(),
}


def columns(location: str, options: dict[str, str]) -> StructType:  # noqa: ARG001  as of each format
    """Return the columns of a file; those that Spark has no type for are left out.

    Raises:
        ConfigurationError: If `fastavro` is not installed.
        ValueError: If it is no Avro file, or one of something else than records.
    """
    with opened(location) as file:
        return _columns(_fastavro().reader(file).writer_schema)


def rows(location: str, options: dict[str, str], wanted: StructType) -> Iterator[pa.Table]:  # noqa: ARG001
    """Yield a file's rows, with those of the wanted columns that it has."""
    with opened(location) as file:
        records = _fastavro().reader(file)
        found = StructType([field for field in _columns(records.writer_schema) if field.name in wanted.names])
        kinds = to_arrow_schema(found, timezone="UTC")
        while batch := list(islice(records, BATCH_ROWS)):
            yield pa.Table.from_pylist(
                [{f.name: _plain(record[f.name], f.dataType) for f in found} for record in batch], kinds
            )


def _columns(schema: Any) -> StructType:
    schema = _fastavro().schema.expand_schema(schema)
    if not isinstance(schema, dict) or schema.get("type") != "record":
        raise ValueError("it holds no records")
    kinds = {field["name"]: _type(field["type"]) for field in schema["fields"]}
    return StructType([StructField(name, kind) for name, kind in kinds.items() if kind])


def _plain(value: Any, kind: DataType) -> Any:
    """Return a value as Arrow takes it: maps are lists of pairs, and uuids texts."""
    if value is None:
        return None
    if isinstance(kind, MapType):
        return [(key, _plain(each, kind.valueType)) for key, each in value.items()]
    if isinstance(kind, ArrayType):
        return [_plain(each, kind.elementType) for each in value]
    if isinstance(kind, StructType):
        return {field.name: _plain(value.get(field.name), field.dataType) for field in kind}
    return str(value) if isinstance(value, UUID) else value


def _fastavro() -> Any:
    try:
        import fastavro
    except ImportError as error:
        raise ConfigurationError(
            "an Avro file needs fastavro, which is not installed, or Spark's own module: pip install "
            "'flash-sale-recsys[avro]', or add Spark's package org.apache.spark:spark-avro to spark.conf"
        ) from error
    return fastavro


def _type(kind: Any, known: frozenset[str] = frozenset()) -> DataType | None:
    """Return Spark's type; None where it has none."""
    if isinstance(kind, list):
        others = [each for each in kind if each != "null"]
        return _type(others[0], known) if len(others) == 1 else None
    if isinstance(kind, str):
        return _PLAIN.get(kind)
    if logical := kind.get("logicalType"):
        if logical == "decimal":
            return DecimalType(kind["precision"], kind.get("scale", 0))
        if logical in _LOGICAL:
            return _LOGICAL[logical]
        if logical.startswith("time-"):
            return None
    if kind["type"] == "array":
        inner = _type(kind["items"], known)
        return ArrayType(inner) if inner else None
    if kind["type"] == "map":
        inner = _type(kind["values"], known)
        return MapType(StringType(), inner) if inner else None
    if kind["type"] == "record":
        if kind["name"] in known:  # a record within itself
            return None
        inside = {field["name"]: _type(field["type"], known | {kind["name"]}) for field in kind["fields"]}
        return StructType([StructField(name, each) for name, each in inside.items() if each])
    return _PLAIN.get(kind["type"]) if isinstance(kind["type"], str) else _type(kind["type"], known)
