"""Pages that chance takes part in: drawn around a policy's order, or of two policies that take turns."""

from collections.abc import Mapping, Sequence
from random import Random
from typing import NamedTuple

from recsys.experiments.exploration import draw_page
from recsys.experiments.interleaving import NO_TEAM, interleave
from recsys.experiments.settings import ExplorationSettings
from recsys.meta_model import is_meta
from serving.answers.pages import Interleaved, Pick

_COMPARED = 10


class Mixed(NamedTuple):
    """A page, and how it came about."""

    picks: list[Pick] = []
    propensities: Mapping[int, float] | None = None
    """By sale the probability that it stands where it does."""
    teams: Mapping[int, str] | None = None
    """By sale the team that put it on the page."""

    def propensities_of(self, shown: Sequence[Pick]) -> list[float] | None:
        """Return the propensity of each place; what fills the page up is certain."""
        if self.propensities is None:
            return None
        return [self.propensities.get(pick[0], 1.0) for pick in shown]

    def teams_of(self, shown: Sequence[Pick]) -> list[str] | None:
        """Return the team of each place, empty for what no team put there."""
        return None if self.teams is None else [self.teams.get(pick[0], NO_TEAM) for pick in shown]


NOT_MIXED = Mixed()


def drawn(picks: list[Pick], wanted: int, settings: ExplorationSettings, random: Random) -> Mixed:
    """Draw a page of some picks that have scores."""
    scores = [score for _, score, _, _ in picks if score is not None]
    page = draw_page(scores, wanted, settings, random)
    shown = [picks[position] for position in page.order]
    propensities = zip((pick[0] for pick in shown), page.propensities, strict=True)
    return Mixed(shown, propensities=dict(propensities))


def interleaved(
    first: list[Pick], second: list[Pick], wanted: int, sides: Interleaved, policy: str, random: Random
) -> Mixed:
    """Let two rankings take turns; nothing where one of them is empty: then there is nothing to compare."""
    if not (first and second):
        return NOT_MIXED
    rankings = dict(zip(sides.teams, ([pick[0] for pick in first], [pick[0] for pick in second]), strict=True))
    sales, teams = interleave(rankings, wanted, random)
    if not (is_meta(policy) and is_meta(sides.policy)):  # scores of another policy have another unit
        second = [(sale, None, reason, cover) for sale, _, reason, cover in second]
    of_second = {pick[0]: pick for pick in second}
    of_first = {pick[0]: pick for pick in first}
    known = {sides.teams[0]: of_second | of_first, sides.teams[1]: of_first | of_second, NO_TEAM: of_second | of_first}
    shown = [known[team][sale] for sale, team in zip(sales, teams, strict=True)]
    return Mixed(shown, teams=dict(zip(sales, teams, strict=True)))


def overlap(picks: Sequence[Pick], others: Sequence[Pick]) -> float:
    """Return the share of the first 10 places at which both pages show the same sale; 1 where both are empty.

    A page of fewer than 10 places is compared as far as it goes.
    """
    places = min(_COMPARED, len(picks))
    if not places:
        return 1.0
    return sum(one[0] == other[0] for one, other in zip(picks[:places], others, strict=False)) / places
