"""The terminal: whatever commands and jobs print goes through this module, as text.

Ids, titles, names of files and messages of other programs come from data. None of them is markup, and none can move
the cursor, colour the screen or begin a line of its own: see `visible`.
"""

import logging
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from recsys.wording import visible

LOGGERS = ("jobs", "recsys")
"""The loggers below which jobs and the library log."""
_STYLES = {logging.WARNING: "yellow", logging.ERROR: "bold red"}

Line = Text
"""What `line` and `stacked` return."""


class TextConsole(Console):
    """A console without markup: each string that it prints is one line."""

    def __init__(self, **options: Any):
        super().__init__(markup=False, highlight=False, emoji=False, **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print each string as a line of its own, and anything else as rich prints it; see `Console.print`."""
        super().print(*(line(each) if isinstance(each, str) else each for each in objects), **{"sep": "\n"} | options)


class TextTable(Table):
    """A table without lines whose cells are text; cells too long for the terminal are folded, never cut.

    Args:
        columns: The headers.
        labels: Number of columns at the left that hold words; those after them hold figures. All of them by default.
        options: See `Table`.
    """

    def __init__(self, *columns: str, labels: int | None = None, **options: Any):
        super().__init__(box=None, pad_edge=False, **options)
        for index, column in enumerate(columns):
            is_label = labels is None or index < labels
            self.add_column(line(column), justify="left" if is_label else "right", overflow="fold")

    def add_row(self, *cells: Any, **options: Any) -> None:
        """Add a row of strings, or of lines with a style from `line`; see `Table.add_row`."""
        super().add_row(*(line(each) if isinstance(each, str) else each for each in cells), **options)


def line(*parts: str | tuple[str, str]) -> Line:
    """Return one line made of parts, some of them with a style: `line("policy ", ("meta", "bold"))`."""
    pairs = ((part, "") if isinstance(part, str) else part for part in parts)
    return Text.assemble(*((visible(text), style) for text, style in pairs))


def stacked(lines: Iterable[Line]) -> Line:
    """Return lines as one cell of a table."""
    return Text("\n").join(lines)


def wide_console(stderr: bool = False) -> TextConsole:
    """Return a console as wide as the terminal, or 120 columns wide where the output is no terminal."""
    console = TextConsole(stderr=stderr)
    return console if console.is_terminal else TextConsole(stderr=stderr, width=120)


def progress_bar(console: Console) -> Progress:
    """Return a progress bar that disappears when it is done, and is shown on a terminal only."""
    return Progress(console=console, transient=True, disable=not console.is_terminal)


def print_error(error: Exception) -> None:
    """Print an error on stderr; its further lines, such as a list of problems, are indented."""
    first, *further = str(error).split("\n")
    lines = [line(("error: ", "bold red"), first), *(f"  {each.strip()}" for each in further)]
    wide_console(stderr=True).print(*lines, soft_wrap=True)


def show_progress() -> None:
    """Print the log messages of jobs and library on stderr from now on; idempotent."""
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.setLevel(logging.DEBUG)
        if not any(isinstance(handler, _ProgressHandler) for handler in logger.handlers):
            logger.addHandler(_ProgressHandler(logging.INFO))


class _ProgressHandler(logging.Handler):
    """Prints messages without time and stack trace; the log file has both."""

    def emit(self, record: logging.LogRecord) -> None:
        style = "dim" if getattr(record, "is_dim", False) else _STYLES.get(record.levelno, "")
        wide_console(stderr=True).print(line((record.getMessage(), style)), soft_wrap=True)
