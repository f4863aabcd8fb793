"""Plots as SVG to stand inside a page: its colours are the page's, its texts are text.

Colours are names of CSS variables, so that the page can be light or dark; what they say is said by shape too.
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

INK, QUIET, LINE, GOOD, BAD, OPEN = (f"#00000{place}" for place in range(1, 7))
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
    """A plot, and the same in words."""

    svg: str
    text: str
    caption: str


def chart(draw: Callable[[], Figure], text: str, caption: str) -> Chart:
    """Turn a figure into SVG for a page; ids are salted with the text, so that no two plots of a page share one."""
    written = StringIO()
    with matplotlib.rc_context(_STYLE | {"svg.hashsalt": text}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the reader's fonts draw it
        draw().savefig(written, format="svg", transparent=True, metadata=_NO_METADATA)
    svg = written.getvalue()
    svg = svg[svg.index("<svg") :].replace("<svg", f'<svg role="img" aria-label="{escape(text)}"', 1)
    svg = re.sub(r"<!--.*?-->\s*|<style.*?</style>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # such as axes_1, in every plot
    return Chart(re.sub("|".join(_VARIABLES), lambda found: _VARIABLES[found[0]], svg), text, caption)


def lie_bare(axes: Axes) -> None:
    """Leave of the frame only the line below."""
    axes.set_facecolor("none")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(LINE)
    axes.set_yticks([])
    axes.tick_params(axis="x", color=LINE, labelsize=8)


def short(text: str, longest: int) -> str:
    """Cut a text that is too long for its place."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
