"""Fills the positions of a page from the first to the last, each with the best sale that breaks no rule.

If every remaining sale breaks a rule, the later rules are relaxed: a position is never left empty.
"""

from collections.abc import Sequence
from typing import NamedTuple

from recsys.rules.tallies import Check, Constraint, UnfilledPage


class Filling(NamedTuple):
    """The rules that affected the filling of a page."""

    applied: set[str]
    """The rules for which a better sale was passed over."""
    notes: list[str]
    """A sentence for each rule that the page breaks."""


def fill(page: UnfilledPage, constraints: Sequence[Constraint]) -> Filling:
    """Fill the free positions of a page; there must be at least as many candidates.

    Args:
        page: The page; its positions and their rules are set, and the chosen sales are removed from its candidates.
        constraints: The constraints of the rules, in order of priority.
    """
    tallies = [constraint(page) for constraint in constraints]
    adds = [tally.add for tally in tallies]
    for position, pinned in enumerate(page.sale_at):
        if pinned is not None:
            for add in adds:
                add(pinned, position)
    filling = Filling(set(), [])
    free = [position for position, sale in enumerate(page.sale_at) if sale is None]
    left = len(free)
    for position in free:
        sale = page.candidates[0]
        checks = [check for tally in tallies if (check := tally.check(position, left))]
        if checks:
            sale, passed_over = _choose(page.candidates, checks)
            if passed_over:
                page.rules[position] = passed_over[0]
                filling.applied.update(passed_over)
        page.candidates.remove(sale)
        page.sale_at[position] = sale
        left -= 1
        for add in adds:
            add(sale, position)
    for tally in tallies:
        filling.notes.extend(tally.notes())
    return filling


def _choose(candidates: Sequence[int], checks: Sequence[Check]) -> tuple[int, list[str]]:
    """Find the best sale that breaks no rule, or else none of the rules that can be met together.

    Returns:
        The sale, and the rules for which the first candidate was passed over.
    """
    sale = _first_allowed(candidates, checks)
    if sale is None:
        checks = _checks_that_can_be_met(candidates, checks)
        sale = _first_allowed(candidates, checks)
    first = candidates[0]
    passed_over = [] if sale == first else [rule for rule, sales, barred in checks if (first in sales) is barred]
    return sale if sale is not None else first, passed_over


def _first_allowed(candidates: Sequence[int], checks: Sequence[Check]) -> int | None:
    for sale in candidates:
        for _, sales, barred in checks:
            if (sale in sales) is barred:
                break
        else:
            return sale
    return None


def _checks_that_can_be_met(candidates: Sequence[int], checks: Sequence[Check]) -> list[Check]:
    """Leave out each check that no sale passes together with the checks before it."""
    feasible = []
    for check in checks:
        if passing := [sale for sale in candidates if (sale in check.sales) is not check.barred]:
            candidates = passing
            feasible.append(check)
    return feasible
