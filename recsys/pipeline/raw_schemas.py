"""Columns of raw tables from night to night: what changed is named once, what misleads the SQL is refused."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq
from pyspark.sql import DataFrame
from pyspark.sql import functions as f
from pyspark.sql.types import DataType, NullType, StructType

from recsys.config.pipeline import RawTable, SourceSettings
from recsys.errors import InputError
from recsys.raw_tables.column_types import is_compatible, quoted
from recsys.raw_tables.files import UNTYPED, files_to_read, is_url
from recsys.raw_tables.parquet_files import in_spark
from recsys.spark_errors import SPARK_ERRORS

RAW_SCHEMAS = "raw_schemas.json"
"""Output of the step that validates: the columns of each raw table as that night read them."""


class Change(NamedTuple):
    """What is different about a column of a raw table since the last night."""

    table: str
    column: str
    before: DataType | None
    """Its type in the last night; None for a new column."""
    now: DataType | None
    """Its type; None for a column that is gone."""

    def __str__(self) -> str:
        where = f"raw table '{self.table}': column {self.column}"
        if self.before is None:
            return f"{where} is new ({_name(self.now)})"
        if self.now is None:
            return f"{where} is gone, was {_name(self.before)}"
        return f"{where} is {_name(self.now)}, was {_name(self.before)}"


def schemas_of(raw: Mapping[str, DataFrame]) -> dict[str, StructType]:
    """Return the columns of raw tables; those without a value in any file are of no type."""
    return {name: _schema(frame) for name, frame in raw.items()}


def _schema(frame: DataFrame) -> StructType:
    schema = StructType()
    for field in frame.schema:
        schema.add(field.name, NullType() if field.metadata == UNTYPED else field.dataType)
    return schema


def written(schemas: Mapping[str, StructType]) -> str:
    """Return columns as the text of RAW_SCHEMAS."""
    return json.dumps({name: schema.jsonValue() for name, schema in sorted(schemas.items())})


def read(text: str) -> dict[str, StructType]:
    """Return columns from the text of RAW_SCHEMAS."""
    return {name: StructType.fromJson(schema) for name, schema in json.loads(text).items()}


def changes(before: Mapping[str, StructType], now: Mapping[str, StructType]) -> list[Change]:
    """Return what is different about the columns of tables that both have; their order does not matter."""
    found = []
    for table in (name for name in now if name in before):
        old = {field.name: field.dataType for field in before[table]}
        new = {field.name: field.dataType for field in now[table]}
        for column in dict.fromkeys((*old, *new)):
            if old.get(column) != new.get(column):
                found.append(Change(table, column, old.get(column), new.get(column)))
    return [each for each in found if not isinstance(each.before, NullType) and not isinstance(each.now, NullType)]


def check_changes(found: Iterable[Change], settings: SourceSettings, raw: Mapping[str, DataFrame]) -> None:
    """Check that the SQL means the same although types have changed.

    A column whose type the configuration names may be anything: its values are cast. One that is gone is no matter
    here: Spark knows whether the SQL needs it.

    Raises:
        InputError: If a column that the SQL names is of another kind, such as a text where a number was.
    """
    for each in found:
        table = settings.raw[each.table]
        if each.before is None or each.now is None or each.column in table.types:
            continue
        if not is_compatible(each.before, each.now) and _is_named(each, settings):
            file = _file_with(each, table, raw[each.table]) or table.table or table.path or table.pattern
            raise InputError(
                f"{each} in the last night, in {file}, and the SQL in {settings.sql} was written for "
                f"{_name(each.before)}: write these files again, or say that it is meant by source.raw.{each.table}."
                f"types: {{{each.column}: {_name(each.now)}}} and allow for it in the SQL"
            )


def explained(error: InputError, found: Iterable[Change], settings: SourceSettings) -> InputError:
    """Return an error of the SQL, with the columns that it names and that were there in the last night."""
    gone = [each for each in found if each.now is None and each.column in str(error)]
    if not gone:
        return error
    locations = {settings.raw[each.table].path or settings.raw[each.table].pattern for each in gone} - {None}
    where = f" ({', '.join(sorted(map(str, locations)))})" if locations else ""
    return InputError(
        f"{error}. Since the last night {'; '.join(map(str, gone))}{where}: write the files with it again, or take it "
        "out of the SQL"
    )


def _name(kind: DataType | None) -> str:
    return kind.simpleString() if kind else ""


def _is_named(change: Change, settings: SourceSettings) -> bool:
    """Return whether the SQL that selects from the table names the column, as far as words tell."""
    texts = (path.read_text("utf-8-sig") for path in sorted(Path(settings.sql).glob("*.sql")))
    code = "\n".join(re.sub(r"--.*", "", text) for text in texts if f"{{{change.table}}}" in text)
    return re.search(rf"(?<!\w){re.escape(change.column)}(?!\w)", code, re.IGNORECASE) is not None


def _file_with(change: Change, table: RawTable, frame: DataFrame) -> str:
    """Return a file whose column cannot be what it was; "" if none is found."""
    assert change.before is not None
    if table.format == "parquet" and not table.table and not is_url(table.path or table.pattern or ""):
        for file in files_to_read(table):
            kinds = {field.name: field.dataType for field in in_spark(pq.read_schema(file))}
            if change.column in kinds and not is_compatible(change.before, kinds[change.column]):
                return str(file)
        return ""
    column = quoted(change.column)
    changed = f.expr(f"{column} is not null and try_cast({column} as {change.before.simpleString()}) is null")
    try:
        row = frame.where(changed).select(f.input_file_name().alias("file")).first()
    except SPARK_ERRORS:
        return ""
    return row["file"] if row else ""
