"""Parquet files that workers read."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql.pandas.types import from_arrow_schema
from pyspark.sql.types import StructType

from recsys.raw_tables.files import UNREADABLE
from recsys.raw_tables.workers import ParquetFile, read_parquet
from recsys.storage.places import arrow, place


def columns(location: str, options: dict[str, str]) -> StructType:  # noqa: ARG001  as of each format
    """Return the columns of a file, without those that Spark has no type for."""
    system, path = arrow(place(location))
    return in_spark(pq.read_schema(path, filesystem=system))


def in_spark(schema: pa.Schema) -> StructType:
    """Return the columns as Spark has them; instants in nanoseconds are cut to microseconds."""
    fields = []
    for field in schema:
        if UNREADABLE.search(str(field.type)):
            continue
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if pa.types.is_timestamp(kind):
            kind = pa.timestamp("us", kind.tz)
        fields += from_arrow_schema(pa.schema([(field.name, kind)])).fields
    return StructType(fields)


def rows(location: str, options: dict[str, str], wanted: StructType) -> Iterator[pa.Table]:  # noqa: ARG001
    """Yield a file's rows, with those of the wanted columns that it has."""
    yield from read_parquet(ParquetFile(location, {}), wanted.names, pa.schema([]))
