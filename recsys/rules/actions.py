"""The actions of rules on a page, each compiled for one snapshot."""

from typing import NamedTuple, Protocol

from recsys.rules.draft import Draft
from recsys.rules.tallies import Constraint


class Action(Protocol):
    """The compiled form of one rule."""

    def apply(self, draft: Draft) -> None:
        """Apply the rule to a page."""


class Filter(NamedTuple):
    """Hides sales."""

    name: str
    sales: frozenset[int]

    def apply(self, draft: Draft) -> None:
        """Remove the sales from the candidates, and prevent pins from adding them."""
        draft.hide(self.sales, self.name)


class Boost(NamedTuple):
    """Moves sales up."""

    name: str
    sales: frozenset[int]
    positions: int

    def apply(self, draft: Draft) -> None:
        """Move each sale up by a number of positions, but never past another sale of the rule."""
        draft.reach += self.positions
        order = list(draft.candidates)
        moved = []
        last = -1
        for position in [position for position, sale in enumerate(order) if sale in self.sales]:
            last = max(position - self.positions, last + 1)
            if last < position:
                moved.append(order[position])
                order.insert(last, order.pop(position))
        draft.reorder(order, moved, self.name)


class Bury(NamedTuple):
    """Moves sales to the end."""

    name: str
    sales: frozenset[int]

    def apply(self, draft: Draft) -> None:
        """Move the sales behind all others, in their order."""
        buried = [sale for sale in draft.candidates if sale in self.sales]
        if buried != draft.candidates[len(draft.candidates) - len(buried) :]:
            others = [sale for sale in draft.candidates if sale not in self.sales]
            draft.reorder(others + buried, buried, self.name)


class PinnedSale(NamedTuple):
    """A sale to pin."""

    sale_id: str
    sale: int | None
    """Index in the snapshot's sales; None if the snapshot does not have the sale."""


class Pin(NamedTuple):
    """Puts sales at fixed positions."""

    name: str
    sales: tuple[PinnedSale, ...]
    first: int
    """The position of the first sale, counted from 0."""

    def apply(self, draft: Draft) -> None:
        """Pin the sales that can be shown at successive positions, skipping those that are taken."""
        wanted = self.first
        for sale_id, sale in self.sales:
            position = wanted
            while position in draft.pins:
                position += 1
            reason = _why_not_pinned(sale, position, draft)
            if sale is None or reason:
                draft.notes.append(f"Rule {self.name!r} does not pin sale {sale_id!r}: {reason}.")
                continue
            if position > wanted:
                taken = f"position {wanted + 1} is taken, it is at position {position + 1} instead"
                draft.notes.append(f"Rule {self.name!r} pins sale {sale_id!r} elsewhere: {taken}.")
            draft.pins[position] = sale, self.name
            wanted = position + 1


def _why_not_pinned(sale: int | None, position: int, draft: Draft) -> str | None:
    """Return the reason why a sale cannot be pinned at a position; None if it can."""
    if sale is None:
        return "it is not in the snapshot"
    if not draft.open_sales[sale]:
        return "it is not open"
    if rule := draft.hidden_by(sale):
        return f"rule {rule!r} hides it"
    if rule := draft.pinned_by(sale):
        return f"rule {rule!r} pins it already"
    return None if position < draft.n else f"position {position + 1} is not on the page"


class Constrain(NamedTuple):
    """Adds constraints that apply while the positions of a page are filled."""

    constraints: tuple[Constraint, ...]

    def apply(self, draft: Draft) -> None:
        """Add the constraints to a page."""
        draft.constraints.extend(self.constraints)
