"""The changes that rules would make to pages, printed to a terminal."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from recsys.reports.wording import UNKNOWN, plural
from recsys.rules import PageChange, Trial


def print_trial(trial: Trial, console: Console, shown_pages: int = 3, shown_sales: int = 10) -> None:
    """Print the number of pages that rules would change, and the first of them."""
    console.print(f"{plural(trial.pages, 'page')}, {len(trial.changed):,} changed by rules ({trial.changed_share:.1%})")
    _print_counts(console, ("rule", "pages changed"), trial.rules, trial.pages)
    _print_counts(console, ("sale added", "pages"), trial.entered, trial.pages, shown_sales)
    _print_counts(console, ("sale removed", "pages"), trial.left, trial.pages, shown_sales)
    _print_counts(console, ("rule not satisfied", "pages"), trial.notes, trial.pages, shown_sales)
    for page in trial.changed[:shown_pages]:
        _print_page(page, console)


def _print_counts(
    console: Console, columns: tuple[str, str], counts: dict[str, int], pages: int, shown: int | None = None
) -> None:
    if not counts:
        return
    table = Table(*columns, "share", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, count in list(counts.items())[:shown]:
        table.add_row(Text(name), f"{count:,}", f"{count / pages:.1%}")
    console.print("", table)


def _print_page(page: PageChange, console: Console) -> None:
    console.print(Text(f"\n{page.user_id or 'anonymous'}", "bold"))
    table = Table("position", "without rules", "with rules", "rule", box=None, pad_edge=False)
    for change in page.places:
        cells = (change.before, change.after, change.rule)
        table.add_row(str(change.place), *(Text(each or UNKNOWN) for each in cells))
    console.print(table)
    for note in page.notes:
        console.print(Text(note, "yellow"))
