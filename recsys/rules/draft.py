"""A page while its rules are applied: filters, boosts and buries order its candidates, pins take places."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from recsys.rules.tallies import Tally


class ArrangedPage(NamedTuple):
    """A page after its rules."""

    sales: list[int]
    """Positions of the sales, best first, each once, all open."""
    rules: list[str | None]
    """For each place, the rule that pinned, boosted or buried its sale or took it before a better one."""
    applied: list[str]
    """The rules that changed the page, in the order of the file."""
    notes: list[str]
    """A sentence for each rule that could not be met, and for each filter that left places empty."""


class Draft:
    """One page in the making; rules are applied in the order filter, boost, bury, pin, and the rest."""

    __slots__ = ("applied", "candidates", "filters", "hidden", "moved", "n", "notes", "now", "open_sales", "pins", "tallies")

    def __init__(self, ranked: Sequence[int], open_sales: Sequence[bool], n: int, now: int):
        self.candidates = list(ranked)
        self.open_sales = open_sales
        self.n = n
        self.now = now
        self.filters: list[Filter] = []
        self.hidden: dict[str, int] = {}
        self.moved: dict[int, str] = {}
        self.pins: dict[int, tuple[int, str]] = {}
        self.tallies: list[Callable[[Draft], Tally]] = []
        self.applied: set[str] = set()
        self.notes: list[str] = []

    def reorder(self, candidates: list[int], rule: str) -> None:
        """Give the candidates another order, or fewer of them."""
        if candidates[: self.n] != self.candidates[: self.n]:
            self.applied.add(rule)
        self.candidates = candidates

    def pinned(self, sale: int) -> str | None:
        """Return the rule that pinned a sale."""
        return next((rule for other, rule in self.pins.values() if other == sale), None)

    def settle_pins(self) -> None:
        """Leave the pinned sales out of the candidates; pins beyond the last sale of a short page close up to it."""
        if not self.pins:
            return
        sales = {sale for sale, _ in self.pins.values()}
        self.candidates = [sale for sale in self.candidates if sale not in sales]
        length = min(self.n, len(self.candidates) + len(sales))
        late = sorted(place for place in self.pins if place >= length)
        free = [place for place in range(length) if place not in self.pins]
        for old, new in zip(late, free[len(free) - len(late) :], strict=True):
            sale, rule = self.pins[new] = self.pins.pop(old)
            self.notes.append(f"rule {rule!r}: only {length} sales are left, place {old + 1} moves up to {new + 1}.")


class Filter(NamedTuple):
    """Hides sales."""

    name: str
    sales: frozenset[int]

    def apply(self, draft: Draft) -> None:
        """Take the sales out of the candidates, and out of reach of pins."""
        draft.filters.append(self)
        kept = [sale for sale in draft.candidates if sale not in self.sales]
        if len(kept) < len(draft.candidates):
            draft.hidden[self.name] = len(draft.candidates) - len(kept)
            draft.reorder(kept, self.name)


class Boost(NamedTuple):
    """Moves sales up."""

    name: str
    sales: frozenset[int]
    places: int

    def apply(self, draft: Draft) -> None:
        """Move each sale up, but never past another one of the rule."""
        order: list[int] = []
        last = -1
        for place, sale in enumerate(draft.candidates):
            if sale not in self.sales:
                order.append(sale)
                continue
            last = max(place - self.places, last + 1)
            order.insert(last, sale)
            if last < place:
                draft.moved[sale] = self.name
        draft.reorder(order, self.name)


class Bury(NamedTuple):
    """Moves sales to the end."""

    name: str
    sales: frozenset[int]

    def apply(self, draft: Draft) -> None:
        """Move the sales behind all other candidates, in their order."""
        buried = [sale for sale in draft.candidates if sale in self.sales]
        order = [sale for sale in draft.candidates if sale not in self.sales] + buried
        if order != draft.candidates:
            draft.moved.update(dict.fromkeys(buried, self.name))
            draft.reorder(order, self.name)


class Pin(NamedTuple):
    """Puts sales at fixed places."""

    name: str
    sales: tuple[tuple[str, int | None], ...]
    """Each sale's id and its position; None if the snapshot does not have it."""
    place: int
    """The first place, counted from 0."""

    def apply(self, draft: Draft) -> None:
        """Pin the sales one after the other, each to the next free place."""
        place = self.place
        for sale_id, sale in self.sales:
            if sale is None or (problem := self._problem(sale, draft)):
                draft.notes.append(f"rule {self.name!r}: sale {sale_id!r} {problem if sale is not None else 'is unknown'}.")
                continue
            wanted = place
            while place in draft.pins:
                place += 1
            if place >= draft.n:
                draft.notes.append(f"rule {self.name!r}: place {place + 1} of sale {sale_id!r} is not on the page.")
            else:
                draft.pins[place] = sale, self.name
                if place > wanted:
                    draft.notes.append(f"rule {self.name!r}: place {wanted + 1} is taken, sale {sale_id!r} is at {place + 1}.")
            place += 1

    def _problem(self, sale: int, draft: Draft) -> str | None: ...
