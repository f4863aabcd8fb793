"""The files of raw events by the date in their names: days whose files are unchanged need not be read again."""

import io
import re
from collections.abc import Iterable, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from pyspark.sql import DataFrame

from recsys.config.pipeline import RawTable, SourceSettings
from recsys.logs.records import RECORDED_EVENTS
from recsys.raw_tables.files import files_to_read
from recsys.settings import digest
from recsys.storage.places import Place
from recsys.tables.logs import COMPACTED_EVENTS
from recsys.tables.night import EVENTS

UNDATED = "undated"
"""Name of the group of files without a date."""
RECORDED = "recorded-"
"""Begins the name of a day of files with the events that the service recorded."""

_YEAR, _MONTH, _DAY = r"((?:19|20|21)\d\d)", r"(0[1-9]|1[0-2])", r"(0[1-9]|[12]\d|3[01])"
_DATES = (
    re.compile(rf"year={_YEAR}/month=0?(\d\d?)/day=0?(\d\d?)(?!\d)"),
    re.compile(rf"(?<![0-9A-Za-z]){_YEAR}([-_/]?){_MONTH}\2{_DAY}(?![0-9A-Za-z])"),
)
_ROW_BY_ROW = {
    *("Project", "Filter", "Union", "SubqueryAlias", "View", "Relation", "LogicalRDD", "LocalRelation", "Generate"),
    *("WithCTE", "CTERelationDef", "CTERelationRef", "Sort"),
}
"""Operators of Spark whose result for some of the rows is that part of their result for all rows."""
_ROOT = re.compile(r"\A\w+")
_OPERATOR = re.compile(r"^[ :]*[+:]- (\w+)", re.MULTILINE)
_SUBQUERY = re.compile(r"\b(list|exists|[\w-]*subquery)#\d+")
_NOT_REPEATABLE = re.compile(
    r"\b(rand|randn|random|uuid|shuffle|current_\w+|now|localtimestamp|monotonically_increasing_id)\("
)


class RawDays(NamedTuple):
    """The files of raw events, those of one date together."""

    files: dict[str, list[Path]]
    """By date, such as 20260301, or UNDATED; those of recorded events with RECORDED before it."""
    why_whole: str = ""
    """Why all of them are to be read whenever one changes; empty if days can be read by themselves."""

    def stamps(self) -> dict[str, str]:
        """Return a digest of the names, sizes and modification times of each day's files."""
        return {day: digest([_stamp(file) for file in files]) for day, files in self.files.items()}

    def names(self) -> dict[str, str]:
        """Return the day of each file, by the file's name as Spark's `input_file_name()` returns it."""
        return {_spark_name(file): day for day, files in self.files.items() for file in files}

    def bytes(self, days: Iterable[str] | None = None) -> int:
        """Return the size of the files of some days, by default of all."""
        return sum(file.stat().st_size for day in (self.files if days is None else days) for file in self.files[day])


def raw_days(settings: SourceSettings, folder: Place, selected: DataFrame) -> RawDays:
    """Return the files of raw events by date, and whether a day can be read by itself.

    Args:
        settings: Settings of the source, with the raw tables of events alone.
        folder: The shop's folder.
        selected: Table `events` as the source's SQL selects it.
    """
    by_day: dict[str, list[Path]] = {}
    for file in (file for raw in settings.raw.values() for file in files_to_read(raw)):
        by_day.setdefault(date_in(file), []).append(file)
    if f"{{{RECORDED_EVENTS}}}" in (Path(settings.sql) / f"{EVENTS.name}.sql").read_text("utf-8-sig"):
        if not isinstance(folder, Path):
            return RawDays(by_day, "recorded events are in an object store")
        for file in sorted((folder / COMPACTED_EVENTS.name).rglob("*.parquet")):
            by_day.setdefault(RECORDED + date_in(file), []).append(file)
    return RawDays(by_day, _why_whole(settings.raw) or _why_not_row_by_row(selected) or _why_undated(by_day))


def date_in(file: Path) -> str:
    """Return the last date in the path of a file, as in 20260301; UNDATED without one."""
    path = str(file)
    for pattern in _DATES:
        if found := list(pattern.finditer(path)):
            year, month, day = (part for part in found[-1].groups() if part.isdigit())
            return f"{year}{int(month):02}{int(day):02}"
    return UNDATED


def _why_whole(raw: Mapping[str, RawTable]) -> str:
    for name, each in raw.items():
        if not files_to_read(each):
            return f"raw table '{name}' is no local file, so that nothing says which of its days have changed"
        if each.format not in ("parquet", "csv"):
            return f"raw table '{name}' is {each.format}, whose columns are those of all its files"
        if each.options.get("inferSchema", "").lower() == "true":
            return f"raw table '{name}' has inferSchema, by which its types depend on all its files"
    return ""


def _why_not_row_by_row(selected: DataFrame) -> str:
    """Return why the SQL cannot be run on the rows of some days alone; empty if it can."""
    text = io.StringIO()
    with redirect_stdout(text):
        selected.explain("extended")
    plan = text.getvalue().partition("== Analyzed Logical Plan ==\n")[2].partition("\n== Optimized")[0]
    plan = plan.partition("\n")[2]  # the first line lists the columns
    operators = _ROOT.findall(plan) + _OPERATOR.findall(plan)
    if unknown := [operator for operator in operators if operator not in _ROW_BY_ROW]:
        return f"events.sql needs all rows at once ({unknown[0]})"
    if found := _SUBQUERY.search(plan) or _NOT_REPEATABLE.search(plan):
        return f"events.sql depends on more than the row itself ({found[0].rstrip('(')})"
    return ""


def _why_undated(by_day: Mapping[str, list[Path]]) -> str:
    if len(by_day) > 1:
        return ""
    return "the names of their files and folders hold no dates, such as day=2026-03-01 (docs/raw_tables.md)"


def _stamp(file: Path) -> list[str | int]:
    status = file.stat()
    return [str(file), status.st_size, status.st_mtime_ns]


def _spark_name(file: Path) -> str:
    """Return the URI of a file as Java writes it: other characters than those of ASCII stay."""
    return "file://" + "".join(
        each if ord(each) > 127 else quote(each, safe="/:@!$&'()*+,;=~") for each in str(file.absolute())
    )
