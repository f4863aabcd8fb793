"""user_histories → the weights of the towers, learnt from what users did on the days before an instant."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from recsys.instants import DAY
from recsys.recommenders.content import Content
from recsys.recommenders.towers import Layer, TowersSettings, TowerWeights, feature_shares, tower_features, user_inputs
from recsys.shop.catalogue import Catalogue
from recsys.shop.histories import Block, HistorySettings

BATCH_USERS, MOST_BATCH_USERS = 256, 4096
"""Smallest and largest number of users of a day per step of Adam."""
STEPS = 500
"""Number of steps per pass over the days of a large shop."""
STOPPING_USERS = 2048
"""Largest number of users per day by which it is decided when to stop."""
PATIENCE = 2
"""Training stops after this number of passes that did not predict the stopping days better."""

_log = logging.getLogger(__name__)


class Trained(NamedTuple):
    """Towers, and how their training went."""

    weights: TowerWeights
    events: int
    """Number of visits and purchases learnt from."""
    epochs: int
    """Number of the pass over the days that was kept, from 1."""
    loss: float
    """Mean negative log-likelihood of an event of the stopping days among the sales that were open, in nats."""
    loss_without: float
    """The same where all open sales are equally likely."""
    device: str
    """`cpu` or `cuda`."""


class _Day(NamedTuple):
    """What users did on a day with the sales open at the moment; each sale counts once per user."""

    as_of: int
    users: NDArray[np.int64]
    """Rows of the block, ascending, shape (n_users,)."""
    offsets: NDArray[np.int64]
    """Of users' events, shape (n_users + 1,)."""
    sales: NDArray[np.int32]
    """Positions in the catalogue, shape (n_events,)."""
    moments: NDArray[np.int64]
    """Microseconds since 1970 UTC, shape (n_events,)."""


def train_towers(
    block: Block,
    catalogue: Catalogue,
    families: Sequence[Content],
    history: HistorySettings,
    settings: TowersSettings,
    until: int,
    is_late: Callable[[], bool] = lambda: False,
) -> Trained | None:
    """Return towers learnt from the `settings.days` days before an instant; None if too little happened on them, or no
    feature is one of `settings.min_sales` sales, as where only the ids of sales are known.

    Each event of a day is predicted from the user's history as of the midnight before, as the night scores: by a
    softmax over the sales that were open at that moment. The last `stopping_days` of the days decide when to stop.
    Nothing that occurred or was recorded from `until` on has an influence.

    Args:
        block: All users that are learnt from, with all their events.
        catalogue: All sales.
        families: The features of sales, see `tower_features`.
        history: Which of a user's events are used.
        settings: The towers.
        until: The instant, microseconds UTC.
        is_late: Asked before each step whether training must stop at once.
    """
    days = _days(block, catalogue, settings, until)
    last = until - settings.stopping_days * DAY
    learnt, stopping = [day for day in days if day.as_of < last], [day for day in days if day.as_of >= last]
    if min(_n_events(learnt), _n_events(stopping)) < settings.min_events:
        return None
    features = tower_features(families)
    is_frequent = np.bincount(features.counts[catalogue.opens_at < until].indices, minlength=len(features.names))
    columns = np.flatnonzero(is_frequent >= settings.min_sales)
    if not len(columns):
        return None
    names = [features.names[column] for column in columns]
    training = _Training(block, catalogue, features.counts[:, columns].tocsr(), history, settings)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # threads would wait for each other, and sums would depend on their number
    try:
        return training.run(learnt, stopping, names, is_late)
    finally:
        torch.set_num_threads(threads)


def _n_events(days: Sequence[_Day]) -> int:
    return sum(len(day.sales) for day in days)


def _days(block: Block, catalogue: Catalogue, settings: TowersSettings, until: int) -> list[_Day]:
    """Return the days before an instant on which anything counts, in order of time."""
    sales, occurred_at = block.sales, block.occurred_at
    counts = (catalogue.opens_at[sales] <= occurred_at) & (occurred_at < catalogue.closes_at[sales])
    counts &= (occurred_at >= until - settings.days * DAY) & (occurred_at < until) & (block.recorded_at < until)
    events = np.flatnonzero(counts)
    users = np.searchsorted(block.offsets, events, side="right") - 1
    days = (occurred_at[events] - until) // DAY
    # Of a user's events of a sale on one day the last purchase counts, or the last visit of a day without one.
    order = np.lexsort((block.purchases[events], sales[events], users, days))
    events, users, days = events[order], users[order], days[order]
    is_last = np.ones(len(events), bool)
    is_last[:-1] = (np.diff(sales[events]) != 0) | (np.diff(users) != 0) | (np.diff(days) != 0)
    events, users, days = events[is_last], users[is_last], days[is_last]
    found = []
    for day in np.unique(days).tolist():
        start, end = np.searchsorted(days, (day, day + 1)).tolist()
        rows, first = np.unique(users[start:end], return_index=True)
        of_day, offsets = events[start:end], np.append(first, end - start)
        found.append(_Day(until + day * DAY, rows, offsets, sales[of_day], occurred_at[of_day]))
    return found


