"""The terminal: whatever commands and jobs print goes through this module, as text.

Ids, titles, names of files and messages of other programs come from data. None of them is markup, and none can move
the cursor, colour the screen or begin a line of its own: see `visible`.
"""

import logging
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.progress import Progress
from rich.table import Column, Table
from rich.text import Text

from recsys.wording import visible

LOGGERS = ("jobs", "recsys")
"""The loggers below which jobs and the library log."""
_NARROWEST_WORDS = 12
"""Columns of words are folded to this width before columns of figures move below."""
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
    """A table without lines whose cells are text, of which nothing is cut: in a narrow terminal, words are folded, and
    columns of figures that do not fit beside each other follow below, beside the same words.

    Args:
        columns: The headers.
        labels: Number of columns at the left that hold words; those after them hold figures. All of them by default.
        options: See `Table`.
    """

    def __init__(self, *columns: str, labels: int | None = None, **options: Any):
        super().__init__(box=None, pad_edge=False, **options)
        for column in columns[:labels]:
            self.add_column(line(column), overflow="fold")
        for column in columns[len(self.columns) :]:
            self.add_column(line(column), justify="right", no_wrap=True)

    def add_row(self, *cells: Any, **options: Any) -> None:
        """Add a row of strings, or of lines with a style from `line`; see `Table.add_row`."""
        super().add_row(*(line(each) if isinstance(each, str) else each for each in cells), **options)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render the table, in parts if its figures do not fit beside each other."""
        parts = self._parts(console, options)
        if len(parts) < 2:
            yield from super().__rich_console__(console, options)
            return
        for columns in parts:
            part = Table(box=None, pad_edge=False, show_header=self.show_header)
            part.columns = [replace(column, _index=index) for index, column in enumerate(columns)]
            part.rows = self.rows
            yield part

    def _parts(self, console: Console, options: ConsoleOptions) -> list[list[Column]]:
        words = [column for column in self.columns if not column.no_wrap]
        widths = [self._measure_column(console, options, column).maximum for column in self.columns]
        left = min(sum(widths[: len(words)]), _NARROWEST_WORDS * len(words))
        parts: list[list[Column]] = []
        used = options.max_width
        for column, width in zip(self.columns[len(words) :], widths[len(words) :], strict=True):
            if used + width > options.max_width:
                parts, used = [*parts, [*words]], left
            parts[-1].append(column)
            used += width
        return parts


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
    told = str(error)
    if isinstance(error, OSError) and error.filename:
        told = f"{str(error.filename)!r}: {error.strerror}: check the path, who may read and write there, and the disk"
    first, *further = told.split("\n")
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
