"""JSON files whose text workers fetch and Spark parses: one record per line, or documents over several lines."""

from collections.abc import Iterator, Sequence
from functools import reduce
from itertools import islice
from typing import IO, Any

import orjson
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f
from pyspark.sql.types import (
    ArrayType,
    BooleanType,
    DataType,
    DoubleType,
    LongType,
    NullType,
    StringType,
    StructField,
    StructType,
)

from recsys.errors import InputError
from recsys.raw_tables.column_types import wider
from recsys.raw_tables.files import JSON_DOCUMENTS
from recsys.raw_tables.listing import ListedFile
from recsys.raw_tables.opened import opened
from recsys.raw_tables.workers import Unit, read_in_workers
from recsys.tables.parts import BATCH_ROWS

OPTIONS = frozenset({"multiLine"})
"""Options of Spark's reader that are known here."""
READ = StructType([StructField("record", StringType())])
"""What workers return: the text of each record."""


def schemas(spark: SparkSession, files: Sequence[ListedFile], options: dict[str, str]) -> list[StructType]:
    """Return the columns of each file, by a look at all of its records.

    Raises:
        InputError: If no file has a record.
    """
    kind = StructType([StructField("columns", StringType())])

    def columns_of(location: str) -> Iterator[pa.Table]:
        found: DataType = NullType()
        for text in _records(location, options):
            try:
                value = orjson.loads(text)
            except orjson.JSONDecodeError:
                continue
            if isinstance(value, dict):
                found = wider(found, _type(value))
        yield pa.table(
            {"columns": [found.json()]} if isinstance(found, StructType) else {"columns": pa.nulls(0, pa.string())}
        )

    units = [Unit(file.location, file.size) for file in files]
    found = [
        StructType.fromJson(orjson.loads(row["columns"]))
        for row in read_in_workers(spark, units, kind, columns_of).collect()
    ]
    if not found:
        raise InputError(
            f"no line of {files[0].location} is a JSON record: write one record per line, or set options: "
            "{multiLine: 'true'} for documents over several lines"
        )
    return found


def rows(location: str, options: dict[str, str], wanted: StructType) -> Iterator[pa.Table]:  # noqa: ARG001
    """Yield the text of each record of a file."""
    records = _records(location, options)
    while batch := list(islice(records, BATCH_ROWS)):
        yield pa.table({"record": pa.array([text.decode("utf-8", "replace") for text in batch], pa.string())})


def parsed(frame: DataFrame, columns: StructType) -> DataFrame:
    """Return the columns of records instead of their texts; of one that is no JSON they are null."""
    others = [f.col(name) for name in frame.columns if name != "record"]
    return frame.select(f.from_json("record", columns).alias("record"), *others).select("record.*", *others)


def _records(location: str, options: dict[str, str]) -> Iterator[bytes]:
    with opened(location) as file:
        first = file.readline(1 << 16)
        text = first.removeprefix(b"\xef\xbb\xbf").strip()
        if options.get("multiLine", "false").lower() == "true" or text in JSON_DOCUMENTS:
            yield from _of_document(first + file.read())
            return
        if text.startswith(b"["):  # a list in one line
            yield from _of_document(first + file.read())
            return
        yield from (line for line in map(bytes.strip, _lines(text, first, file)) if line)


def _lines(text: bytes, first: bytes, file: IO[bytes]) -> Iterator[bytes]:
    yield text if first.endswith(b"\n") else text + file.readline()
    yield from file


def _of_document(text: bytes) -> list[bytes]:
    value = orjson.loads(text.removeprefix(b"\xef\xbb\xbf"))
    return [orjson.dumps(each) for each in (value if isinstance(value, list) else [value])]


def _type(value: Any) -> DataType:
    if isinstance(value, dict):
        kinds = {name: _type(each) for name, each in value.items()}
        return StructType([StructField(name, kind) for name, kind in kinds.items()])
    if isinstance(value, list):
        nothing: DataType = NullType()
        return ArrayType(reduce(wider, map(_type, value), nothing))
    by_python = {bool: BooleanType(), int: LongType(), float: DoubleType(), str: StringType()}
    if isinstance(value, int) and abs(value) >= 1 << 63:
        return DoubleType()
    return by_python.get(type(value), NullType())
