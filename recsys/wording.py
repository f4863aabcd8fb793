"""Words in sentences that people read: counts, lists, text from data, the nearest known name of a mistyped one."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from unicodedata import category

_INVISIBLE_LETTERS = "\u200c\u200d"
"""The joiner and non-joiner: Persian, Hindi and emoji are spelled with them."""


def plural(count: float, noun: str) -> str:
    """Write a count with its noun, which takes an s unless the count is 1: "1 day", "0.5 days", "1,234 rows"."""
    return f"{count:,.12g} {noun}" if count == 1 else f"{count:,.12g} {noun}s"


def listed(names: Sequence[str], conjunction: str) -> str:
    """Write names as a list: "country", "country and region", "country, region and category"."""
    return f" {conjunction} ".join([", ".join(names[:-1]), *names[-1:]] if len(names) > 1 else names)


def amount(value: float) -> str:
    """Write an amount of money with its cents where it has any: "1,234,567", "3,366.23", "0.00125"."""
    return f"{value:,.2f}".removesuffix(".00") if value == 0 or abs(value) >= 0.01 else f"{value:.3g}"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most similar to a mistyped one, regardless of case; None if none is similar.

    Source:
        Ratcliff & Metzener 1988, as `difflib` computes it: two thirds of the characters must match in order.
    """
    by_folded = {each.casefold(): each for each in sorted(set(known), reverse=True)}
    found = get_close_matches(name.casefold(), by_folded, n=1, cutoff=2 / 3)
    return by_folded[found[0]] if found else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean 'category'?" to end a sentence about an unknown name, or nothing if none is similar."""
    found = nearest(name, known)
    return f"; did you mean {found!r}?" if found else ""


def visible(text: str) -> str:
    r"""Return a text in one line that no terminal or log obeys: "a\x1b[2Jb" is written with a backslash, x, 1 and b.

    Control characters, line ends and separators, bidirectional overrides, other invisible characters and lone
    surrogates are written as Python writes them in a string; blanks of any width stay.
    """
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() or each in _INVISIBLE_LETTERS or category(each) == "Zs" else repr(each)[1:-1]
        for each in text
    )
