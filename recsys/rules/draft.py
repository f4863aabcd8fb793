"""A page while its rules are applied: its candidates, its pins, and which rules changed it."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from recsys.rules.filling import fill
from recsys.rules.tallies import Constraint, UnfilledPage
from recsys.wording import plural


class ArrangedPage(NamedTuple):
    """A page after all rules were applied."""

    sales: list[int]
    """Indices of the sales in the snapshot, best first, each once, all open."""
    rules: list[str | None]
    """For each position, the rule that pinned, boosted or buried its sale, or preferred it to a better one."""
    applied: list[str]
    """The rules that changed the page, in the order of the file."""
    notes: list[str]
    """A sentence for each rule that could not be met, and for each filter that left positions empty."""
    pinned: frozenset[int] = frozenset()
    """The sales that are where they are by a pin, whatever their rank."""
    reach: int = 0
    """Number of positions by which boosts may have moved a sale up."""


class Draft:
    """One page while rules are applied."""

    def __init__(self, ranked: Sequence[int], open_sales: Sequence[bool], n: int, now: int):
        self.candidates = list(ranked)
        """Indices of the sales in the snapshot, best first."""
        self.open_sales = open_sales
        self.n = n
        self.now = now
        self.pins: dict[int, tuple[int, str]] = {}
        """By position, the pinned sale and the rule."""
        self.constraints: list[Constraint] = []
        self.notes: list[str] = []
        self.reach = 0
        """Number of positions by which boosts may have moved a sale up."""
        self._filters: list[tuple[str, frozenset[int]]] = []
        self._hidden: dict[str, int] = {}
        self._moved: dict[int, str] = {}
        self._applied: set[str] = set()

    def hide(self, sales: frozenset[int], rule: str) -> None:
        """Remove sales from the candidates, and prevent pins from adding them."""
        self._filters.append((rule, sales))
        visible = [sale for sale in self.candidates if sale not in sales]
        if len(visible) < len(self.candidates):
            self._hidden[rule] = len(self.candidates) - len(visible)
            self.reorder(visible, (), rule)

    def hidden_by(self, sale: int) -> str | None:
        """Return the first rule that hides a sale, or None."""
        return next((rule for rule, sales in self._filters if sale in sales), None)

    def pinned_by(self, sale: int) -> str | None:
        """Return the rule that pinned a sale, or None."""
        return next((rule for pinned, rule in self.pins.values() if pinned == sale), None)

    def reorder(self, candidates: list[int], moved: Sequence[int], rule: str) -> None:
        """Replace the candidates by those of a rule, which moved some of the sales."""
        if candidates[: self.n] != self.candidates[: self.n]:
            self._applied.add(rule)
        self._moved.update(dict.fromkeys(moved, rule))
        self.candidates = candidates

    def finished(self, names: Sequence[str]) -> ArrangedPage:
        """Fill the positions of the page, and return it.

        Args:
            names: The names of all rules, in the order of the file.
        """
        pinned = {sale for sale, _ in self.pins.values()}
        candidates = [sale for sale in self.candidates if sale not in pinned]
        length = min(self.n, len(candidates) + len(pinned))
        self._move_pins_onto_page(length)
        page = UnfilledPage([None] * length, [None] * length, candidates, pinned.union(candidates), self.now)
        for position, (sale, rule) in self.pins.items():
            page.sale_at[position], page.rules[position] = sale, rule
        filling = fill(page, self.constraints)
        sales = [sale for sale in page.sale_at if sale is not None]
        rules = [rule or self._moved.get(sale) for rule, sale in zip(page.rules, sales, strict=True)]
        applied = self._applied.union(filling.applied, rules)
        notes = [*self._notes_of_filters(length), *self.notes, *filling.notes]
        applied_in_order = [name for name in names if name in applied]
        return ArrangedPage(sales, rules, applied_in_order, notes, frozenset(pinned), self.reach)

    def _move_pins_onto_page(self, length: int) -> None:
        """Move pins beyond the end of a page that has too few sales to its last free positions."""
        if not self.pins or max(self.pins) < length:
            return
        late = sorted(position for position in self.pins if position >= length)
        free = [position for position in range(length) if position not in self.pins]
        for position, end in zip(late, free[len(free) - len(late) :], strict=True):
            self.pins[end] = self.pins.pop(position)
            rule = self.pins[end][1]
            moved = f"pins position {position + 1}, the page has {length}: it is at position {end + 1} instead"
            self.notes.append(f"Rule {rule!r} {moved}.")

    def _notes_of_filters(self, length: int) -> Iterator[str]:
        """Name the filters without which more positions might be filled."""
        for rule, count in self._hidden.items() if length < self.n else ():
            hidden, positions = plural(count, "sale"), plural(self.n, "position")
            yield f"Rule {rule!r} hides {hidden}: the page fills {length} of {positions}."
