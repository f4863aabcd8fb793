"""What is asked for, and what is shown: the words of the answering code."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from recommendations.v1 import recommendations_pb2 as pb

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
    """What a visitor did in his running session."""

    sale_id: str
    is_purchase: bool = False


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


class Page(NamedTuple):
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
