"""One pass over a page, from the first place to the last: each takes the best sale that breaks no rule.

Where every sale left breaks one, the later rules give way: a place is never left empty.
"""

from collections.abc import Sequence
from typing import NamedTuple

from recsys.rules.tallies import Check, Constraint, Page, Tally


class Filling(NamedTuple):
    """How the places of a page were filled."""

    put: dict[int, str]
    """For places whose sale was taken before a better one, the first rule that the better one broke."""
    applied: set[str]
    """Every rule that a better one broke."""
    notes: list[str]
    """A sentence for each rule that the page breaks."""


def fill(page: Page, constraints: Sequence[Constraint]) -> Filling:
    """Fill the free places of a page, of which there must be no more than candidates.

    Args:
        page: Its places are filled and its candidates used up in doing so.
        constraints: The rules, in the order in which they win.
    """
    tallies = [constraint(page) for constraint in constraints]
    for place, pinned in enumerate(page.places):
        if pinned is not None:
            _add(tallies, pinned, place)
    filling = Filling({}, set(), [])
    free = [place for place, sale in enumerate(page.places) if sale is None]
    for left, place in zip(range(len(free), 0, -1), free, strict=True):
        sale = page.candidates[0]
        if checks := _checks(tallies, place, left):
            sale, passed_over = _choose(page.candidates, checks)
            filling.put.update((place, rule) for rule in passed_over[:1])
            filling.applied.update(passed_over)
        page.candidates.remove(sale)
        page.places[place] = sale
        _add(tallies, sale, place)
    filling.notes.extend(note for tally in tallies for note in tally.notes())
    return filling


def _checks(tallies: Sequence[Tally], place: int, left: int) -> list[Check]:
    """Return what sales may break at a place, when so many places are left with it."""
    checks = []
    needed = 0
    for tally in tallies:
        if check := tally.check(place):
            checks.append(check)
        if tally.outstanding:
            needed += tally.outstanding
            if needed >= left:  # the needs so far take every place that is left
                checks.append(Check(tally.name, _helpful(tallies, tally), barred=False))
    return checks


def _helpful(tallies: Sequence[Tally], last: Tally) -> frozenset[int]:
    """Return the sales that lessen what a rule or one before it needs."""
    needy = tallies[: tallies.index(last) + 1]
    return last.helpful.union(*(tally.helpful for tally in needy))


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


def _add(tallies: Sequence[Tally], sale: int, place: int) -> None:
    for tally in tallies:
        tally.add(sale, place)
