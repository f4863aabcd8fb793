"""One pass over a page, from the first place to the last: each takes the best sale that breaks no rule.

Where every sale left breaks one, the later rules give way: a place is never left empty.
"""

from collections.abc import Sequence
from typing import NamedTuple

from recsys.rules.tallies import Check, Constraint, UnfilledPage


class Filling(NamedTuple):
    """How the places of a page were filled."""

    applied: set[str]
    """Every rule for which a better sale was passed over."""
    notes: list[str]
    """A sentence for each rule that the page breaks."""


def fill(page: UnfilledPage, constraints: Sequence[Constraint]) -> Filling:
    """Fill the free places of a page, of which there must be no more than candidates.

    Args:
        page: Its places are filled, with their rules, and its candidates used up in doing so.
        constraints: The rules, in the order in which they win.
    """
    tallies = [constraint(page) for constraint in constraints]
    adds = [tally.add for tally in tallies]
    for place, pinned in enumerate(page.places):
        if pinned is not None:
            for add in adds:
                add(pinned, place)
    filling = Filling(set(), [])
    free = [place for place, sale in enumerate(page.places) if sale is None]
    left = len(free)
    for place in free:
        sale = page.candidates[0]
        checks = [check for tally in tallies if (check := tally.check(place, left))]
        if checks:
            sale, passed_over = _choose(page.candidates, checks)
            if passed_over:
                page.rules[place] = passed_over[0]
                filling.applied.update(passed_over)
        page.candidates.remove(sale)
        page.places[place] = sale
        left -= 1
        for add in adds:
            add(sale, place)
    for tally in tallies:
        filling.notes.extend(tally.notes())
    return filling


def _choose(candidates: Sequence[int], checks: Sequence[Check]) -> tuple[int, list[str]]:
    """Find the best sale that breaks no rule, or none of those that can be met.

    Returns:
        The sale, and the rules for which the first candidate was passed over.
    """
    sale = _best(candidates, checks)
    if sale is None:
        checks = _feasible(candidates, checks)
        sale = _best(candidates, checks)
    first = candidates[0]
    passed_over = [] if sale == first else [rule for rule, sales, barred in checks if (first in sales) is barred]
    return sale if sale is not None else first, passed_over


def _best(candidates: Sequence[int], checks: Sequence[Check]) -> int | None:
    for sale in candidates:
        for _, sales, barred in checks:
            if (sale in sales) is barred:
                break
        else:
            return sale
    return None


def _feasible(candidates: Sequence[int], checks: Sequence[Check]) -> list[Check]:
    """Leave out each rule that no sale meets together with the rules before it."""
    feasible = []
    for check in checks:
        if good := [sale for sale in candidates if (sale in check.sales) is not check.barred]:
            candidates = good
            feasible.append(check)
    return feasible
