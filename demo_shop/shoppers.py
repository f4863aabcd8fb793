"""Simulated users of the demo shop: what they look at on a home page, and what they buy, by their true tastes."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from demo_shop.truth import true_utilities
from recsys.instants import SECOND

_CONTINUATION = 0.9
"""Probability that a user who saw a position of the page sees the next one too."""
_LOOK_SHARPNESS, _BUY_SHARPNESS = 0.9, 0.6
_LOOK, _BUY = -2.0, -4.0
"""Log-odds that the mean user looks at the mean sale that they see, and that they buy it once they look."""
_SESSION_GAP = 30 * 60 * SECOND


class Session(NamedTuple):
    """A user's visit of the shop."""

    user_id: str
    started_at: int
    """Microseconds since 1970 UTC."""


class Look(NamedTuple):
    """A user's visit of a sale on their page, and perhaps a purchase."""

    sale_id: str
    occurred_at: int
    """Microseconds since 1970 UTC, as is `bought_at`."""
    bought_at: int | None
    """None if the user does not buy the sale."""


class Shoppers:
    """The users of a shop; a user ignores sales that they have bought.

    Args:
        folder: The demo shop's folder.
        sale_ids: The sales that pages may hold.
        seed: Of all draws.
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
        """Draw a user's looks at a page, from its top to where the user stops reading."""
        utilities = self._utilities[self._user[session.user_id], [self._sale[sale] for sale in sale_ids]]
        sees = self._rng.random(len(sale_ids)) < _CONTINUATION
        seen = np.logical_and.accumulate(sees)
        looks = seen & self._draw_true(_LOOK + _LOOK_SHARPNESS * utilities)
        buys = self._rng.random(len(sale_ids)) < _purchase_probabilities(utilities)
        seconds = np.cumsum(self._rng.integers(5, 60, len(sale_ids)))
        for position in np.flatnonzero(looks).tolist():
            sale_id, at = sale_ids[position], session.started_at + int(seconds[position]) * SECOND
            if sale_id in self._bought[session.user_id]:
                continue
            if buys[position]:
                self._bought[session.user_id].add(sale_id)
            yield Look(sale_id, at, at + 90 * SECOND if buys[position] else None)

    def chances(self, user_ids: Sequence[str]) -> NDArray[np.float64]:
        """Return the probability that each user buys each sale once they look at it, shape (n_users, n_sales)."""
        return _purchase_probabilities(self._utilities[[self._user[user_id] for user_id in user_ids]])

    def _draw_true(self, log_odds: NDArray[np.float64]) -> NDArray[np.bool_]:
        return self._rng.random(len(log_odds)) < 1 / (1 + np.exp(-log_odds))


def _purchase_probabilities(utilities: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-(_BUY + _BUY_SHARPNESS * utilities)))


def sessions(events: pd.DataFrame) -> list[Session]:
    """Return the sessions in order of time: a user's raw events with gaps of at most half an hour."""
    events = events.sort_values(["member_id", "happened_at"], kind="stable")
    instants = events["happened_at"].astype("datetime64[us, UTC]").astype("int64")
    users = events["member_id"]
    begins = (users != users.shift()) | (instants.diff() > _SESSION_GAP)
    found = zip(users[begins], instants[begins].tolist(), strict=True)
    return sorted((Session(user, at) for user, at in found), key=lambda session: session[::-1])
