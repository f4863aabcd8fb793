"""Counts in sentences that people read."""


def plural(count: float, noun: str) -> str:
    """Write a count with its noun, which takes an s unless the count is 1: "1 day", "0.5 days", "1,234 rows"."""
    return f"{count:,.12g} {noun}" if count == 1 else f"{count:,.12g} {noun}s"
