"""CSV files that workers read, by RFC 4180 unless options say otherwise: as Spark does, all values are texts."""

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import pyarrow as pa
from pyspark.sql.types import StringType, StructField, StructType

from recsys.raw_tables.opened import opened
from recsys.tables.parts import BATCH_ROWS

OPTIONS = frozenset({"sep", "delimiter", "encoding", "charset", "header", "quote", "multiLine"})
"""Options of Spark's reader that are known here; Python's and Spark's notions of an escape differ in bare values."""
csv.field_size_limit(1 << 30)


def columns(location: str, options: dict[str, str]) -> StructType:
    """Return the columns that the first line names, or that it has."""
    with _text(location, options) as text:
        first = next(_records(text, options), [])
    names = names_by_spark(first) if _has_header(options) else [f"_c{number}" for number in range(len(first))]
    return StructType([StructField(name, StringType()) for name in names])


def rows(location: str, options: dict[str, str], wanted: StructType) -> Iterator[pa.Table]:  # noqa: ARG001
    """Yield a file's rows; a row that is too short ends in nulls, one that is too long is cut, and "" is null."""
    names = columns(location, options).names
    kind = pa.schema([(name, pa.string()) for name in names])
    with _text(location, options) as text:
        records = _records(text, options)
        if _has_header(options):
            next(records, None)
        while batch := list(islice(records, BATCH_ROWS)):
            padded = [[value or None for value in record[: len(names)]] for record in batch]
            values = [[row[i] if i < len(row) else None for row in padded] for i in range(len(names))]
            yield pa.table([pa.array(each, pa.string()) for each in values], schema=kind)


def names_by_spark(header: Sequence[str]) -> list[str]:
    """Return the names that Spark gives to columns: those that are empty or there twice have their number."""
    folded = Counter(name.lower() for name in header)
    return [
        f"_c{number}" if not name else f"{name}{number}" if folded[name.lower()] > 1 else name
        for number, name in enumerate(header)
    ]


def _has_header(options: dict[str, str]) -> bool:
    return options.get("header", "true").lower() == "true"


def _text(location: str, options: dict[str, str]) -> io.TextIOWrapper:
    encoding = options.get("encoding") or options.get("charset") or "UTF-8"
    return io.TextIOWrapper(opened(location), "utf-8-sig" if encoding.upper() == "UTF-8" else encoding, newline="")


def _records(text: io.TextIOWrapper, options: dict[str, str]) -> Iterator[list[str]]:
    quote = options.get("quote", '"')
    how: dict[str, Any] = {"delimiter": (options.get("sep") or options.get("delimiter") or ",").replace("\\t", "\t")}
    how |= {"quotechar": quote} if quote else {"quoting": csv.QUOTE_NONE}
    return (record for record in csv.reader(text, **how) if record)
