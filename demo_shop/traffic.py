"""Sessions and visits: when users come, and which of the open sales they look at."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from demo_shop import rhythm
from demo_shop.rhythm import DAY, Seconds

_MEAN_VISITS, _MAX_VISITS = 5.0, 20
_SECONDS_PER_VISIT = 70.0
# Log-odds of a visit per unit of utility.
_VISIT_SHARPNESS = 0.9
# All users see the same order of sales: it favours those that the merchandisers push, and new ones.
_PUSHED, _FRESH = 0.6, 0.8


class Fading(NamedTuple):
    """How much more new sales are looked at: strength * exp(-age / days), in logits; each of shape (n_sales,)."""

    strength: NDArray[np.float64]
    days: NDArray[np.float64]

    @classmethod
    def alike(cls, n_sales: int) -> "Fading":
        """Return the same for all sales."""
        return cls(np.full(n_sales, _FRESH), np.ones(n_sales))


def sessions(
    rng: np.random.Generator, users: pd.DataFrame, starts_at: int, ends_at: int
) -> tuple[NDArray[np.int64], Seconds]:
    """Draw the user and the start of every session in [starts_at, ends_at), in order of time."""
    user = np.repeat(np.arange(len(users)), users["sessions"])
    joins = users["joins"].to_numpy()[user]
    start = rhythm.session_starts(joins + (1 - joins) * rng.random(len(user)), starts_at, ends_at)
    order = np.lexsort((user, start))
    return user[order], start[order]


def visits(
    rng: np.random.Generator,
    session_user: NDArray[np.int64],
    session_start: Seconds,
    sales: pd.DataFrame,
    tastes: NDArray[np.float64],
    traits: NDArray[np.float64],
    fading: Fading,
) -> pd.DataFrame:
    """Draw the visits of every session, day by day.

    Args:
        rng: The generator of all draws.
        session_user: Shape (n_sessions,).
        session_start: Shape (n_sessions,), ascending.
        sales: With opens_at and closes_at.
        tastes: Shape (n_users, n_traits).
        traits: Shape (n_sales, n_traits); tastes @ traits.T are utilities.
        fading: How fast each sale becomes old.

    Returns:
        One row per visit: user and sale (indices), occurred_at (seconds since 1970) and utility.
    """
    opens_at, closes_at = sales["opens_at"].to_numpy(), sales["closes_at"].to_numpy()
    pushed = rng.normal(0, _PUSHED, len(sales))
    lengths = np.minimum(rng.geometric(1 / _MEAN_VISITS, len(session_user)), _MAX_VISITS)
    days = session_start // DAY
    parts = []
    for day in np.unique(days):
        rows = slice(*np.searchsorted(days, [day, day + 1]))
        live = np.flatnonzero((opens_at < (day + 1) * DAY) & (closes_at > day * DAY))
        user, start = session_user[rows], session_start[rows]
        utility = tastes[user] @ traits[live].T
        age_days = np.maximum(start[:, None] - opens_at[live], 0) / DAY
        appeal = _VISIT_SHARPNESS * utility + pushed[live]
        appeal += fading.strength[live] * np.exp(-age_days / fading.days[live])
        is_open = (opens_at[live] <= start[:, None]) & (start[:, None] < closes_at[live])
        session, column, seconds = _draw_visits(rng, np.where(is_open, appeal, -np.inf), lengths[rows])
        parts.append(
            pd.DataFrame(
                {
                    "user": user[session],
                    "sale": live[column],
                    "occurred_at": start[session] + seconds,
                    "utility": utility[session, column],
                }
            )
        )
    drawn = pd.concat(parts, ignore_index=True)
    return drawn[drawn["occurred_at"] < closes_at[drawn["sale"]]].reset_index(drop=True)


def _draw_visits(
    rng: np.random.Generator, appeal: NDArray[np.float64], lengths: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], Seconds]:
    """Draw the sales of each session without replacement, with probabilities in proportion to exp(appeal).

    Returns:
        Session (row), sale (column) and seconds since the session's start of every visit.

    Source:
        Vieira 2014, "Gumbel-max trick and weighted reservoir sampling".
    """
    perturbed = appeal + rng.gumbel(size=appeal.shape)
    n_visits = min(_MAX_VISITS, appeal.shape[1])
    top = np.argpartition(-perturbed, n_visits - 1, axis=1)[:, :n_visits]
    order = np.argsort(-np.take_along_axis(perturbed, top, axis=1), axis=1)
    top = np.take_along_axis(top, order, axis=1)
    pauses = rng.exponential(_SECONDS_PER_VISIT, top.shape) + 1
    seconds = np.cumsum(pauses, axis=1) - pauses[:, :1]
    is_visited = np.arange(n_visits) < lengths[:, None]
    is_visited &= np.isfinite(np.take_along_axis(appeal, top, axis=1))
    session = np.nonzero(is_visited)[0]
    return session, top[is_visited], seconds[is_visited].astype(np.int64)
