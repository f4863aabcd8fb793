"""Features of the user's own earlier events with the sale to be ranked: visits, purchases, purchase habit.

Events of the running session do not count: in training, they may be what led to the purchase that is to be predicted.
"""

import numpy as np
from numpy.typing import NDArray

from recsys.compiled import compiled
from recsys.instants import DAY
from recsys.meta_model import Cells
from recsys.shop.catalogue import Horizon
from recsys.shop.histories import Histories

_REMEMBERED_DAYS = 365.0


def write_own_events(
    histories: Histories,
    horizon: Horizon,
    half_life_days: float,
    purchases: bool,
    features: NDArray[np.float32],
    number: int,
) -> None:
    """Write the decayed number of each user's own visits, or purchases, of each sale to features[:, number]."""
    decay = histories.decay(half_life_days)
    _write_events(*_events(histories), horizon.column_of, decay, purchases, features, number)


def write_own_recency(histories: Histories, horizon: Horizon, features: NDArray[np.float32], number: int) -> None:
    """Write how recently each user bought each sale to features[:, number].

    The value is log(366 / (1 + days since the last purchase)), and 0 if that is a year or more ago, or never happened.
    Together with a decayed sum it distinguishes one purchase of last week from many of long ago.
    """
    _write_recency(*_events(histories), horizon.column_of, features, number)


def write_own_habit(
    histories: Histories, horizon: Horizon, fade: float, features: NDArray[np.float32], number: int
) -> None:
    """Write the weighted number of the user's purchase days on which they bought each sale to features[:, number].

    A purchase day is a UTC day on which the user bought anything. The last one has weight 1, the one before it `fade`,
    the one before that fade²: a habit is measured in the user's own rhythm, whether they buy daily or twice a year.
    """
    _write_habit(*_events(histories), horizon.column_of, fade, features, number)


def bought_before(histories: Histories, horizon: Horizon) -> Cells:
    """Return the cells of repeat purchases: rows of users and columns of sales that they bought before the session."""
    users, columns = np.empty((2, len(histories.sales)), np.int64)
    count = _find_purchases(*_events(histories), horizon.column_of, users, columns)
    return users[:count], columns[:count]


_Events = tuple[int, NDArray[np.int64], NDArray[np.int32], NDArray[np.bool_], NDArray[np.int64]]


def _events(histories: Histories) -> _Events:
    return histories.as_of, histories.offsets, histories.sales, histories.purchases, histories.occurred_at


@compiled
def _write_events(
    as_of: int,
    offsets: NDArray[np.int64],
    sales: NDArray[np.int32],
    purchases: NDArray[np.bool_],
    occurred_at: NDArray[np.int64],
    column_of: NDArray[np.int64],
    decay: NDArray[np.float32],
    wants_purchases: bool,
    features: NDArray[np.float32],
    number: int,
) -> None:
    others = len(column_of) - 1
    for user in range(len(offsets) - 1):
        scores = features[user, number]
        scores[:] = 0
        for event in range(offsets[user], offsets[user + 1]):
            column = column_of[min(sales[event], others)]
            if column >= 0 and purchases[event] == wants_purchases and occurred_at[event] < as_of:
                scores[column] += decay[event]


@compiled
def _write_recency(
    as_of: int,
    offsets: NDArray[np.int64],
    sales: NDArray[np.int32],
    purchases: NDArray[np.bool_],
    occurred_at: NDArray[np.int64],
    column_of: NDArray[np.int64],
    features: NDArray[np.float32],
    number: int,
) -> None:
    others = len(column_of) - 1
    for user in range(len(offsets) - 1):
        scores = features[user, number]
        scores[:] = 0
        for event in range(offsets[user], offsets[user + 1]):
            column = column_of[min(sales[event], others)]
            if column >= 0 and purchases[event] and occurred_at[event] < as_of:  # the last purchase is written last
                days = min(np.float64(as_of - occurred_at[event]) / DAY, _REMEMBERED_DAYS)
                scores[column] = np.log1p(_REMEMBERED_DAYS) - np.log1p(days)


@compiled
def _write_habit(
    as_of: int,
    offsets: NDArray[np.int64],
    sales: NDArray[np.int32],
    purchases: NDArray[np.bool_],
    occurred_at: NDArray[np.int64],
    column_of: NDArray[np.int64],
    fade: float,
    features: NDArray[np.float32],
    number: int,
) -> None:
    others = len(column_of) - 1
    counted_on = np.empty(features.shape[2], np.int64)  # the day on which a sale was counted last
    for user in range(len(offsets) - 1):
        scores = features[user, number]
        scores[:] = 0
        counted_on[:] = -1
        day, weight = np.int64(-1), 1.0
        for event in range(offsets[user + 1] - 1, offsets[user] - 1, -1):  # the latest first
            if not purchases[event] or occurred_at[event] >= as_of:
                continue
            if occurred_at[event] // DAY != day:
                weight = 1.0 if day < 0 else weight * fade
                day = occurred_at[event] // DAY
            column = column_of[min(sales[event], others)]
            if column >= 0 and counted_on[column] != day:
                counted_on[column] = day
                scores[column] += np.float32(weight)


@compiled
def _find_purchases(
    as_of: int,
    offsets: NDArray[np.int64],
    sales: NDArray[np.int32],
    purchases: NDArray[np.bool_],
    occurred_at: NDArray[np.int64],
    column_of: NDArray[np.int64],
    users: NDArray[np.int64],
    columns: NDArray[np.int64],
) -> int:
    """Write user and column of each purchase of a sale of the horizon, and return their number."""
    others, count = len(column_of) - 1, 0
    for user in range(len(offsets) - 1):
        for event in range(offsets[user], offsets[user + 1]):
            column = column_of[min(sales[event], others)]
            if column >= 0 and purchases[event] and occurred_at[event] < as_of:
                users[count], columns[count] = user, column
                count += 1
    return count
