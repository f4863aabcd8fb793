"""Two policies on one page: which of the two places the sales that users buy?"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from random import Random
from typing import NamedTuple

NO_TEAM = ""
"""The team of a place that was filled after the draft: its purchases are credited to nobody."""


class InterleavedPage(NamedTuple):
    """A page of two teams, first place first."""

    sales: list[int]
    teams: list[str]
    """The team that placed each sale, or `NO_TEAM`."""


def interleave(rankings: Mapping[str, Sequence[int]], n: int, random: Random) -> InterleavedPage:
    """Draft a page: in each round a coin says which team places first its best sale that is not on the page yet.

    The draft ends after the round in which a team has nothing left to place, so that no team is ahead by more than
    one place; what the other has left fills up the page for nobody.

    Args:
        rankings: Two, by team; positions of sales, best first, none twice.
        n: Places.
        random: The same state drafts the same page.

    Source:
        Radlinski, Kurup and Joachims 2008, algorithm 2. Unlike it, the page is filled when a ranking has run out.
    """
    page: dict[int, str] = {}
    left = {team: iter(ranking) for team, ranking in rankings.items()}
    drafting = True
    while drafting and len(page) < n:
        for team in _turns(list(rankings), random):
            sale = next((sale for sale in left[team] if sale not in page), None)
            drafting &= sale is not None
            if sale is not None and len(page) < n:
                page[sale] = team
    rest = [sale for ranking in rankings.values() for sale in ranking if sale not in page]
    page |= dict.fromkeys(rest[: n - len(page)], NO_TEAM)
    return InterleavedPage(list(page), list(page.values()))


def credits_by_team(page: InterleavedPage, purchased: Collection[int]) -> Counter[str]:
    """Count the purchased sales of a page by the team that placed them."""
    bought = (team for sale, team in zip(*page, strict=True) if sale in purchased and team != NO_TEAM)
    return Counter(bought)


def _turns(teams: list[str], random: Random) -> list[str]:
    return teams if random.random() < 0.5 else teams[::-1]
