"""Numbers and counts as people read them: three digits, percent where relative, a dash for the unknown."""

from typing import Literal

from recsys.metrics import NDCG

UNKNOWN = "–"
PRINTED_METRICS = (NDCG, "recall@10", "hit_rate@10", "mrr")
"""The ranking metrics in the order in which the terminal and the reports show them, the deciding one first."""


def number(value: float | None, sign: Literal["", "+"] = "") -> str:
    """Write a number with three significant digits, or with all digits before the decimal point."""
    if value is None:
        return UNKNOWN
    return f"{value:{sign},.0f}" if abs(value) >= 999.5 else f"{value:{sign}.3g}"


def percent(value: float | None, sign: Literal["", "+"] = "") -> str:
    """Write a share or a relative change; 0.05 is 5%."""
    return UNKNOWN if value is None else f"{number(100 * value, sign)}%"


def plural(count: float, noun: str) -> str:
    """Write a count with its noun, which takes an s unless the count is 1: "1 day", "0.5 days", "1,234 rows"."""
    return f"{count:,.12g} {noun}" if count == 1 else f"{count:,.12g} {noun}s"
