"""What a page is held to while its places are filled: how many sales of a group it has, at most or at least.

A group bears the name that notes give it, such as "sales of country 'Italy'"; a sale without a group is free.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple

from recsys.instants import DAY

MATCHING = "matching sales"
NEW = "new sales"
_HALF = 0.5 + 1e-9  # 0.29 * 50 is a little less than 14.5


@dataclass(slots=True)
class UnfilledPage:
    """A page whose pinned sales have their places and whose other places are to be filled."""

    places: list[int | None]
    """Positions of the sales; None where a place is free."""
    rules: list[str | None]
    """For each place, the rule that pinned its sale, or for which a better one was passed over."""
    candidates: list[int]
    """Positions of the sales for the free places, best first."""
    sales: Set[int]
    """All of them, pinned or not."""
    now: int
    """Microseconds since 1970 UTC."""
    needs: list["AtLeast"] = field(default_factory=list)
    """The rules that need places, in the order in which they win; each adds itself."""


class Groups(NamedTuple):
    """Sales by group."""

    of: Mapping[int, str]
    """The group of each sale that has one."""
    members: Mapping[str, frozenset[int]]
    """The sales of each group."""

    @classmethod
    def collected(cls, of: Mapping[int, str]) -> "Groups":
        """Collect the members of each group."""
        members: dict[str, set[int]] = {}
        for sale, group in of.items():
            members.setdefault(group, set()).add(sale)
        return cls(of, {group: frozenset(sales) for group, sales in members.items()})


class Check(NamedTuple):
    """What breaks a rule at one place: sales among some, or all others."""

    rule: str
    sales: frozenset[int]
    barred: bool
    """Whether these sales break the rule, or all others do."""


class Tally:
    """Holds one page to one rule; this one lets everything pass."""

    def __init__(self, name: str):
        self.name = name

    def check(self, _place: int, _left: int) -> Check | None:
        """Return what breaks the rule at the place to be filled next; None if nothing does.

        Args:
            place: Counted from 0.
            left: Free places, this one included.
        """
        return None

    def add(self, sale: int, place: int) -> None:
        """Count a sale that has a place."""

    def notes(self) -> Iterable[str]:
        """Say where the finished page breaks the rule."""
        return ()


Constraint = Callable[[UnfilledPage], Tally]
"""Starts the tally of a page."""


class AtMost(Tally):
    """At most so many sales of each group."""

    def __init__(self, name: str, groups: Groups, limit: int, _page: UnfilledPage):
        super().__init__(name)
        self._groups = groups
        self._limit = limit
        self._counts: dict[str, int] = {}
        self._full: Check | None = None

    def check(self, _place: int, _left: int) -> Check | None:
        """Bar the groups that have all they may."""
        return self._full

    def add(self, sale: int, _place: int) -> None:
        """Count the sale's group."""
        group = self._groups.of.get(sale)
        if group is not None:
            self._counts[group] = count = self._counts.get(group, 0) + 1
            if count == self._limit:
                members = self._groups.members[group]
                full = self._full.sales | members if self._full else members
                self._full = Check(self.name, full, barred=True)

    def notes(self) -> Iterator[str]:
        """Name the groups of which pins or a lack of others left too many."""
        for group, count in self._counts.items():
            if count > self._limit:
                yield f"Rule {self.name!r} allows {self._limit} {group}, the page has {count}."


