"""A console for progress and results."""

from rich.console import Console


def wide_console(stderr: bool = False) -> Console:
    """Return a console that is as wide as the terminal, or 120 columns where there is none."""
    console = Console(stderr=stderr, highlight=False)
    return console if console.is_terminal else Console(stderr=stderr, highlight=False, width=120)
