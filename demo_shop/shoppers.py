"""Users of the demo shop in front of a home page: what they look at, and what they buy, by their true taste."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from demo_shop.truth import true_utilities
from recsys.instants import SECOND

_SEEN_AT_PLACE = 0.9
"""Share of those who saw a place of the page that see the next one too."""
_LOOK_SHARPNESS, _BUY_SHARPNESS = 0.9, 0.6
_LOOK, _BUY = -2.0, -4.0
"""Log-odds that the mean user looks at the mean sale that he sees, and buys it once he looks."""
_SESSION_GAP = 30 * 60 * SECOND


class Session(NamedTuple):
    """Somebody comes to the shop."""

    user_id: str
    started_at: int
    """Microseconds since 1970 UTC."""


class Look(NamedTuple):
    """A user looks at a sale of his page, and perhaps buys it."""

    sale_id: str
    occurred_at: int
    bought_at: int | None


class Shoppers:
    """The users of a shop; a sale that somebody bought is none for him any more.

    Args:
        folder: The demo shop's.
        sale_ids: The sales that pages may hold.
        seed: Where the draws start.
    """

    def __init__(self, folder: Path, sale_ids: Sequence[str], seed: int):
        users = pd.read_parquet(folder / "raw" / "users.parquet").set_index("member_id")
        rows = zip(users.index, users["market"], users["channel"], strict=True)
        self.attributes = {user: {"market": market, "channel": channel} for user, market, channel in rows}
        self._user = {user: row for row, user in enumerate(users.index)}
        self._sale = {sale: column for column, sale in enumerate(sale_ids)}
        utilities = true_utilities(folder, list(users.index), sale_ids)
        self._utilities = utilities - utilities.mean()
        self._rng = np.random.default_rng(seed)
        self._bought: dict[str, set[str]] = defaultdict(set)

    def looks(self, session: Session, sale_ids: Sequence[str]) -> Iterator[Look]:
        """Draw what a user does with a page, from its top to where he stops reading."""
        utilities = self._utilities[self._user[session.user_id], [self._sale[sale] for sale in sale_ids]]
        sees = self._rng.random(len(sale_ids)) < _SEEN_AT_PLACE
        seen = np.logical_and.accumulate(sees)
        looks = seen & self._happens(_LOOK + _LOOK_SHARPNESS * utilities)
        buys = self._rng.random(len(sale_ids)) < _chances(utilities)
        seconds = np.cumsum(self._rng.integers(5, 60, len(sale_ids)))
        for place in np.flatnonzero(looks).tolist():
            sale_id, at = sale_ids[place], session.started_at + int(seconds[place]) * SECOND
            if sale_id in self._bought[session.user_id]:
                continue
            if buys[place]:
                self._bought[session.user_id].add(sale_id)
            yield Look(sale_id, at, at + 90 * SECOND if buys[place] else None)

    def chances(self, user_ids: Sequence[str]) -> NDArray[np.float64]:
        """Return how likely each user buys each sale once he looks at it, shape (n_users, n_sales)."""
        return _chances(self._utilities[[self._user[user_id] for user_id in user_ids]])

    def _happens(self, log_odds: NDArray[np.float64]) -> NDArray[np.bool_]:
        return self._rng.random(len(log_odds)) < 1 / (1 + np.exp(-log_odds))


def _chances(utilities: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-(_BUY + _BUY_SHARPNESS * utilities)))


def sessions(events: pd.DataFrame) -> list[Session]:
    """Return who came when, in order of time: a user's raw events with less than half an hour between them."""
    events = events.sort_values(["member_id", "happened_at"], kind="stable")
    instants = events["happened_at"].astype("datetime64[us, UTC]").astype("int64")
    users = events["member_id"]
    begins = (users != users.shift()) | (instants.diff() > _SESSION_GAP)
    found = zip(users[begins], instants[begins].tolist(), strict=True)
    return sorted((Session(user, at) for user, at in found), key=lambda session: session[::-1])
