"""Plots as SVG elements of an HTML page.

Their colours are CSS variables of the page, so that it can be light or dark; whatever a colour says, a shape says too.
Their text stays text.
"""

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from io import StringIO
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from recsys.wording import visible

INK, QUIET, LINE, GOOD, BAD, OPEN = (f"#00000{number}" for number in range(1, 7))
_VARIABLES = {
    INK: "var(--ink)",
    QUIET: "var(--quiet)",
    LINE: "var(--line)",
    GOOD: "var(--good)",
    BAD: "var(--bad)",
    OPEN: "var(--open)",
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",  # comes with matplotlib; the page sets its own, which is narrower
    "font.size": 9,
    "text.color": INK,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "text.parse_math": False,  # a segment may hold a $
}
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


@dataclass(frozen=True)
class Chart:
    """A plot as SVG, the same in words, and its caption."""

    svg: str
    text: str
    caption: str


def chart(draw: Callable[[], Figure], text: str, caption: str) -> Chart:
    """Turn a figure into SVG; its ids are salted with the text, so that no two plots of an HTML page share one."""
    written = StringIO()
    with matplotlib.rc_context(_STYLE | {"svg.hashsalt": text}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the reader's browser has it
        draw().savefig(written, format="svg", transparent=True, metadata=_NO_METADATA)
    svg = written.getvalue()
    svg = svg[svg.index("<svg") :].replace("<svg", f'<svg role="img" aria-label="{escape(text)}"', 1)
    svg = "\n".join(map(visible, svg.split("\n")))  # a label may hold control characters
    svg = re.sub(r"<!--.*?-->\s*|<style.*?</style>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # such as axes_1, which every plot has
    return Chart(re.sub("|".join(_VARIABLES), lambda found: _VARIABLES[found[0]], svg), text, caption)


def keep_bottom_spine(axes: Axes) -> None:
    """Remove the frame but for the line below, and the ticks at the left."""
    axes.set_facecolor("none")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(LINE)
    axes.set_yticks([])
    axes.tick_params(axis="x", color=LINE, labelsize=8)


def short(text: str, longest: int) -> str:
    """Truncate a text to at most `longest` characters."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
