"""Constraints while the positions of a page are filled: how many sales of a group it has, at most or at least.

A group has the name that notes use, such as "sales of country 'Italy'"; a sale without a group is not constrained.
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
    """A page with its pinned sales, whose other positions are to be filled."""

    sale_at: list[int | None]
    """By position, the index of the sale in the snapshot; None for a free position."""
    rules: list[str | None]
    """By position, the rule that pinned the sale, or for which a better one was passed over."""
    candidates: list[int]
    """Indices of the sales for the free positions, best first."""
    sales: Set[int]
    """Indices of all sales, pinned or candidates."""
    now: int
    """Microseconds since 1970 UTC."""
    needs: list["AtLeast"] = field(default_factory=list)
    """The rules that need positions, in order of priority; each adds itself."""


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
    """The sales that break a rule at one position."""

    rule: str
    sales: frozenset[int]
    barred: bool
    """Whether `sales` break the rule; if False, all other sales do."""


class Tally:
    """Checks one page against one rule while it is filled; this base class allows every sale."""

    def __init__(self, name: str):
        self.name = name

    def check(self, _position: int, _left: int) -> Check | None:
        """Return the sales that break the rule at the position to be filled next; None if none does.

        Args:
            position: Counted from 0.
            left: Number of free positions, this one included.
        """
        return None

    def add(self, sale: int, position: int) -> None:
        """Count a sale that was put at a position."""

    def notes(self) -> Iterable[str]:
        """Return a sentence for each way in which the finished page breaks the rule."""
        return ()


Constraint = Callable[[UnfilledPage], Tally]
"""Returns a new tally for a page."""


class AtMost(Tally):
    """At most `limit` sales of each group."""

    def __init__(self, name: str, groups: Groups, limit: int, _page: UnfilledPage):
        super().__init__(name)
        self._groups = groups
        self._limit = limit
        self._counts: dict[str, int] = {}
        self._full: Check | None = None

    def check(self, _position: int, _left: int) -> Check | None:
        """Bar the groups that have reached the limit."""
        return self._full

    def add(self, sale: int, _position: int) -> None:
        """Count the sale's group."""
        group = self._groups.of.get(sale)
        if group is not None:
            self._counts[group] = count = self._counts.get(group, 0) + 1
            if count == self._limit:
                members = self._groups.members[group]
                full = self._full.sales | members if self._full else members
                self._full = Check(self.name, full, barred=True)

    def notes(self) -> Iterator[str]:
        """Name the groups above the limit, because of pins or a lack of other sales."""
        for group, count in self._counts.items():
            if count > self._limit:
                yield f"Rule {self.name!r} is not met: the number of {group} is {count}, must be at most {self._limit}."


class AtMostInARow(Tally):
    """At most `limit` sales of one group at successive positions."""

    def __init__(self, name: str, groups: Groups, limit: int, page: UnfilledPage):
        super().__init__(name)
        self._groups = groups
        self._limit = limit
        self._group_at: list[str | None] = [None] * (len(page.sale_at) + 1)
        """The group at each position; the last element, also reached as -1, is beyond either end of the page."""

    def check(self, position: int, _left: int) -> Check | None:
        """Bar the groups that would exceed the limit around the position; pinned sales may be below it."""
        group_at = self._group_at
        above, below = group_at[position - 1], group_at[position + 1]
        if below is None and (above is None or position < self._limit or group_at[position - self._limit] != above):
            return None  # by far the most frequent case
        n_above, n_below = self._run_length(position, -1, above), self._run_length(position, 1, below)
        if above == below:
            n_above = n_below = n_above + n_below
        runs = ((above, n_above), (below, n_below))
        full = [self._groups.members[group] for group, length in runs if group and length >= self._limit]
        return Check(self.name, full[0].union(*full[1:]), barred=True) if full else None

    def add(self, sale: int, position: int) -> None:
        """Store the group at the position."""
        self._group_at[position] = self._groups.of.get(sale)

    def notes(self) -> Iterator[str]:
        """Name the groups above the limit, because of pins or a lack of other sales."""
        for group, run in groupby(self._group_at):
            if group is not None and (length := len(list(run))) > self._limit:
                count = f"the number of {group} in a row is {length}"
                yield f"Rule {self.name!r} is not met: {count}, must be at most {self._limit}."

    def _run_length(self, position: int, step: int, group: str | None) -> int:
        """Return the number of successive positions with a group, next to a position in the direction of `step`."""
        length = 0
        while group is not None and self._group_at[position + step * (length + 1)] == group:
            length += 1
        return length


class AtLeast(Tally):
    """At least `limit` sales of each group among the page's sales, and of each required group."""

    def __init__(self, name: str, groups: Groups, limit: int, required: Sequence[str], page: UnfilledPage):
        super().__init__(name)
        self._groups = groups
        self._limit = limit
        members = groups.members
        available = {group: count for group in members if (count := len(page.sales & members[group]))}
        self._counts = dict.fromkeys([*required, *available], 0)
        self._missing = {group: min(limit, count) for group, count in available.items()}
        self.outstanding = sum(self._missing.values())
        """Number of positions that the rule still needs."""
        self._before = tuple(page.needs)
        page.needs.append(self)

    def check(self, _position: int, left: int) -> Check | None:
        """Bar sales that help neither this rule nor an earlier one, once these rules need every free position."""
        needed = self.outstanding
        if not needed:
            return None
        for need in self._before:
            needed += need.outstanding
        if needed < left:
            return None
        return Check(self.name, self.helpful().union(*[need.helpful() for need in self._before]), barred=False)

    def helpful(self) -> frozenset[int]:
        """Return the sales of groups that have too few sales yet."""
        short = [self._groups.members[group] for group, count in self._missing.items() if count]
        return short[0].union(*short[1:]) if short else frozenset()

    def add(self, sale: int, _position: int) -> None:
        """Count the sale's group."""
        group = self._groups.of.get(sale)
        if group is None:
            return
        self._counts[group] += 1
        if self._missing[group]:
            self._missing[group] -= 1
            self.outstanding -= 1

    def notes(self) -> Iterator[str]:
        """Name the groups below the limit."""
        for group, count in self._counts.items():
            if count < self._limit:
                found = f"the number of {group} is {count}"
                yield f"Rule {self.name!r} is not met: {found}, must be at least {self._limit}."


class NewSales(AtLeast):
    """A share of the positions, spread over the page, for sales that opened recently.

    Args:
        name: The name of the rule.
        opens_at: The opening of each sale of the snapshot, microseconds since 1970 UTC.
        share: Share of the positions, in (0, 1].
        lifetime: How long a sale is new, in microseconds; None for sales that opened since midnight UTC.
        page: The page.
    """

    def __init__(self, name: str, opens_at: Sequence[int], share: float, lifetime: int | None, page: UnfilledPage):
        since = page.now - (page.now % DAY if lifetime is None else lifetime)
        new = frozenset([sale for sale in page.sales if opens_at[sale] >= since])
        groups = Groups(dict.fromkeys(new, NEW), {NEW: new})
        super().__init__(name, groups, int(share * len(page.sale_at) + _HALF), (NEW,), page)
        self._share = share
        self._new = Check(name, new, barred=False)

    def check(self, position: int, left: int) -> Check | None:
        """Bar all other sales where a new sale is due."""
        if not self.outstanding:
            return None
        if self._counts[NEW] < int(self._share * (position + 1) + _HALF):
            return self._new
        return AtLeast.check(self, position, left)  # takes half the time of super()
