"""Rows of raw tables, printed to a terminal."""

from collections.abc import Iterable

from recsys.console import Line, TextConsole, TextTable, line
from recsys.pipeline.raw_rows import RawRows
from recsys.wording import plural, visible

_LONGEST_VALUE = 60
_MOST_COLUMNS = 40


def print_raw_rows(tables: Iterable[RawRows], console: TextConsole, how: str = "read") -> None:
    """Print a few rows of each table as they were read or selected, one line per column; long values are cut off."""
    for name, columns, rows in tables:
        console.print(line((f"{name}, {plural(len(rows), 'row')} as {how}", "bold")))
        printed = TextTable("column", "type", *(f"row {number}" for number in range(1, len(rows) + 1)))
        for position, (column, kind) in enumerate(columns[:_MOST_COLUMNS]):
            printed.add_row(column, kind, *(_cell(row[position]) for row in rows))
        console.print(printed)
        if len(columns) > _MOST_COLUMNS:
            console.print(line((f"… {plural(len(columns) - _MOST_COLUMNS, 'more column')}", "dim")))
        console.print("")


def _cell(value: str | None) -> Line:
    if value is None:
        return line(("null", "dim"))
    text = visible(value)
    return line(text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…")
