"""The ranker of a snapshot as of the present: what is the same for all users follows what they do, by the second."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.instants import SECOND
from recsys.ranking.ranker import Ranker
from recsys.shop.catalogue import Catalogue
from recsys.shop.live_counts import LiveCounts
from serving.answers.open_sales import picks
from serving.answers.pages import Pick


class _Present(NamedTuple):
    """The ranker as of an instant, and the rankings made with it so far."""

    instant: int
    counts: LiveCounts
    ranker: Ranker
    shared: dict[str, list[Pick]]


class LiveRanker:
    """Keeps the ranker of a snapshot up to date; safe for concurrent use by threads.

    The night's statistics are the start, and the live counts add to them, by the code that the night uses. One ranker
    serves all pages of a second.

    Args:
        ranker: As of the night.
        catalogue: The sales that the night knew.
        counts: Returns the latest counts.
    """

    def __init__(self, ranker: Ranker, catalogue: Catalogue, counts: Callable[[], LiveCounts]):
        self._night = ranker
        self._counts = counts
        self._position = catalogue.position
        self._positions: tuple[Sequence[str], NDArray[np.int64]] = (), np.empty(0, np.int64)
        """The ids of counted sales, and their positions in the catalogue."""
        self._present = _Present(ranker.scorer.horizon.as_of, LiveCounts(), ranker, {})

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
            ranking = present.ranker.shared_ranking(policy, len(self._position))
            found = present.shared[policy] = picks(ranking)
        return found

    def _present_at(self, now: int) -> _Present:
        present, counts = self._present, self._counts()
        if counts is present.counts and present.instant <= now < present.instant + SECOND:
            return present
        since = self._night.scorer.horizon.as_of
        counted = _Counted(counts, self._positions_of(counts.sale_ids), len(self._position), since, now)
        present = self._present = _Present(now, counts, self._night.at(max(now, since), counted), {})
        return present

    def _positions_of(self, sale_ids: Sequence[str]) -> NDArray[np.int64]:
        """Return the position of each sale in the catalogue; -1 for one that the night did not know."""
        known_ids, positions = self._positions
        if known_ids is not sale_ids:
            positions = np.array([self._position.get(sale_id, -1) for sale_id in sale_ids], np.int64)
            self._positions = sale_ids, positions
        return positions


class _Counted(NamedTuple):
    """The live counts by the positions of sales in the catalogue."""

    counts: LiveCounts
    positions: NDArray[np.int64]
    n_sales: int
    since: int
    at: int

    def decayed(self, half_life_days: float, purchase_weight: float) -> NDArray[np.float64]:
        """Return the decayed weighted number of events of each sale since the night, shape (n_sales,)."""
        events = self.counts.decayed(self.at, self.since, half_life_days, purchase_weight)
        is_known = self.positions >= 0
        return np.bincount(self.positions[is_known], events[is_known], self.n_sales).astype(np.float64, copy=False)
