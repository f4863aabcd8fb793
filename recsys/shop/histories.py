"""Users' events as arrays: blocks of whole histories, and what was known of a block's users as of an instant."""

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field
from scipy.sparse import csr_matrix

from recsys.compiled import compiled, power_of_two
from recsys.instants import DAY, MINUTE
from recsys.settings import StepSettings

SESSION_GAP = 30 * MINUTE
"""A session ends where a user does nothing for this long, in microseconds."""


class HistorySettings(StepSettings):
    """Which of a user's events are used."""

    days: int = Field(90, ge=1)
    """Length of the window of events before as_of, in days."""
    max_events: int = Field(1000, ge=1)
    """Maximum number of events per user, the latest ones before as_of: work grows with its square."""


@dataclass(frozen=True)
class Histories:
    """The events of a block of users known as of an instant; those of user u are offsets[u] <= e < offsets[u + 1].

    A user's events are in order of time. They are those that occurred and were recorded before `as_of`, and those of a
    running session, which count as if they occurred at `as_of`.
    """

    as_of: int  # microseconds UTC
    n_sales: int  # in the catalogue
    offsets: NDArray[np.int64]  # (n_users + 1,)
    sales: NDArray[np.int32]  # (n_events,) positions in the catalogue
    purchases: NDArray[np.bool_]  # (n_events,) True: a purchase, False: a visit
    occurred_at: NDArray[np.int64]  # (n_events,) microseconds UTC
    _known: dict[Hashable, np.ndarray] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of_unknown_user(cls, as_of: int, n_sales: int) -> "Histories":
        """Return the empty history of one unknown user."""
        nothing = np.empty(0, np.int64)
        return cls(as_of, n_sales, np.zeros(2, np.int64), nothing.astype(np.int32), nothing.astype(bool), nothing)

    def __len__(self) -> int:
        """Number of users."""
        return len(self.offsets) - 1

    def with_session(self, sales: NDArray[np.int32], purchases: NDArray[np.bool_]) -> "Histories":
        """Return the history of a single user with the events of the running session appended."""
        joined = _joined(self.sales, self.purchases, self.occurred_at, sales, purchases, self.as_of)
        return Histories(self.as_of, self.n_sales, *joined)

    def before_session(self) -> NDArray[np.bool_]:
        """Return for each event whether it occurred before the running session, shape (n_events,)."""
        return self.once("before session", lambda: self.occurred_at < self.as_of)

    def decay(self, half_life_days: float) -> NDArray[np.float32]:
        """Return 2^(-age / half life) of each event, in (0, 1], shape (n_events,)."""
        return self.weights(half_life_days, 1.0)

    def weights(self, half_life_days: float, purchase_weight: float) -> NDArray[np.float32]:
        """Return the weight of each event: 1 for a visit and `purchase_weight` for a purchase, times the decay."""
        key = half_life_days, purchase_weight
        known = self._known.get(key)  # several recommenders have the same weights
        if known is None:
            half_life = half_life_days * DAY
            known = _weights(self.as_of, self.occurred_at, self.purchases, half_life, purchase_weight)
            known.setflags(write=False)
            self._known[key] = known
        return known

    def once(self, key: Hashable, compute: Callable[[], np.ndarray]) -> np.ndarray:
        """Return an array that depends on these histories and a key alone, computed once; it is read-only."""
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = compute()
            known.setflags(write=False)
        return known

    def matrix(self, data: NDArray[np.float32]) -> csr_matrix:
        """Return values of events as a matrix (n_users, n_sales), which adds up several events of a user and sale."""
        return csr_matrix((data, self.sales, self.offsets), shape=(len(self), self.n_sales), copy=False)

    def seen(self) -> csr_matrix:
        """Return 1 for each sale in a user's history, shape (n_users, n_sales), float32, without duplicate entries."""
        seen = self.matrix(np.ones(len(self.sales), np.float32)).copy()  # sum_duplicates sorts in place
        seen.sum_duplicates()
        seen.data[:] = 1
        return seen

    def user_of_event(self) -> NDArray[np.int64]:
        """Return the row of the user of each event, shape (n_events,)."""
        return self.once("user of event", lambda: np.repeat(np.arange(len(self)), np.diff(self.offsets)))


