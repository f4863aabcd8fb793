"""The attractiveness of photos, printed to a terminal."""

import pandas as pd

from recsys.console import Line, TextConsole, TextTable, line, stacked
from recsys.images.attractiveness import ALL, group_visits, percent, strongest_and_weakest, total
from recsys.wording import plural


def print_attractiveness(table: pd.DataFrame, console: TextConsole, top: int = 10, by: str | None = None) -> None:
    """Print the strongest and weakest features of each family, in total or by month, country or category.

    Args:
        table: As `attractiveness` returns it.
        console: Where the tables are printed.
        top: Number of strongest, and of weakest, features.
        by: 'month', 'country' or 'category'; None prints totals.
    """
    months = table.loc[table["month"] != ALL, "month"]
    for family, rows in total(table, by).groupby("family"):
        title = f"Attractiveness of {family}s{f' by {by}' if by else ''}, {months.min()} to {months.max()}"
        console.print(title, style="bold")
        console.print(_groups_table(rows, by, top) if by else _totals_table(rows, str(family), top))
        console.print(_note(rows), "", style="dim")


def _totals_table(rows: pd.DataFrame, family: str, top: int) -> TextTable:
    columns = (family, "attractiveness", "95 % interval", "% of visits", "% of sales", "visits", "sales")
    printed = TextTable(*columns, labels=1)
    strongest, weakest = strongest_and_weakest(rows, top)
    between = rows["attractiveness"].notna().sum() - len(strongest) - len(weakest)
    for part in (strongest, weakest):
        for _, row in part.iterrows():
            printed.add_row(*_totals_cells(row))
        if part is strongest and between:
            printed.add_row(line((f"… {between:,} more between", "dim")))
    return printed


def _totals_cells(row: pd.Series) -> tuple[Line | str, ...]:
    return (
        row.feature,
        line((percent(row.attractiveness), _style(row))),
        _interval(row),
        f"{100 * row.visits_with / row.visits:.1f} %",
        f"{100 * row.sale_days_with / row.sale_days:.1f} %",
        f"{row.visits_with:,}",
        f"{row.sales_with:,}",
    )


def _groups_table(rows: pd.DataFrame, by: str, top: int) -> TextTable:
    printed = TextTable(by, "visits", "strongest", "weakest")
    printed.columns[1].justify = "right"
    for group, visits in group_visits(rows, by).items():
        strongest, weakest = strongest_and_weakest(rows[rows[by] == group], top)
        printed.add_row(group, f"{visits:,}", _feature_lines(strongest), _feature_lines(weakest))
    return printed


def _feature_lines(rows: pd.DataFrame) -> Line:
    lines = [
        line(row.feature, " ", (percent(row.attractiveness), _style(row)), (f" ({_interval(row)})", "dim"))
        for _, row in rows.iterrows()
    ]
    return stacked(lines) if lines else line(("–", "dim"))


def _note(rows: pd.DataFrame) -> str:
    measured = rows.dropna(subset=["attractiveness"])
    significant = ((measured["low"] > 0) | (measured["high"] < 0)).sum()
    return (
        f"{significant:,} of {plural(len(measured), 'interval')} exclude 0, "
        f"{len(measured) / 20:,.0f} expected by chance; "
        f"{plural(len(rows) - len(measured), 'feature')} not measured: too few sales show them"
    )


def _interval(row: pd.Series) -> str:
    return f"{percent(row.low)} … {percent(row.high)}"


def _style(row: pd.Series) -> str:
    """Return the style of a value, coloured if its interval excludes 0."""
    return "bold green" if row.low > 0 else "bold red" if row.high < 0 else ""
