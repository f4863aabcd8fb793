"""What to do first with files that no choice of columns can use: rows of properties, and orders apart from their lines.

Each is a command of a few lines of pandas, with the names of the files and of their columns.
"""

import shlex
from collections.abc import Mapping, Sequence

from recsys.config.pipeline import RawTable
from recsys.errors import InputError
from recsys.onboarding import words
from recsys.onboarding.columns import Column, words_of
from recsys.onboarding.guesses import Guess
from recsys.onboarding.roles import Role, is_events, name_score
from recsys.onboarding.sampling import Sample

_SEVERAL = 1.5
"""Rows per id from which a file of names and values is one of properties."""
_SPECIAL = '"$`\\!'
"""Characters that the shell changes between double quotes."""
_PROPERTIES = 20
"""Number of properties that the command keeps: those that most sales have."""


def check_rows_of_properties(sales: Sample, sale: Column | None, location: str) -> None:
    """Check that a file of sales has one column per property, not one row.

    Raises:
        InputError: If it has rows of sale, property and value; says how to turn them.
    """
    names = [column for column in sales.columns if set(words_of(column.name)) & words.PROPERTY]
    values = [column for column in sales.columns if set(words_of(column.name)) & words.VALUE]
    if not (sale and names and values) or len(sale.values) < _SEVERAL * len(sale.distinct):
        return
    name, value = names[0].name, values[0].name
    order = next((f".sort_values({column.name!r})" for column in sales.columns if column.instants), "")
    command = (
        f"rows = {_read(sales.raw)}{order}",
        f"often = rows[{name!r}].value_counts().index[:{_PROPERTIES}]",
        f"rows = rows[rows[{name!r}].isin(often)].drop_duplicates([{sale.name!r}, {name!r}], keep='last')",
        f"table = rows.pivot(index={sale.name!r}, columns={name!r}, values={value!r})",
        "table.reset_index().to_parquet('sales.parquet')",
    )
    raise InputError(
        f"{location} has a row per property ({name}, {value}), must have a row per sale and a column per property: "
        f"turn it first, such as by\n{_script(command)}\nand give --sales sales.parquet; or leave --sales out: the "
        "sales are those that the events name, without attributes"
    )


def how_to_complete(guess: Guess, samples: Mapping[str, Sample]) -> str | None:
    """Return how a file of events gets what it lacks, from another file by a shared id; None if nothing is known.

    Args:
        guess: Of a required role for which no column fits.
        samples: Of all tables.
    """
    role, lacking = guess.role, samples[guess.role.table]
    if not is_events(role.table):
        return None
    what = {"user_id": "who it was", "sale_id": "which sale it was", "occurred_at": "when it was"}[role.name]
    names = [column.name for column in lacking.columns if column.is_id]
    for other in samples.values():
        shared = [column.name for column in other.columns if column.name in names]
        if other is not lacking and shared and any(_says(role, column) for column in other.columns):
            start = f"{_location(lacking.raw)} does not say {what}, {_location(other.raw)} does"
            return f"{start}, and both have {shared[0]}: {_join(lacking.raw, other.raw, shared[0])}"
    start = f"{_location(lacking.raw)} does not say {what}"
    if role.name == "occurred_at":
        start += ": no column holds dates, instants such as 2026-03-01 10:00, or seconds since 1970"
    if orders := [name for name in names if set(words_of(name)) & words.ORDER]:
        other_raw = RawTable(path="OTHER.csv", format="csv")
        return f"{start}. If another file does, which has {orders[0]} too, {_join(lacking.raw, other_raw, orders[0])}"
    if role.name == "occurred_at":
        return f"{start}. Nothing can be learnt without them: give a file that has them"
    return None


def _says(role: Role, column: Column) -> bool:
    return role.fits(column) and (role.name == "occurred_at" or name_score(column.name, role) > 0)


def _join(left: RawTable, right: RawTable, key: str) -> str:
    command = (
        f"left = {_read(left)}",
        f"right = {_read(right)}",
        f"left.merge(right, on={key!r}).to_parquet('events.parquet')",
    )
    return f"join them first, such as by\n{_script(command)}\nand give --events events.parquet"


def _script(statements: Sequence[str]) -> str:
    """Return a command of one line, which can be copied from an indented message."""
    code = "; ".join(("import glob, pandas as pd", *statements))
    is_plain = not set(code) & set(_SPECIAL)
    return f'  python -c "{code}"' if is_plain else f"  python -c {shlex.quote(code)}"


def _location(raw: RawTable) -> str:
    return raw.table or raw.path or raw.pattern or ""


def _read(raw: RawTable) -> str:
    """Return pandas' expression that reads a raw table with all values as they are written."""
    if raw.table:
        return f"spark.table({raw.table!r}).toPandas()"
    function, arguments = "read_parquet", ""
    if raw.format == "json":
        function, arguments = "read_json", ", lines=True, dtype=False"
    if raw.format == "csv":
        options = {"sep": raw.options.get("sep", ","), "encoding": raw.options.get("encoding", "utf-8")}
        given = {name: value for name, value in options.items() if value not in (",", "utf-8")}
        function, arguments = (
            "read_csv",
            "".join(f", {name}={value!r}" for name, value in given.items()) + ", dtype=str",
        )
    if raw.pattern:
        return f"pd.concat(pd.{function}(file{arguments}) for file in glob.glob({raw.pattern!r}))"
    return f"pd.{function}({raw.path!r}{arguments})"