class _Towers(nn.Module):
    """The two towers; `TowerWeights` says what they compute."""

    def __init__(self, n_features: int, settings: TowersSettings) -> None:
        super().__init__()
        self.user = nn.Linear(n_features + 1, settings.dims)
        self.sale = nn.Linear(n_features, settings.dims)

    def forward(self, inputs: Tensor, sales: Tensor) -> Tensor:
        """Return the products of the vectors of users and sales, shape (n_users, n_sales)."""
        products: Tensor = self.user(inputs) @ self.sale(sales).T
        return products


@dataclass
class _Training:
    """What training needs at each step."""

    block: Block
    catalogue: Catalogue
    values: csr_matrix
    history: HistorySettings
    settings: TowersSettings
    device: str = field(default_factory=lambda: "cuda" if torch.cuda.is_available() else "cpu")
    shares: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    """Those of the features as of each day, see `feature_shares`."""

    def run(self, learnt: list[_Day], stopping: list[_Day], names: list[str], is_late: Callable[[], bool]) -> Trained:
        self.shares = {day.as_of: self._shares(day.as_of) for day in (*learnt, *stopping)}
        rng = np.random.default_rng(self.settings.seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.settings.seed)
            towers = _Towers(len(names), self.settings).to(self.device)
        rate, decay = self.settings.learning_rate, self.settings.weight_decay
        adam = torch.optim.AdamW(towers.parameters(), lr=rate, weight_decay=decay)
        best, best_epoch, kept = np.inf, 0, towers.state_dict()
        judged = [(day, chosen[:STOPPING_USERS]) for day in stopping for chosen in [rng.permutation(len(day.users))]]
        for epoch in range(1, self.settings.epochs + 1):
            for day, users in self._batches(learnt, rng):
                if is_late():
                    break
                adam.zero_grad()
                self._losses(towers, day, users).mean().backward()
                adam.step()
            loss = self._mean_loss(towers, judged)
            _log.debug(f"towers, epoch {epoch}: {loss:.4f} nats")
            if loss < best:
                best, best_epoch = loss, epoch
                kept = {name: values.clone() for name, values in towers.state_dict().items()}
            if epoch - best_epoch >= PATIENCE or is_late():
                break
        towers.load_state_dict(kept)
        return Trained(
            TowerWeights(names, _layer(towers.user), _layer(towers.sale)),
            _n_events(learnt),
            best_epoch,
            best,
            self._mean_loss(None, judged),
            self.device,
        )

    def _shares(self, as_of: int) -> NDArray[np.float32]:
        known, settings = self.block.as_of(as_of, self.history), self.settings
        weights = known.weights(settings.half_life_days, settings.purchase_weight)
        events = np.bincount(known.sales, weights, minlength=known.n_sales).astype(np.float64, copy=False)
        return feature_shares(self.values, events)

    def _batches(self, days: list[_Day], rng: np.random.Generator) -> Iterator[tuple[_Day, NDArray[np.int64]]]:
        """Yield some users of a day at a time, all of each day once, in random order."""
        size = min(max(sum(len(day.users) for day in days) // STEPS, BATCH_USERS), MOST_BATCH_USERS)
        batches = [
            (day, users)
            for day in days
            for users in np.array_split(rng.permutation(len(day.users)), -(-len(day.users) // size))
        ]
        for number in rng.permutation(len(batches)).tolist():
            yield batches[number]

    def _losses(self, towers: _Towers | None, day: _Day, users: NDArray[np.int64]) -> Tensor:
        """Return the negative log-likelihood of each event of some users of a day."""
        lengths = np.diff(day.offsets)[users]
        of_event = np.repeat(np.arange(len(users)), lengths)
        events = np.arange(len(of_event)) + np.repeat(day.offsets[users] - (np.cumsum(lengths) - lengths), lengths)
        sales = self.catalogue.open_within(day.as_of, day.as_of + DAY)
        moments = self._tensor(day.moments[events])[:, None]
        opens, closes = self._tensor(self.catalogue.opens_at[sales]), self._tensor(self.catalogue.closes_at[sales])
        is_open = (opens <= moments) & (moments < closes)
        chosen = self._tensor(np.searchsorted(sales, day.sales[events]))
        scores = torch.zeros(is_open.shape, device=self.device)
        if towers is not None:
            known = self.block.take(day.users[users]).as_of(day.as_of, self.history)
            inputs = user_inputs(known, self.settings, self.values, self.shares[day.as_of])
            products = towers(self._tensor(inputs), self._tensor(self.values[sales].toarray()))
            scores = products[self._tensor(of_event)]
        logs = log_softmax(scores.masked_fill(~is_open, -torch.inf), dim=1)
        return -logs.gather(1, chosen[:, None])[:, 0]

    def _mean_loss(self, towers: _Towers | None, batches: list[tuple[_Day, NDArray[np.int64]]]) -> float:
        with torch.no_grad():
            return float(torch.cat([self._losses(towers, day, users) for day, users in batches]).mean())

    def _tensor(self, values: NDArray) -> Tensor:
        return torch.from_numpy(values).to(self.device)


def _layer(linear: nn.Linear) -> Layer:
    weights, bias = (values.detach().cpu().numpy() for values in (linear.weight, linear.bias))
    return Layer(np.ascontiguousarray(weights.T), bias.copy())
