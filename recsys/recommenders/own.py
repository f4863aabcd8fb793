"""What a user himself did with each very sale before: visits, purchases, and the habit that they make."""

import numpy as np
from numpy.typing import NDArray

from recsys.instants import DAY
from recsys.meta_model import Cells
from recsys.shop.catalogue import Horizon
from recsys.shop.histories import Histories

_REMEMBERED_DAYS = 365.0


def own_events(histories: Histories, horizon: Horizon, half_life_days: float, purchases: bool) -> NDArray[np.float32]:
    """Add up the decayed visits, or purchases, that each user made of each very sale before any running session.

    Returns:
        Shape (n_users, n_horizon).
    """
    events = _own(histories, horizon)
    events = events[histories.purchases[events] == purchases]
    return _added_up(histories, horizon, events, histories.decay(half_life_days)[events])


def own_recency(histories: Histories, horizon: Horizon) -> NDArray[np.float32]:
    """Return how lately each user bought each very sale, shape (n_users, n_horizon).

    This is log(366 / (1 + days since the last purchase)): 0 where it is a year ago, or never was. Beside a decayed
    sum it tells one purchase of last week from many of long ago.
    """
    recency = np.zeros((len(histories), len(horizon)), np.float32)
    events = _own_purchases(histories, horizon)
    days = (histories.as_of - histories.occurred_at[events]) / DAY
    cells = histories.user_of_event()[events], horizon.columns(histories.sales[events])
    recency[cells] = np.log1p(_REMEMBERED_DAYS) - np.log1p(np.minimum(days, _REMEMBERED_DAYS))  # the latest comes last
    return recency


def own_habit(histories: Histories, horizon: Horizon, fade: float) -> NDArray[np.float32]:
    """Return on how many of the days on which a user bought he bought each very sale, shape (n_users, n_horizon).

    His last such day counts 1, the one before it `fade`, the one before that fade²: a habit is counted in the user's
    own rhythm, whether he comes every day or twice a year.
    """
    purchases = np.flatnonzero(histories.purchases & histories.before_session())
    users, days = histories.user_of_event()[purchases], histories.occurred_at[purchases] // DAY
    if not len(purchases):
        return np.zeros((len(histories), len(horizon)), np.float32)
    starts = np.concatenate(([True], (users[1:] != users[:-1]) | (days[1:] != days[:-1])))
    day = np.cumsum(starts)
    last = np.zeros(len(histories), np.int64)
    last[users] = day
    events, ago = _once_a_day(histories, horizon, purchases, day, last[users] - day)
    return _added_up(histories, horizon, events, np.float32(fade) ** ago)


def bought_before(histories: Histories, horizon: Horizon) -> Cells:
    """Return user rows and columns of the horizon of the sales that a user bought before any running session."""
    events = _own_purchases(histories, horizon)
    return histories.user_of_event()[events], horizon.columns(histories.sales[events])


def _once_a_day(
    histories: Histories,
    horizon: Horizon,
    purchases: NDArray[np.int64],
    day: NDArray[np.int64],
    ago: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Keep one purchase of each sale of the horizon for each day of its user."""
    columns = horizon.columns(histories.sales[purchases])
    ranked = np.flatnonzero(columns >= 0)
    _, first = np.unique(day[ranked] * len(horizon) + columns[ranked], return_index=True)
    kept = ranked[first]
    return purchases[kept], ago[kept]


def _added_up(
    histories: Histories, horizon: Horizon, events: NDArray[np.int64], values: NDArray[np.float32]
) -> NDArray[np.float32]:
    cells = horizon.columns(histories.sales[events])
    if len(histories) > 1:
        cells += histories.user_of_event()[events] * len(horizon)
    sums = np.bincount(cells, values, minlength=len(histories) * len(horizon))
    return sums.astype(np.float32).reshape(len(histories), len(horizon))


def _own_purchases(histories: Histories, horizon: Horizon) -> NDArray[np.int64]:
    events = _own(histories, horizon)
    return events[histories.purchases[events]]


def _own(histories: Histories, horizon: Horizon) -> NDArray[np.int64]:
    """Return the few events of sales of the horizon."""
    return histories.once(
        ("own events", horizon.as_of),
        lambda: np.flatnonzero((horizon.columns(histories.sales) >= 0) & histories.before_session()),
    )
