"""What photos are worth, as tables that people read in a terminal."""

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from recsys.images.attractiveness import ALL, group_visits, percent, strongest_and_weakest, total


def print_attractiveness(table: pd.DataFrame, console: Console, top: int = 10, by: str | None = None) -> None:
    """Print the strongest and weakest features of each family, over everything or in each value of a dimension.

    Args:
        table: As `attractiveness` returns it.
        console: Where to.
        top: Features shown of either kind.
        by: 'month', 'country' or 'category'; None prints the totals.
    """
    months = table.loc[table["month"] != ALL, "month"]
    for family, rows in total(table, by).groupby("family"):
        title = f"Attractiveness of {family}s{f' by {by}' if by else ''}, {months.min()} to {months.max()}"
        console.print(Text(title, "bold"))
        console.print(_of_groups(rows, by, top) if by else _of_all(rows, str(family), top))
        console.print(Text(f"{_reading(rows)}\n", "dim"))


def _of_all(rows: pd.DataFrame, family: str, top: int) -> Table:
    columns = (family, "attractiveness", "95 % interval", "% of visits", "% of sales", "visits", "sales")
    printed = Table(*columns, box=None, pad_edge=False)
    for column in printed.columns[1:]:
        column.justify = "right"
    strongest, weakest = strongest_and_weakest(rows, top)
    between = rows["attractiveness"].notna().sum() - len(strongest) - len(weakest)
    for part in (strongest, weakest):
        for _, row in part.iterrows():
            printed.add_row(*_row(row))
        if part is strongest and between:
            printed.add_row(Text(f"… {between:,} more between", "dim"))
    return printed


def _row(row: pd.Series) -> tuple[Text | str, ...]:
    return (
        Text(row.feature),
        Text(percent(row.attractiveness), _style(row)),
        _interval(row),
        f"{100 * row.visits_with / row.visits:.1f} %",
        f"{100 * row.sale_days_with / row.sale_days:.1f} %",
        f"{row.visits_with:,}",
        f"{row.sales_with:,}",
    )


def _of_groups(rows: pd.DataFrame, by: str, top: int) -> Table:
    printed = Table(by, "visits", "strongest", "weakest", box=None, pad_edge=False)
    printed.columns[1].justify = "right"
    for group, visits in group_visits(rows, by).items():
        strongest, weakest = strongest_and_weakest(rows[rows[by] == group], top)
        printed.add_row(Text(group), f"{visits:,}", _lines(strongest), _lines(weakest))
    return printed


def _lines(rows: pd.DataFrame) -> Text:
    lines = [
        Text.assemble(row.feature, " ", (percent(row.attractiveness), _style(row)), (f" ({_interval(row)})", "dim"))
        for _, row in rows.iterrows()
    ]
    return Text("\n").join(lines) if lines else Text("–", "dim")


def _reading(rows: pd.DataFrame) -> str:
    told = rows.dropna(subset=["attractiveness"])
    sure = ((told["low"] > 0) | (told["high"] < 0)).sum()
    return (
        f"{sure:,} of {len(told):,} intervals leave out 0, {len(told) / 20:.0f} would by chance; "
        f"{len(rows) - len(told):,} more are not told: too few sales show them"
    )


def _interval(row: pd.Series) -> str:
    return f"{percent(row.low)} … {percent(row.high)}"


def _style(row: pd.Series) -> str:
    """Return the colour of a value whose interval leaves out 0, none otherwise."""
    return "bold green" if row.low > 0 else "bold red" if row.high < 0 else ""
