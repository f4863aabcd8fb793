"""The input of an experiment's analysis: sums over users that add up over days, and health counts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import NamedTuple, TypeVar

_Key = TypeVar("_Key")

ALL, TRIGGERED = "all", "triggered"
"""Populations: every analysed user; those for whom the variants' pages differed at least once."""
INTERLEAVED = "interleaved"
"""The variant under which every user of an interleaving experiment is logged."""
ALL_USERS = ""
"""The segment of all users; others are named like 'country=DE'."""


class Group(NamedTuple):
    """The users and the day that some sums are for."""

    population: str
    """`ALL` or `TRIGGERED`."""
    segment: str
    """`ALL_USERS`, or such as 'country=DE'."""
    day: date
    """In UTC; the sums are those at the end of this day minus those at the end of the day before."""
    variant: str


@dataclass(frozen=True)
class Sums:
    """Sums over users of columns and of products of columns; daily sums, added up, are as of the last day."""

    n: int = 0
    """Number of users."""
    sums: Mapping[str, float] = field(default_factory=dict)
    """By column."""
    products: Mapping[tuple[str, ...], float] = field(default_factory=dict)
    """By two or three columns in ascending order; a column with itself is its sum of squares."""

    def __add__(self, other: "Sums") -> "Sums":
        """Return the sums of both added up."""
        return Sums(self.n + other.n, _add_by_key(self.sums, other.sums), _add_by_key(self.products, other.products))

    @classmethod
    def total(cls, parts: Iterable["Sums"]) -> "Sums":
        """Return the sums of all parts added up."""
        return sum(parts, cls())

    def product(self, *columns: str) -> float:
        """Return the sum over users of the product of two or three columns."""
        return self.products[tuple(sorted(columns))]


@dataclass(frozen=True)
class Health:
    """Counts over the pages of one phase that show whether the experiment ran as configured."""

    pages: Mapping[tuple[str, str], int]
    """Pages by variant and reason: assigned, override, holdout, fallback, kill."""
    fallbacks: Mapping[str, int]
    """Assigned pages by variant for which a fallback was served instead of the variant's policy."""
    users: Mapping[str, int]
    """Analysed users by variant."""
    jumpers: int
    """Users who were assigned to more than one variant; they are analysed in their first."""
    configuration_shas: Mapping[str, int]
    """Pages by the fingerprint of the configuration in force."""
    model_versions: Mapping[tuple[str, str], int]
    """Pages by variant and model version."""
    recomputed: int = 0
    """Assigned users whose variant was recomputed from the configuration."""
    mismatches: int = 0
    """The recomputed users who were served another variant."""


@dataclass(frozen=True)
class PhaseSummary:
    """The sums over users and the health counts of one phase of an experiment."""

    sums: Mapping[Group, Sums]
    health: Health

    @property
    def days(self) -> list[date]:
        """The days on which a sum changed, ascending."""
        return sorted({group.day for group in self.sums})

    def up_to(self, day: date, variant: str, population: str = ALL, segment: str = ALL_USERS) -> Sums:
        """Return a variant's sums as of the end of a day."""
        return Sums.total(
            sums
            for group, sums in self.sums.items()
            if group[:2] == (population, segment) and group.variant == variant and group.day <= day
        )


def _add_by_key(a: Mapping[_Key, float], b: Mapping[_Key, float]) -> dict[_Key, float]:
    return {key: a.get(key, 0.0) + b.get(key, 0.0) for key in a.keys() | b.keys()}
