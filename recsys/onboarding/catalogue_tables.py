"""Some rows of a table that Spark opens, as those of a file: one of its catalogue, a Delta or Iceberg table, Avro."""

import re
from pathlib import Path

from pyspark.sql import SparkSession

from recsys.config.pipeline import RawTable
from recsys.errors import InputError
from recsys.onboarding.sampling import ROWS, Sample, columns_of
from recsys.raw_tables.delta import LOG
from recsys.raw_tables.files import files_to_read
from recsys.raw_tables.iceberg import METADATA
from recsys.raw_tables.opening import open_raw_table
from recsys.spark_errors import SPARK_ERRORS, first_line

_PART = r"(?:\w+|`[^`]+`)"
_NAME = re.compile(rf"{_PART}(?:\.{_PART}){{1,3}}")
_ENDS_OF_FILES = re.compile(
    "csv|tsv|txt|dat|data|tab|log|jsonl?|ndjson|parquet|pq|orc|avro|xlsx?|zip|xz|7z|rar|tar|tgz|gz|bz2|zst",
    re.IGNORECASE,
)


def is_table_name(location: str) -> bool:
    """Return whether a location is the name of a table: SCHEMA.TABLE or CATALOGUE.SCHEMA.TABLE, and no file.

    A name that ends as those of files do, such as events.csv, is one of a file that is missing.
    """
    is_name = _NAME.fullmatch(location) and not _ENDS_OF_FILES.fullmatch(location.rpartition(".")[2])
    return bool(is_name) and not Path(location).exists()


def lake_table(location: str) -> RawTable | None:
    """Return a location as a Delta or Iceberg table, or as Avro, if it is one on this machine."""
    where = Path(location)
    if (where / LOG).is_dir():
        return RawTable(path=location, format="delta")
    if location.endswith(".metadata.json") or any((where / METADATA).glob("*.metadata.json")):
        return RawTable(path=location, format="iceberg")
    if where.exists() and (files := files_to_read(RawTable(path=location))) and files[0].suffix == ".avro":
        return RawTable(path=location, format="avro")
    return None


def read_lake_sample(spark: SparkSession, raw: RawTable) -> Sample:
    """Read some rows of a Delta or Iceberg table, or of Avro files.

    Raises:
        InputError: If it cannot be read, or has no row.
    """
    location = raw.path or ""
    try:
        rows = open_raw_table(spark, Path(location).stem, raw).limit(ROWS).toArrow().to_pylist()
    except SPARK_ERRORS as error:
        raise InputError(f"{location} cannot be read as {raw.format}: {first_line(error)}") from error
    if not rows:
        raise InputError(f"{location} has no row, needs at least one: fill it")
    return Sample(raw, columns_of(rows))


def read_table_sample(spark: SparkSession, location: str) -> Sample:
    """Read some rows of a table of Spark's catalogue.

    Raises:
        InputError: If there is no such table, or it has no row.
    """
    try:
        rows = spark.table(location).limit(ROWS).toArrow().to_pylist()
    except SPARK_ERRORS as error:
        raise InputError(
            f"{location} is neither a file nor a table of Spark's catalogue ({first_line(error)}): correct the name; "
            "where the catalogue is, spark.conf of conf/base.yaml says (spark.sql.catalog.NAME, …)"
        ) from error
    if not rows:
        raise InputError(f"table {location} has no row, needs at least one: fill it")
    return Sample(RawTable(table=location), columns_of(rows), ("a table of Spark's catalogue",))
