"""Figures as people read them: three digits, percent where relative, a dash for the unknown."""

from typing import Literal

UNKNOWN = "–"


def number(value: float | None, sign: Literal["", "+"] = "") -> str:
    """Write a figure with three digits, or all digits before the point."""
    if value is None:
        return UNKNOWN
    return f"{value:{sign},.0f}" if abs(value) >= 999.5 else f"{value:{sign}.3g}"


def percent(value: float | None, sign: Literal["", "+"] = "") -> str:
    """Write a share or a relative change; 0.05 is 5%."""
    return UNKNOWN if value is None else f"{number(100 * value, sign)}%"