class AtMostInARow(Tally):
    """At most so many sales of one group, one after the other."""

    def __init__(self, name: str, groups: Groups, limit: int, page: UnfilledPage):
        super().__init__(name)
        self._groups = groups
        self._limit = limit
        self._filled: list[str | None] = [None] * (len(page.places) + 1)
        """The group of each place; the last one, also reached as -1, is beyond either end of the page."""

    def check(self, place: int, _left: int) -> Check | None:
        """Bar the groups that would have too long a row with the place; pinned sales may stand below it."""
        filled = self._filled
        above, below = filled[place - 1], filled[place + 1]
        if below is None and (above is None or place < self._limit or filled[place - self._limit] != above):
            return None  # by far the most frequent case
        n_above, n_below = self._row(place, -1, above), self._row(place, 1, below)
        if above == below:
            n_above = n_below = n_above + n_below
        rows = ((above, n_above), (below, n_below))
        full = [self._groups.members[group] for group, length in rows if group and length >= self._limit]
        return Check(self.name, full[0].union(*full[1:]), barred=True) if full else None

    def add(self, sale: int, place: int) -> None:
        """Remember the group of the place."""
        self._filled[place] = self._groups.of.get(sale)

    def notes(self) -> Iterator[str]:
        """Name the groups of which pins or a lack of others left too many."""
        for group, row in groupby(self._filled):
            if group is not None and (length := len(list(row))) > self._limit:
                yield f"Rule {self.name!r} allows {self._limit} {group} in a row, the page has {length}."

    def _row(self, place: int, step: int, group: str | None) -> int:
        """Count the places from the next one on that have a group."""
        length = 0
        while group is not None and self._filled[place + step * (length + 1)] == group:
            length += 1
        return length


class AtLeast(Tally):
    """At least so many sales of each group that candidates have, and of each required one."""

    def __init__(self, name: str, groups: Groups, limit: int, required: Sequence[str], page: UnfilledPage):
        super().__init__(name)
        self._groups = groups
        self._limit = limit
        members = groups.members
        available = {group: count for group in members if (count := len(page.sales & members[group]))}
        self._counts = dict.fromkeys([*required, *available], 0)
        self._missing = {group: min(limit, count) for group, count in available.items()}
        self.outstanding = sum(self._missing.values())
        """Places that the rule still needs."""
        self._before = tuple(page.needs)
        page.needs.append(self)

    def check(self, _place: int, left: int) -> Check | None:
        """Bar all that help neither this rule nor one before it, once these rules need every place that is left."""
        needed = self.outstanding
        if not needed:
            return None
        for need in self._before:
            needed += need.outstanding
        if needed < left:
            return None
        return Check(self.name, self.helpful().union(*[need.helpful() for need in self._before]), barred=False)

    def helpful(self) -> frozenset[int]:
        """Return the sales that lessen what is outstanding."""
        short = [self._groups.members[group] for group, count in self._missing.items() if count]
        return short[0].union(*short[1:]) if short else frozenset()

    def add(self, sale: int, _place: int) -> None:
        """Count the sale's group."""
        group = self._groups.of.get(sale)
        if group is None:
            return
        self._counts[group] += 1
        if self._missing[group]:
            self._missing[group] -= 1
            self.outstanding -= 1

    def notes(self) -> Iterator[str]:
        """Name the groups that stayed short."""
        for group, count in self._counts.items():
            if count < self._limit:
                yield f"Rule {self.name!r} wants {self._limit} {group}, the page has {count}."


class NewSales(AtLeast):
    """A share of the places for sales that opened at an instant or after it, spread over the page."""

    def __init__(self, name: str, opens_at: Sequence[int], share: float, lifetime: int | None, page: UnfilledPage):
        since = page.now - (page.now % DAY if lifetime is None else lifetime)
        new = frozenset([sale for sale in page.sales if opens_at[sale] >= since])
        groups = Groups(dict.fromkeys(new, NEW), {NEW: new})
        super().__init__(name, groups, int(share * len(page.places) + _HALF), (NEW,), page)
        self._share = share
        self._new = Check(name, new, barred=False)

    def check(self, place: int, left: int) -> Check | None:
        """Bar all others where a new sale is due."""
        if not self.outstanding:
            return None
        if self._counts[NEW] < int(self._share * (place + 1) + _HALF):
            return self._new
        return AtLeast.check(self, place, left)  # half as dear as super()
