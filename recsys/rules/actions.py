"""What rules do to a page, each compiled for one snapshot."""

from typing import NamedTuple, Protocol

from recsys.rules.draft import Draft
from recsys.rules.tallies import Constraint


class Action(Protocol):
    """One rule."""

    def apply(self, draft: Draft) -> None:
        """Apply the rule to a page."""


class Filter(NamedTuple):
    """Hides sales."""

    name: str
    sales: frozenset[int]

    def apply(self, draft: Draft) -> None:
        """Take the sales out of the page's reach."""
        draft.hide(self.sales, self.name)


class Boost(NamedTuple):
    """Moves sales up."""

    name: str
    sales: frozenset[int]
    places: int

    def apply(self, draft: Draft) -> None:
        """Move each sale up, but never past another one of the rule."""
        order = list(draft.candidates)
        moved = []
        last = -1
        for place in [place for place, sale in enumerate(order) if sale in self.sales]:
            last = max(place - self.places, last + 1)
            if last < place:
                moved.append(order[place])
                order.insert(last, order.pop(place))
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
    position: int | None
    """None if the snapshot does not have it."""


class Pin(NamedTuple):
    """Puts sales at fixed places."""

    name: str
    sales: tuple[PinnedSale, ...]
    first: int
    """The place of the first sale, counted from 0."""

    def apply(self, draft: Draft) -> None:
        """Pin the sales that can be shown one after the other, each at the next free place."""
        wanted = self.first
        for sale_id, sale in self.sales:
            place = wanted
            while place in draft.pins:
                place += 1
            problem = _problem(sale, place, draft)
            if sale is None or problem:
                draft.notes.append(f"Rule {self.name!r} does not pin sale {sale_id!r}: {problem}.")
                continue
            if place > wanted:
                taken = f"place {wanted + 1} is taken, it is {place + 1} instead"
                draft.notes.append(f"Rule {self.name!r} pins sale {sale_id!r} elsewhere: {taken}.")
            draft.pins[place] = sale, self.name
            wanted = place + 1


def _problem(sale: int | None, place: int, draft: Draft) -> str | None:
    """Say why a sale cannot be pinned."""
    if sale is None:
        return "it is not in the snapshot"
    if not draft.open_sales[sale]:
        return "it is not open"
    if rule := draft.hidden_by(sale) or draft.pinned_by(sale):
        return f"rule {rule!r} has it"
    return None if place < draft.n else f"place {place + 1} is not on the page"


class Constrain(NamedTuple):
    """Holds the page to a rule while its places are filled."""

    constraints: tuple[Constraint, ...]

    def apply(self, draft: Draft) -> None:
        """Add what the page is held to."""
        draft.constraints.extend(self.constraints)
