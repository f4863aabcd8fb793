"""A few rows of each raw table as they were read, before any SQL: what validation shows of a file's format."""

from collections.abc import Mapping
from typing import NamedTuple

from pyspark.sql import DataFrame
from pyspark.sql import functions as f

from recsys.errors import InputError
from recsys.spark_errors import SPARK_ERRORS, first_line


class RawRows(NamedTuple):
    """A few rows of a raw table."""

    table: str
    columns: list[tuple[str, str]]
    """Name and Spark's type of each column."""
    rows: list[tuple[str | None, ...]]
    """The values of each row as text, by column."""


def first_rows(raw: Mapping[str, DataFrame], n: int = 3) -> list[RawRows]:
    """Return the first n rows of each raw table.

    Raises:
        InputError: If a table cannot be read.
    """
    return [_first_rows(name, frame, n) for name, frame in raw.items()]


def _first_rows(name: str, frame: DataFrame, n: int) -> RawRows:
    texts = frame.toDF(*(f"c{number}" for number in range(len(frame.columns))))  # names may hold dots or be the same
    try:
        rows = texts.limit(n).select(*(f.col(column).cast("string") for column in texts.columns)).collect()
    except SPARK_ERRORS as error:
        raise InputError(f"raw table '{name}': {first_line(error)}: write the file again, or remove it") from error
    return RawRows(
        name, [(column.name, column.dataType.simpleString()) for column in frame.schema], [*map(tuple, rows)]
    )
