"""What the analysis of an experiment knows: sums over users that add up over days, and counts of what may be wrong."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import NamedTuple, TypeVar

_Key = TypeVar("_Key")

ALL, TRIGGERED = "all", "triggered"
"""Populations: every analysed user; those for whom the variants' pages differed at least once."""
INTERLEAVED = "interleaved"
"""The variant of every user of an interleaving experiment."""
EVERYBODY = ""
"""The segment that all users are in; others are named like 'country=DE'."""


class Group(NamedTuple):
    """Whose sums."""

    population: str
    segment: str
    day: date
    """The sums say by how much the state at the end of this day, UTC, differs from that of the day before."""
    variant: str


@dataclass(frozen=True)
class Sums:
    """Sums over users of columns and of products of two columns; add those of days, and they are as of the last day."""

    n: int = 0
    """Users."""
    sums: Mapping[str, float] = field(default_factory=dict)
    products: Mapping[tuple[str, str], float] = field(default_factory=dict)
    """By pair of columns in ascending order; a column with itself is its sum of squares."""

    def __add__(self, other: "Sums") -> "Sums":
        """Return the sums over both."""
        return Sums(self.n + other.n, _added(self.sums, other.sums), _added(self.products, other.products))

    @classmethod
    def total(cls, parts: Iterable["Sums"]) -> "Sums":
        """Return the sums over all."""
        return sum(parts, cls())

    def product(self, a: str, b: str) -> float:
        """Return the sum over users of a times b."""
        return self.products[(a, b) if a <= b else (b, a)]


@dataclass(frozen=True)
class Health:
    """Counts over the pages of one phase that may tell that something is wrong."""

    pages: Mapping[tuple[str, str], int]
    """Pages by variant and reason: assigned, override, holdout, fallback, kill."""
    fallbacks: Mapping[str, int]
    """Assigned pages by variant that fell back from what the variant should serve."""
    users: Mapping[str, int]
    """Analysed users by variant."""
    jumpers: int
    """Users who were assigned to more than one variant; counted for their first."""
    configuration_shas: Mapping[str, int]
    """Pages by the configuration that was in force."""
    model_versions: Mapping[tuple[str, str], int]
    """Pages by variant and model version."""
    recomputed: int = 0
    """Assigned users whose variant was computed again from the configuration."""
    mismatches: int = 0
    """Of those, the users who were served another variant."""


@dataclass(frozen=True)
class Evidence:
    """All that the job found of one phase."""

    sums: Mapping[Group, Sums]
    health: Health

    @property
    def days(self) -> list[date]:
        """The days that anything happened on, ascending."""
        return sorted({group.day for group in self.sums})

    def up_to(self, day: date, variant: str, population: str = ALL, segment: str = EVERYBODY) -> Sums:
        """Return a variant's sums as they stood at the end of a day."""
        return Sums.total(
            sums
            for group, sums in self.sums.items()
            if group[:2] == (population, segment) and group.variant == variant and group.day <= day
        )


def _added(a: Mapping[_Key, float], b: Mapping[_Key, float]) -> dict[_Key, float]:
    return {key: a.get(key, 0.0) + b.get(key, 0.0) for key in a.keys() | b.keys()}
