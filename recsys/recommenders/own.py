"""Features of the user's own earlier events with the sale to be ranked: visits, purchases, purchase habit."""

import numpy as np
from numpy.typing import NDArray

from recsys.instants import DAY
from recsys.meta_model import Cells
from recsys.shop.catalogue import Horizon
from recsys.shop.histories import Histories

_REMEMBERED_DAYS = 365.0


def own_events(histories: Histories, horizon: Horizon, half_life_days: float, purchases: bool) -> NDArray[np.float32]:
    """Return the decayed number of each user's own visits, or purchases, of each sale, without the running session.

    Returns:
        Shape (n_users, n_horizon).
    """
    events = _events_of_horizon(histories, horizon)
    events = events[histories.purchases[events] == purchases]
    return _sums_by_cell(histories, horizon, events, histories.decay(half_life_days)[events])


def own_recency(histories: Histories, horizon: Horizon) -> NDArray[np.float32]:
    """Return how recently each user bought each sale, shape (n_users, n_horizon).

    The value is log(366 / (1 + days since the last purchase)), and 0 if that is a year or more ago, or never happened.
    Together with a decayed sum it distinguishes one purchase of last week from many of long ago.
    """
    recency = np.zeros((len(histories), len(horizon)), np.float32)
    events = _purchases_of_horizon(histories, horizon)
    days = (histories.as_of - histories.occurred_at[events]) / DAY
    cells = histories.user_of_event()[events], horizon.columns(histories.sales[events])
    # Of several purchases of a sale, the last one is written last.
    recency[cells] = np.log1p(_REMEMBERED_DAYS) - np.log1p(np.minimum(days, _REMEMBERED_DAYS))
    return recency


def own_habit(histories: Histories, horizon: Horizon, fade: float) -> NDArray[np.float32]:
    """Return the weighted number of the user's purchase days on which they bought each sale, (n_users, n_horizon).

    A purchase day is a UTC day on which the user bought anything. The last one has weight 1, the one before it `fade`,
    the one before that fade²: a habit is measured in the user's own rhythm, whether they buy daily or twice a year.
    """
    purchases = np.flatnonzero(histories.purchases & histories.before_session())
    users, days = histories.user_of_event()[purchases], histories.occurred_at[purchases] // DAY
    if not len(purchases):
        return np.zeros((len(histories), len(horizon)), np.float32)
    starts = np.concatenate(([True], (users[1:] != users[:-1]) | (days[1:] != days[:-1])))
    day = np.cumsum(starts)
    last = np.zeros(len(histories), np.int64)
    last[users] = day
    events, ago = _one_purchase_per_day(histories, horizon, purchases, day, last[users] - day)
    return _sums_by_cell(histories, horizon, events, np.float32(fade) ** ago)


def bought_before(histories: Histories, horizon: Horizon) -> Cells:
    """Return the cells of repeat purchases: rows of users and columns of sales that they bought before the session."""
    events = _purchases_of_horizon(histories, horizon)
    return histories.user_of_event()[events], horizon.columns(histories.sales[events])


def _one_purchase_per_day(
    histories: Histories,
    horizon: Horizon,
    purchases: NDArray[np.int64],
    day: NDArray[np.int64],
    ago: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first purchase of each sale of the horizon on each purchase day of a user, and how long ago it was.

    Args:
        histories: Of the users.
        horizon: Other sales are left out.
        purchases: Events.
        day: Of each purchase, a number of its own for each user and day.
        ago: Of each purchase, the number of the user's purchase days since.
    """
    columns = horizon.columns(histories.sales[purchases])
    ranked = np.flatnonzero(columns >= 0)
    _, positions = np.unique(day[ranked] * len(horizon) + columns[ranked], return_index=True)
    firsts = ranked[positions]
    return purchases[firsts], ago[firsts]


def _sums_by_cell(
    histories: Histories, horizon: Horizon, events: NDArray[np.int64], values: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the sum of the values of the events of each user and sale, shape (n_users, n_horizon)."""
    cells = horizon.columns(histories.sales[events])
    if len(histories) > 1:
        cells += histories.user_of_event()[events] * len(horizon)
    sums = np.bincount(cells, values, minlength=len(histories) * len(horizon))
    return sums.astype(np.float32).reshape(len(histories), len(horizon))


def _purchases_of_horizon(histories: Histories, horizon: Horizon) -> NDArray[np.int64]:
    events = _events_of_horizon(histories, horizon)
    return events[histories.purchases[events]]


def _events_of_horizon(histories: Histories, horizon: Horizon) -> NDArray[np.int64]:
    """Return the events of sales of the horizon, without the running session."""
    return histories.once(
        ("own events", horizon.as_of),
        lambda: np.flatnonzero((horizon.columns(histories.sales) >= 0) & histories.before_session()),
    )
