"""The terminal: consoles for results, and progress of jobs on stderr."""

import logging

from rich.console import Console
from rich.text import Text

LOGGERS = ("jobs", "recsys")
"""The loggers below which jobs and the library log."""
_STYLES = {logging.WARNING: "yellow", logging.ERROR: "bold red"}


def wide_console(stderr: bool = False) -> Console:
    """Return a console as wide as the terminal, or 120 columns wide where the output is no terminal."""
    console = Console(stderr=stderr, highlight=False)
    return console if console.is_terminal else Console(stderr=stderr, highlight=False, width=120)


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
        wide_console(stderr=True).print(Text(record.getMessage(), style), soft_wrap=True)
