"""Team-draft interleaving: two policies share each page, and purchases are credited to the policy of the sale."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from random import Random
from typing import NamedTuple

NO_TEAM = ""
"""The team of a position that was filled after the draft: its purchases are credited to neither team."""


class InterleavedPage(NamedTuple):
    """A page of two teams, from the first position to the last."""

    sales: list[int]
    teams: list[str]
    """The team that contributed each sale, or `NO_TEAM`."""


def interleave(rankings: Mapping[str, Sequence[int]], n: int, random: Random) -> InterleavedPage:
    """Interleave two rankings by team draft.

    In each round, each team adds its best sale that is not on the page yet; a coin decides which team goes first. The
    draft ends after the round in which a team has no sale left, so that neither team is ahead by more than one sale.
    The remaining sales of the other team then fill the page, and are credited to neither team.

    Args:
        rankings: Two rankings, by team: indices of sales, best first, each at most once.
        n: Number of positions.
        random: The random generator; the same state gives the same page.

    Source:
        Radlinski, Kurup and Joachims 2008, algorithm 2. Unlike it, the page is filled when a ranking has run out.
    """
    page: dict[int, str] = {}
    left = {team: iter(ranking) for team, ranking in rankings.items()}
    drafting = True
    while drafting and len(page) < n:
        for team in _shuffle_two(list(rankings), random):
            sale = next((sale for sale in left[team] if sale not in page), None)
            drafting &= sale is not None
            if sale is not None and len(page) < n:
                page[sale] = team
    rest = [sale for ranking in rankings.values() for sale in ranking if sale not in page]
    page |= dict.fromkeys(rest[: n - len(page)], NO_TEAM)
    return InterleavedPage(list(page), list(page.values()))


def credits_by_team(page: InterleavedPage, purchased: Collection[int]) -> Counter[str]:
    """Count the purchased sales of a page by the team that contributed them."""
    bought = (team for sale, team in zip(*page, strict=True) if sale in purchased and team != NO_TEAM)
    return Counter(bought)


def _shuffle_two(teams: list[str], random: Random) -> list[str]:
    return teams if random.random() < 0.5 else teams[::-1]
