"""Pages with a random order: explored around a policy's order, or interleaved from two policies."""

from collections.abc import Mapping, Sequence
from random import Random
from typing import NamedTuple

from recsys.experiments.exploration import draw_page
from recsys.experiments.interleaving import NO_TEAM, interleave
from recsys.experiments.settings import ExplorationSettings
from recsys.meta_model import is_meta
from serving.answers.pages import Interleaved, Pick

_COMPARED_POSITIONS = 10


class Mixed(NamedTuple):
    """A randomised page, with the probabilities or the teams that the log needs."""

    picks: list[Pick] = []
    propensities: Mapping[int, float] | None = None
    """By sale, the probability that it was drawn at its position."""
    teams: Mapping[int, str] | None = None
    """By sale, the team (policy) that put it on the page."""

    def propensities_of(self, shown: Sequence[Pick]) -> list[float] | None:
        """Return the propensity of each position; 1 for sales that fill the page up."""
        if self.propensities is None:
            return None
        return [self.propensities.get(pick[0], 1.0) for pick in shown]

    def teams_of(self, shown: Sequence[Pick]) -> list[str] | None:
        """Return the team of each position; empty where no team put the sale there."""
        return None if self.teams is None else [self.teams.get(pick[0], NO_TEAM) for pick in shown]


NOT_MIXED = Mixed()


def drawn(picks: list[Pick], wanted: int, settings: ExplorationSettings, random: Random) -> Mixed:
    """Draw the order of a page at random from picks that have scores."""
    scores = [score for _, score, _, _ in picks if score is not None]
    page = draw_page(scores, wanted, settings, random)
    shown = [picks[position] for position in page.order]
    propensities = zip((pick[0] for pick in shown), page.propensities, strict=True)
    return Mixed(shown, propensities=dict(propensities))


def interleaved(
    first: list[Pick], second: list[Pick], wanted: int, sides: Interleaved, policy: str, random: Random
) -> Mixed:
    """Interleave two rankings; NOT_MIXED where one of them is empty, since then there is nothing to compare."""
    if not (first and second):
        return NOT_MIXED
    rankings = dict(zip(sides.teams, ([pick[0] for pick in first], [pick[0] for pick in second]), strict=True))
    sales, teams = interleave(rankings, wanted, random)
    if not (is_meta(policy) and is_meta(sides.policy)):  # scores of different policies have different units
        second = [(sale, None, reason, cover) for sale, _, reason, cover in second]
    of_second = {pick[0]: pick for pick in second}
    of_first = {pick[0]: pick for pick in first}
    known = {sides.teams[0]: of_second | of_first, sides.teams[1]: of_first | of_second, NO_TEAM: of_second | of_first}
    shown = [known[team][sale] for sale, team in zip(sales, teams, strict=True)]
    return Mixed(shown, teams=dict(zip(sales, teams, strict=True)))


def overlap(picks: Sequence[Pick], others: Sequence[Pick]) -> float:
    """Return the share of the first 10 positions at which both pages show the same sale; 1 for an empty page.

    Of a page with fewer than 10 sales, all positions are compared.
    """
    compared = min(_COMPARED_POSITIONS, len(picks))
    if not compared:
        return 1.0
    return sum(one[0] == other[0] for one, other in zip(picks[:compared], others, strict=False)) / compared
