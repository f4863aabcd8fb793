"""A page while its rules are applied: the order of its candidates, its pins, and what happened to them."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from recsys.rules.filling import fill
from recsys.rules.tallies import Constraint, UnfilledPage


class ArrangedPage(NamedTuple):
    """A page after its rules."""

    sales: list[int]
    """Positions of the sales, best first, each once, all open."""
    rules: list[str | None]
    """For each place, the rule that pinned, boosted or buried its sale, or took it before a better one."""
    applied: list[str]
    """The rules that changed the page, in the order of the file."""
    notes: list[str]
    """A sentence for each rule that could not be met, and for each filter that left places empty."""


class Draft:
    """One page in the making."""

    def __init__(self, ranked: Sequence[int], open_sales: Sequence[bool], n: int, now: int):
        self.candidates = list(ranked)
        """Positions of the sales, best first."""
        self.open_sales = open_sales
        self.n = n
        self.now = now
        self.pins: dict[int, tuple[int, str]] = {}
        """For each place taken, the sale and the rule."""
        self.constraints: list[Constraint] = []
        self.notes: list[str] = []
        self._filters: list[tuple[str, frozenset[int]]] = []
        self._hidden: dict[str, int] = {}
        self._moved: dict[int, str] = {}
        self._applied: set[str] = set()

    def hide(self, sales: frozenset[int], rule: str) -> None:
        """Take sales out of the candidates, and out of reach of pins."""
        self._filters.append((rule, sales))
        kept = [sale for sale in self.candidates if sale not in sales]
        if len(kept) < len(self.candidates):
            self._hidden[rule] = len(self.candidates) - len(kept)
            self.reorder(kept, (), rule)

    def hidden_by(self, sale: int) -> str | None:
        """Return the rule that hides a sale."""
        return next((rule for rule, sales in self._filters if sale in sales), None)

    def pinned_by(self, sale: int) -> str | None:
        """Return the rule that pinned a sale."""
        return next((rule for pinned, rule in self.pins.values() if pinned == sale), None)

    def reorder(self, candidates: list[int], moved: Sequence[int], rule: str) -> None:
        """Give the candidates another order, in which a rule moved some."""
        if candidates[: self.n] != self.candidates[: self.n]:
            self._applied.add(rule)
        self._moved.update(dict.fromkeys(moved, rule))
        self.candidates = candidates

    def finished(self, names: Sequence[str]) -> ArrangedPage:
        """Fill the page.

        Args:
            names: All rules, in the order of the file.
        """
        pinned = {sale for sale, _ in self.pins.values()}
        candidates = [sale for sale in self.candidates if sale not in pinned]
        length = min(self.n, len(candidates) + len(pinned))
        self._close_up(length)
        page = UnfilledPage([None] * length, [None] * length, candidates, pinned.union(candidates), self.now)
        for place, (sale, rule) in self.pins.items():
            page.places[place], page.rules[place] = sale, rule
        filling = fill(page, self.constraints)
        sales = [sale for sale in page.places if sale is not None]
        rules = [rule or self._moved.get(sale) for rule, sale in zip(page.rules, sales, strict=True)]
        applied = self._applied.union(filling.applied, rules)
        notes = [*self._shortfall(length), *self.notes, *filling.notes]
        return ArrangedPage(sales, rules, [name for name in names if name in applied], notes)

    def _close_up(self, length: int) -> None:
        """Move pins beyond the end of a page that is short of sales to its last free places."""
        if not self.pins or max(self.pins) < length:
            return
        late = sorted(place for place in self.pins if place >= length)
        free = [place for place in range(length) if place not in self.pins]
        for place, end in zip(late, free[len(free) - len(late) :], strict=True):
            self.pins[end] = self.pins.pop(place)
            rule = self.pins[end][1]
            self.notes.append(f"Rule {rule!r} pins place {place + 1}, the page has {length}: it is {end + 1} instead.")

    def _shortfall(self, length: int) -> Iterator[str]:
        """Name the filters without which more places might be filled."""
        for rule, count in self._hidden.items() if length < self.n else ():
            yield f"Rule {rule!r} hides {count} sales: the page fills {length} of {self.n} places."
