"""Lines of the service's logs → distinct records, and lines that are not valid records."""

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as f
from pyspark.sql.types import LongType, StringType, StructType

from recsys.instants import DAY as DAY_MICROS
from recsys.instants import parse_instant
from recsys.tables.logs import DAY, RecordKind
from recsys.tables.night import TIMESTAMP

WHY = "why_rejected"
_DAMAGED = "damaged"
_END = parse_instant("2100-01-01")
"""Instants from here on are rejected: a larger number is not in microseconds since 1970."""


def flagged_lines(lines: DataFrame, kind: RecordKind) -> DataFrame:
    """Parse lines into columns of the compacted table, and add `why_rejected`, null for valid records.

    Args:
        lines: Columns `file` and `line`.
        kind: The log that the lines are from.
    """
    record = f.from_json("line", _schema_of_lines(kind), {"columnNameOfCorruptRecord": _DAMAGED})
    read = lines.withColumn("record", record).select("file", "line", "record.*")
    day = f.expr(
        f"date_from_unix_date(int(if({_is_instant(kind.happened_at)}, {kind.happened_at}, 0) div {DAY_MICROS}))"
    )
    flagged = read.withColumn(DAY, day).withColumn(WHY, _why_rejected(kind))
    instants = {name: f.timestamp_micros(name) for name in _instant_columns(kind)}
    return flagged.withColumns(instants).drop(_DAMAGED)


def rejected_lines(flagged: DataFrame) -> DataFrame:
    """Return the distinct lines of each file that are not valid records, with the reason."""
    return flagged.where(f"{WHY} is not null").select("file", f.col(WHY).alias("reason"), "line").distinct()


def first_copies(flagged: DataFrame, kind: RecordKind) -> DataFrame:
    """Return the rows of the compacted table: one row per event_id, the copy that was delivered first."""
    order = Window.partitionBy("event_id").orderBy(kind.delivered_at, "line")
    numbered = flagged.where(f"{WHY} is null").withColumn("copy", f.row_number().over(order))
    return numbered.where("copy = 1").select(*kind.compacted.columns)


def _schema_of_lines(kind: RecordKind) -> StructType:
    schema = StructType()
    for name, type_ in kind.compacted.columns.items():
        if name != DAY:
            schema.add(name, LongType() if type_ == TIMESTAMP else type_)
    return schema.add(_DAMAGED, StringType())


def _why_rejected(kind: RecordKind) -> Column:
    reasons = f.when(
        f.expr(f"{_DAMAGED} is not null"), f.lit("not a complete JSON record with values of the columns' types")
    )
    reasons = reasons.when(f.expr("coalesce(event_id, '') = ''"), f.lit("event_id is missing"))
    for name in _instant_columns(kind):
        reasons = reasons.when(f.expr(f"not {_is_instant(name)}"), f.lit(f"{name} is not an instant from 1970 to 2099"))
    return reasons


def _is_instant(column: str) -> str:
    return f"coalesce({column} >= 0 and {column} < {_END}, false)"


def _instant_columns(kind: RecordKind) -> list[str]:
    return [name for name, type_ in kind.compacted.columns.items() if type_ == TIMESTAMP]
