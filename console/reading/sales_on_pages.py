"""Where the night's rankings put each sale, found from a sample of users."""

from datetime import datetime
from typing import NamedTuple

from recsys.errors import DamagedRecordError
from recsys.instants import to_micros
from recsys.snapshot.format import Snapshot

SAMPLED = 500
ON_A_PAGE = 10


class OnPages(NamedTuple):
    """The first pages on which a sale is, of the users that were sampled."""

    pages: int
    """Number of users whose first page has the sale."""
    sampled: int
    """Number of users that were sampled."""
    positions: tuple[int, ...]
    """Number of them at each position of the page, from the first on."""


def on_pages(snapshot: Snapshot, policy: str, present: datetime) -> dict[int, OnPages]:
    """Return for each sale that is on a first page where it is there, by its position in the snapshot's sales.

    Pages are the open sales of the night's rankings, without rules, sessions and what was counted since.

    Args:
        snapshot: The snapshot.
        policy: The policy that ranks; one that ranks for each user.
        present: The instant that the pages are for.
    """
    if policy not in snapshot.policies:
        return {}
    now = to_micros(present)
    is_open = ((snapshot.opens_at <= now) & (now < snapshot.closes_at)).tolist()
    counts: dict[int, list[int]] = {}
    sampled = 0
    for user_id in snapshot.users.sample(SAMPLED):
        try:
            user = snapshot.users.find(user_id)
            ranked = [place[0] for place in user.places(policy) if is_open[place[0]]] if user else []
        except DamagedRecordError:
            continue
        sampled += 1
        for position, sale in enumerate(ranked[:ON_A_PAGE]):
            counts.setdefault(sale, [0] * ON_A_PAGE)[position] += 1
    return {sale: OnPages(sum(found), sampled, tuple(found)) for sale, found in counts.items()}