@dataclass(frozen=True)
class Block:
    """A block of users with all their events, whenever they became known; layout as in `Histories`."""

    user_ids: pa.StringArray
    n_sales: int
    offsets: NDArray[np.int64]
    sales: NDArray[np.int32]
    purchases: NDArray[np.bool_]
    occurred_at: NDArray[np.int64]
    recorded_at: NDArray[np.int64]

    @classmethod
    def from_batch(cls, batch: pa.RecordBatch, n_sales: int) -> "Block":
        """Return the block of rows of table `user_histories`, without copying the events."""
        sales = batch.column("sales")
        start, end = sales.offsets[0].as_py(), sales.offsets[-1].as_py()
        lists = {name: batch.column(name).values.slice(start, end - start) for name in _LISTS}
        return cls(
            user_ids=batch.column("user_id"),
            n_sales=n_sales,
            offsets=sales.offsets.to_numpy().astype(np.int64) - start,
            sales=lists["sales"].to_numpy(),
            purchases=lists["purchases"].to_numpy(zero_copy_only=False),
            occurred_at=lists["occurred_at"].to_numpy(),
            recorded_at=lists["recorded_at"].to_numpy(),
        )

    def __len__(self) -> int:
        """Number of users."""
        return len(self.user_ids)

    def as_of(self, instant: int, settings: HistorySettings) -> Histories:
        """Return the histories known as of an instant: events that occurred and were recorded strictly before it."""
        since = instant - settings.days * DAY
        known, offsets = _known(self.offsets, self.occurred_at, self.recorded_at, since, instant, settings.max_events)
        return Histories(
            as_of=instant,
            n_sales=self.n_sales,
            offsets=offsets,
            sales=self.sales[known],
            purchases=self.purchases[known],
            occurred_at=self.occurred_at[known],
        )

    def take(self, rows: NDArray[np.int64]) -> "Block":
        """Return the block of some of the users, in the order given."""
        lengths = np.diff(self.offsets)[rows]
        offsets = np.concatenate(([0], np.cumsum(lengths)))
        events = np.arange(offsets[-1]) + np.repeat(self.offsets[:-1][rows] - offsets[:-1], lengths)
        return Block(
            user_ids=self.user_ids.take(pa.array(rows)),
            n_sales=self.n_sales,
            offsets=offsets,
            sales=self.sales[events],
            purchases=self.purchases[events],
            occurred_at=self.occurred_at[events],
            recorded_at=self.recorded_at[events],
        )

    def session_starts(self) -> NDArray[np.int64]:
        """Return when the session of each event began, microseconds UTC, shape (n_events,): see SESSION_GAP."""
        return _session_starts(self.offsets, self.occurred_at)

    def purchases_between(self, start: int, end: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return user row and event number of each purchase in [start, end), ordered by user and time."""
        events = np.flatnonzero(self.purchases & (self.occurred_at >= start) & (self.occurred_at < end))
        return np.searchsorted(self.offsets, events, side="right") - 1, events


def blocks(batches: Iterable[pa.RecordBatch], n_sales: int, users: int) -> Iterable[Block]:
    """Split batches of table `user_histories` into blocks of at most `users` users."""
    for batch in batches:
        for start in range(0, batch.num_rows, users):
            yield Block.from_batch(batch.slice(start, users), n_sales)


@compiled
def _joined(
    sales: NDArray[np.int32],
    purchases: NDArray[np.bool_],
    occurred_at: NDArray[np.int64],
    session_sales: NDArray[np.int32],
    session_purchases: NDArray[np.bool_],
    as_of: int,
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.bool_], NDArray[np.int64]]:
    """Return the offsets and the events of a user's history followed by a session, as in `Histories`."""
    known, both = len(sales), len(sales) + len(session_sales)
    offsets = np.zeros(2, np.int64)
    offsets[1] = both
    all_sales, all_purchases, instants = np.empty(both, np.int32), np.empty(both, np.bool_), np.empty(both, np.int64)
    all_sales[:known], all_sales[known:] = sales, session_sales
    all_purchases[:known], all_purchases[known:] = purchases, session_purchases
    instants[:known], instants[known:] = occurred_at, as_of
    return offsets, all_sales, all_purchases, instants


@compiled
def _known(
    offsets: NDArray[np.int64],
    occurred_at: NDArray[np.int64],
    recorded_at: NDArray[np.int64],
    since: int,
    until: int,
    most: int,
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Return which events are known, of each user the last `most` of them, and the offsets of users in those."""
    known, ends = np.zeros(len(occurred_at), np.bool_), np.zeros(len(offsets), np.int64)
    for user in range(len(offsets) - 1):
        left = most
        for event in range(offsets[user + 1] - 1, offsets[user] - 1, -1):
            if left > 0 and since <= occurred_at[event] < until and recorded_at[event] < until:
                known[event] = True
                left -= 1
        ends[user + 1] = ends[user] + most - left
    return known, ends


@compiled
def _session_starts(offsets: NDArray[np.int64], occurred_at: NDArray[np.int64]) -> NDArray[np.int64]:
    starts = occurred_at.copy()
    for user in range(len(offsets) - 1):
        for event in range(offsets[user] + 1, offsets[user + 1]):
            if occurred_at[event] - occurred_at[event - 1] < SESSION_GAP:
                starts[event] = starts[event - 1]
    return starts


@compiled
def _weights(
    as_of: int, occurred_at: NDArray[np.int64], purchases: NDArray[np.bool_], half_life: float, purchase_weight: float
) -> NDArray[np.float32]:
    weights = np.empty(len(occurred_at), np.float32)
    for event in range(len(weights)):
        decay = power_of_two(np.float64(occurred_at[event] - as_of) / half_life)
        weights[event] = decay * np.float32(purchase_weight) if purchases[event] else decay
    return weights


_LISTS = ("sales", "purchases", "occurred_at", "recorded_at")
