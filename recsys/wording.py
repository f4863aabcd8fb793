"""Counts, lists and names in sentences that people read."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


def plural(count: float, noun: str) -> str:
    """Write a count with its noun, which takes an s unless the count is 1: "1 day", "0.5 days", "1,234 rows"."""
    return f"{count:,.12g} {noun}" if count == 1 else f"{count:,.12g} {noun}s"


def listed(names: Sequence[str], conjunction: str) -> str:
    """Write names as a list: "country", "country and region", "country, region and category"."""
    return f" {conjunction} ".join([", ".join(names[:-1]), *names[-1:]] if len(names) > 1 else names)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean 'country'?" for a name that is nearly a known one, and else an empty text."""
    nearest = get_close_matches(name, known, n=1)
    return f"; did you mean {nearest[0]!r}?" if nearest else ""
