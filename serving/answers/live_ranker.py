"""The ranker of a snapshot as of the present: what is the same for all users follows what they do, by the second."""

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.instants import SECOND
from recsys.meta_model import Features
from recsys.meta_model.logistic import LogisticModel
from recsys.ranking.ranker import Ranker
from recsys.shop.catalogue import Catalogue
from recsys.shop.histories import Histories
from recsys.shop.live_counts import LiveCounts
from serving.answers.open_sales import picks
from serving.answers.pages import Pick

_UNDECAYED = 1e6
"""A half-life in days with which all events of a day weigh the same."""


class _Present(NamedTuple):
    """The ranker as of an instant, and what was made with it so far."""

    instant: int
    counts: LiveCounts
    ranker: Ranker
    shared: dict[str, list[Pick]]
    """By recommender, its ranking."""
    effects: dict[str, NDArray[np.float64]]
    """By version of the meta-model, by how much the night's log-odds have changed, shape (2, n_horizon)."""


class LiveRanker:
    """Keeps the ranker of a snapshot up to date; safe for concurrent use by threads.

    The night's statistics are the start, and the live counts add to them, by the code that the night uses. One ranker
    serves all pages of a second. While nothing is counted, it is the night's: a website that records no events would
    otherwise seem to be one on which nobody looks at the sales of the day.

    Args:
        ranker: As of the night.
        catalogue: The sales that the night knew.
        counts: Returns the latest counts.
    """

    def __init__(self, ranker: Ranker, catalogue: Catalogue, counts: Callable[[], LiveCounts]):
        self._night = ranker
        self._counts = counts
        self._catalogue = catalogue
        self._positions: tuple[Sequence[str], NDArray[np.int64]] = (), np.empty(0, np.int64)
        """The ids of counted sales, and their positions in the catalogue."""
        self._present = _Present(ranker.scorer.horizon.as_of, LiveCounts(), ranker, {}, {})

    def ranks(self, policy: str) -> bool:
        """Tell whether a policy is a recommender of the ranker; a night before the first event ranks by age alone."""
        return policy in self._night.scorer.names

    def at(self, now: int) -> Ranker:
        """Return the ranker as of an instant, in microseconds since 1970 UTC."""
        return self._present_at(now).ranker

    def shared(self, policy: str, now: int) -> list[Pick]:
        """Return the ranking by a recommender whose scores are the same for all users, as of an instant.

        Calls within a second return the same list.
        """
        present = self._present_at(now)
        found = present.shared.get(policy)
        if found is None:
            ranking = present.ranker.shared_ranking(policy, len(self._catalogue))
            found = present.shared[policy] = picks(ranking)
        return found

    def moved(self, policy: str, kept: Iterable[Pick], bought: Collection[int], now: int) -> Iterable[Pick]:
        """Return a ranking that the night kept of a user, as of an instant, without ranking the user again.

        The log-odds of a logistic regression are a sum, so that a feature which is the same for all users moves those
        of a sale alike for all of them. Scores of any other model, or of a recommender, stay. Sales that the night did
        not keep are missing, and the features of the user alone are as of the night.

        Args:
            policy: A policy that ranks for each user.
            kept: The ranking, best first.
            bought: The sales, positions in the snapshot's, that the user bought before the night.
            now: Microseconds since 1970 UTC.

        Returns:
            Best first, ties in the order of the night.
        """
        model = self._night.meta_model_of(policy)
        if not isinstance(model, LogisticModel):
            return kept
        present, picks = self._present_at(now), list(kept)
        if policy not in present.effects:
            now_features = self._features_of_nobody(present.ranker)
            present.effects[policy] = model.effects(self._night_features, now_features)
        sales = np.array([pick[0] for pick in picks], np.int64)
        is_repeat = np.array([sale in bought for sale in sales.tolist()], np.int64)
        effects, open_share = present.effects[policy][is_repeat, sales], self._night.scorer.horizon.open_share[sales]
        scores = model.moved(np.array([pick[1] for pick in picks], np.float32), effects, open_share)
        values = scores.tolist()
        return [(picks[at][0], values[at], *picks[at][2:]) for at in np.argsort(-scores, kind="stable").tolist()]

    @cached_property
    def _night_features(self) -> Features:
        return self._features_of_nobody(self._night)

    def _features_of_nobody(self, ranker: Ranker) -> Features:
        """Return the features of a user without events, shape (n_features, n_horizon)."""
        nobody = Histories.of_unknown_user(ranker.scorer.horizon.as_of, len(self._catalogue))
        return ranker.scorer.features(nobody)[:, 0]

    def _present_at(self, now: int) -> _Present:
        present, counts = self._present, self._counts()
        if counts is present.counts and present.instant <= now < present.instant + SECOND:
            return present
        since, ranker = self._night.scorer.horizon.as_of, self._night
        counted = _Counted(counts, self._positions_of(counts.sale_ids), self._catalogue, since, now)
        if counted.decayed(_UNDECAYED, 1).any():
            ranker = ranker.at(max(now, since), counted)
        present = self._present = _Present(now, counts, ranker, {}, {})
        return present

    def _positions_of(self, sale_ids: Sequence[str]) -> NDArray[np.int64]:
        """Return the position of each sale in the catalogue; -1 for one that the night did not know."""
        known_ids, positions = self._positions
        if known_ids is not sale_ids:
            position = self._catalogue.position
            positions = np.array([position.get(sale_id, -1) for sale_id in sale_ids], np.int64)
            self._positions = sale_ids, positions
        return positions


class _Counted(NamedTuple):
    """The live counts by the positions of sales in the catalogue, of events while their sale was open."""

    counts: LiveCounts
    positions: NDArray[np.int64]
    catalogue: Catalogue
    since: int
    at: int

    def decayed(self, half_life_days: float, purchase_weight: float) -> NDArray[np.float64]:
        """Return the decayed weighted number of events of each sale since the night, shape (n_sales,)."""
        positions, catalogue, is_known = self.positions, self.catalogue, self.positions >= 0
        since = np.maximum(catalogue.opens_at[positions], self.since)
        until = catalogue.closes_at[positions]
        events = self.counts.decayed(self.at, since, half_life_days, purchase_weight, until)
        return np.bincount(positions[is_known], events[is_known], len(catalogue)).astype(np.float64, copy=False)
