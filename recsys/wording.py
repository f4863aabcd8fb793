"""Counts in sentences that people read."""


def plural(count: int, noun: str) -> str:
    """Return a count with its noun, such as '1 day' or '2,000 days'; for nouns whose plural ends in s."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
