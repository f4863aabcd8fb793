"""What is asked for, and what is shown: the words of the answering code."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from recommendations.v1 import recommendations_pb2 as pb

from recsys.experiments.settings import ExplorationSettings
from recsys.logs.records import ASSIGNED, FALLBACK, Assignment

HOME = "home"
"""The surface of requests that name none."""

UNEXPLAINED = -1
"""The reason of a pick until it is known to be shown."""


Pick = tuple[int, float | None, int, int]
"""A sale that may be shown: its position in the snapshot's sales; what the policy thinks of it, None where it did not
rank it; the position of its reason, or UNEXPLAINED; the position of the photo in its images. No named tuple, since
every request makes some.
"""


class Visit(NamedTuple):
    """What a visitor did in the running session."""

    sale_id: str
    is_purchase: bool = False


class Interleaved(NamedTuple):
    """A second policy that takes turns with the first."""

    policy: str
    teams: tuple[str, str]
    """What the policies are called in the log, the page's own first."""


class OtherSide(NamedTuple):
    """What another variant of an experiment serves."""

    policy: str
    follows_rules: bool


class PageRequest(NamedTuple):
    """A page that is asked for, checked."""

    user_id: str
    """Empty for an anonymous visitor."""
    policy: str
    n: int = 10
    surface: str = HOME
    attributes: Mapping[str, str] = {}
    session: Sequence[Visit] = ()
    allowed: Sequence[str] = ()
    """Sale ids; empty for every sale."""
    denied: Sequence[str] = ()
    explain: bool = False
    follows_rules: bool = True
    """Whether the shop's rules apply."""
    exploration: ExplorationSettings | None = None
    """Draws the page at random; None puts the best sales first."""
    interleaved: Interleaved | None = None
    """Mixes a second policy into the page."""
    other_sides: Sequence[OtherSide] = ()
    """What the page is compared with, to tell users for whom an experiment makes no difference."""
    assignment: Assignment | None = None
    """The side of an experiment that the page is served from."""

    def of_side(self, side: OtherSide) -> "PageRequest":
        """Return the request as another side of the experiment would serve it, whose page is not shown."""
        return self._replace(
            policy=side.policy, follows_rules=side.follows_rules, explain=False, exploration=None, interleaved=None
        )


class ServedPage(NamedTuple):
    """What is shown."""

    policy: str
    level: pb.FallbackLevel
    why: str
    """Why the answer fell back."""
    picks: list[Pick]
    uses_session: bool = False
    shortfall: str = ""
    rules: Sequence[str] = ()
    """Names of the rules that changed the page."""
    rule_at: Sequence[str | None] = ()
    """For each place the rule that filled it; empty where no rule is in force."""
    notes: Sequence[str] = ()
    contributions: Sequence[Mapping[str, float]] = ()
    """For each place what each feature adds to the log-odds; empty unless asked for."""
    propensities: list[float] | None = None
    """For each place the probability of its sale there, where the page was drawn and no rule changed it."""
    teams: list[str] | None = None
    """For each place the team that filled it, empty for none; None where no policies take turns."""
    overlap_at_10: float | None = None
    """Share of the first 10 places at which another side shows the same sale; of several, of the one least alike."""

    def assignment(self, request: PageRequest) -> Assignment | None:
        """Return the side of an experiment that the page counts for; it says so where it could not be served."""
        assigned = request.assignment
        if assigned is not None and assigned.reason == ASSIGNED and self.policy != request.policy:
            return assigned._replace(reason=FALLBACK)
        return assigned
