"""The types of the answering code: a requested page and a served page."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from recommendations.v1 import recommendations_pb2 as pb

from recsys.experiments.settings import ExplorationSettings
from recsys.logs.records import ASSIGNED, FALLBACK, Assignment

HOME = "home"
"""The surface of a request that names none."""
SIMILAR = "similar"
"""The same of a request for sales that resemble one."""

UNEXPLAINED = -1
"""The reason of a pick that has none yet: a session's ranking computes reasons only for the sales on the page."""


Pick = tuple[int, float | None, int, int]
"""A sale that may be shown: its position in the snapshot's sales; its score, None where the policy did not rank it; the
position of its reason, or UNEXPLAINED; the position of the photo in its images. A plain tuple rather than a named one,
since every request creates several.
"""


class Visit(NamedTuple):
    """A visit or purchase of the running session."""

    sale_id: str
    is_purchase: bool = False


class AttributeFilter(NamedTuple):
    """A condition on an attribute of the sales that a page may show."""

    attribute: str
    values: frozenset[str]
    exclude: bool
    """Whether sales with one of the values are left out, rather than all others."""


class Interleaved(NamedTuple):
    """A second policy, interleaved with the page's own."""

    policy: str
    teams: tuple[str, str]
    """The names of the two policies in the log, the page's own first."""
    is_live: bool | None = None
    """Whether the second policy ranks as of the present; None where the service's settings decide."""


class OtherSide(NamedTuple):
    """Another variant of the experiment, which the page is compared with."""

    policy: str
    follows_rules: bool
    is_live: bool | None = None
    """Whether it is ranked as of the present; None where the service's settings decide."""


class PageRequest(NamedTuple):
    """A validated request for a page."""

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
    answer_time: int | None = None
    """The instant that the page is for, in microseconds since 1970 UTC; None for the present."""
    filters: Sequence[AttributeFilter] = ()
    bought: Sequence[str] = ()
    """The sales that the user bought in since `as_of`, as far as that was a short time ago."""
    is_live: bool | None = None
    """Whether the page is ranked as of the present; None where the service's settings decide."""
    follows_rules: bool = True
    """Whether the shop's rules apply."""
    exploration: ExplorationSettings | None = None
    """Draws the order of the page at random; None puts the best sales first."""
    interleaved: Interleaved | None = None
    """Interleaves a second policy; None for a page of one policy."""
    other_sides: Sequence[OtherSide] = ()
    """The variants that the page is compared with, to identify users for whom an experiment makes no difference."""
    assignment: Assignment | None = None
    """The experiment and variant that the page is served for."""
    language: str = ""
    """Language of the reasons; empty for the shop's."""
    like: str = ""
    """The id of the sale that those of the page are to resemble; empty for a page of what the user likes."""

    def of_side(self, side: OtherSide) -> "PageRequest":
        """Return the request as another variant of the experiment would serve it, for a page that is only compared."""
        return self._replace(**side._asdict(), explain=False, exploration=None, interleaved=None)


class ServedPage(NamedTuple):
    """A page to show."""

    policy: str
    level: pb.FallbackLevel
    why: str
    """Why a fallback was used; empty without one."""
    picks: list[Pick]
    uses_session: bool = False
    shortfall: str = ""
    rules: Sequence[str] = ()
    """Names of the rules that changed the page."""
    rule_at: Sequence[str | None] = ()
    """For each position, the rule that filled it, if any; empty where no rules apply."""
    notes: Sequence[str] = ()
    contributions: Sequence[Mapping[str, float]] = ()
    """For each position, the contribution of each feature to the log-odds; empty unless requested."""
    propensities: list[float] | None = None
    """For each position, the probability of its sale there; None unless the page was drawn and no rule changed it."""
    teams: list[str] | None = None
    """For each position, the team that filled it, empty for none; None unless the page is interleaved."""
    exceeds_ranking: bool = False
    """Whether the ranking holds too few sales for the page: places are filled, or may be changed, by other sales."""
    overlap_at_10: float | None = None
    """The share of the first 10 positions at which another variant shows the same sale; the minimum over several."""

    def assignment(self, request: PageRequest) -> Assignment | None:
        """Return the page's assignment, with reason `fallback` where its variant could not be served."""
        assigned = request.assignment
        if assigned is not None and assigned.reason == ASSIGNED and self.policy != request.policy:
            return assigned._replace(reason=FALLBACK)
        return assigned
