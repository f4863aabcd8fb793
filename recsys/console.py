"""A console for progress and results."""

import logging

from rich.console import Console
from rich.text import Text

_LOGGERS = ("jobs", "recsys")
_STYLES = {logging.WARNING: "yellow", logging.ERROR: "bold red"}


def wide_console(stderr: bool = False) -> Console:
    """Return a console that is as wide as the terminal, or 120 columns where there is none."""
    console = Console(stderr=stderr, highlight=False)
    return console if console.is_terminal else Console(stderr=stderr, highlight=False, width=120)


def show_progress() -> None:
    """Show on stderr what jobs and the library log from now on; a second call changes nothing."""
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.setLevel(logging.DEBUG)
        if not any(isinstance(handler, _ProgressHandler) for handler in logger.handlers):
            logger.addHandler(_ProgressHandler(logging.INFO))


class _ProgressHandler(logging.Handler):
    """Prints messages without time and trace; a file has both."""

    def emit(self, record: logging.LogRecord) -> None:
        style = "dim" if getattr(record, "is_dim", False) else _STYLES.get(record.levelno, "")
        wide_console(stderr=True).print(Text(record.getMessage(), style))
