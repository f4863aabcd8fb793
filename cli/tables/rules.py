"""The changes that rules would make to pages, printed to a terminal."""

from recsys.console import TextConsole, TextTable
from recsys.reports.wording import UNKNOWN
from recsys.rules import PageChange, Trial
from recsys.wording import plural


def print_trial(trial: Trial, console: TextConsole, shown_pages: int = 3, shown_sales: int = 10) -> None:
    """Print the number of pages that rules would change, and the first of them."""
    console.print(f"{plural(trial.pages, 'page')}, {len(trial.changed):,} changed by rules ({trial.changed_share:.1%})")
    _print_counts(console, ("rule", "pages changed"), trial.rules, trial.pages)
    _print_counts(console, ("sale added", "pages"), trial.entered, trial.pages, shown_sales)
    _print_counts(console, ("sale removed", "pages"), trial.left, trial.pages, shown_sales)
    _print_counts(console, ("rule not satisfied", "pages"), trial.notes, trial.pages, shown_sales)
    for page in trial.changed[:shown_pages]:
        _print_page(page, console)


def _print_counts(
    console: TextConsole, columns: tuple[str, str], counts: dict[str, int], pages: int, shown: int | None = None
) -> None:
    if not counts:
        return
    table = TextTable(*columns, "share", labels=1)
    for name, count in list(counts.items())[:shown]:
        table.add_row(name, f"{count:,}", f"{count / pages:.1%}")
    console.print("", table)


def _print_page(page: PageChange, console: TextConsole) -> None:
    console.print("", page.user_id or "anonymous", style="bold")
    table = TextTable("position", "without rules", "with rules", "rule")
    for change in page.places:
        cells = (change.before, change.after, change.rule)
        table.add_row(str(change.place), *(each or UNKNOWN for each in cells))
    console.print(table)
    for note in page.notes:
        console.print(note, style="yellow")
