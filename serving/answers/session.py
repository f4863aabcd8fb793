"""Ranks all sales for a user and their running session, with the code and arrays that the night ranked with."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.compiled import compiled
from recsys.errors import DamagedRecordError, SnapshotError
from recsys.instants import SECOND
from recsys.ranking.ranker import Ranker, Scored
from recsys.ranking.ranker_files import RANKER, read_ranker
from recsys.shop.histories import Histories
from recsys.snapshot.format import Snapshot
from recsys.snapshot.users import User
from serving.answers.pages import UNEXPLAINED, Pick, Visit

_AT_ONCE = 32


class SessionRanker:
    """Adds a session, if there is one, to the user's history and scores all sales of the horizon."""

    def __init__(self, snapshot: Snapshot):
        """Read the ranker of a snapshot.

        Raises:
            SnapshotError: If the snapshot has no ranker, a damaged one, or one for different sales.
        """
        self.night, self.catalogue = read_ranker(snapshot.file(RANKER))
        """The ranker as of the night, and the sales that the night knew."""
        self._horizon = self.night.scorer.horizon
        ranked = [self.catalogue.sale_ids[sale] for sale in self._horizon.sales]
        if ranked != [sale.sale_id for sale in snapshot.sales]:
            raise SnapshotError(f"{snapshot.path}: its ranker is for other sales: write it again with 'recsys nightly'")

    @property
    def sale_ids(self) -> Sequence[str]:
        """The ids of all sales that the night knew, open or not."""
        return self.catalogue.sale_ids

    def rank(self, policy: str, user: User | None, session: Sequence[Visit], ranker: Ranker) -> "SessionRanking | None":
        """Rank all sales of the horizon; None where the ranker knows neither the user nor a sale of the session.

        Args:
            policy: The policy.
            user: The user's record.
            session: What the user did in the running session.
            ranker: The ranker to rank by: the night's, or the same as of the present.

        Raises:
            DamagedRecordError: If the user's history holds sales that do not exist.
        """
        position = self.catalogue.position
        known = [(position[sale_id], bought) for sale_id, bought in session if sale_id in position]
        if not known and user is None:
            return None
        histories = self._histories(user)
        if known:
            sales, purchases = zip(*known, strict=True)
            histories = histories.with_session(np.array(sales, np.int32), np.array(purchases, bool))
        return SessionRanking(policy, ranker.scored(histories), len(known))

    def rank_similar(
        self, policy: str, user: User | None, sale_id: str, ranker: Ranker, n: int
    ) -> "SessionRanking | None":
        """Rank all sales of the horizon by how much they resemble a sale; None where the ranker does not know it.

        Args:
            policy: The policy.
            user: The user's record, if they are for one.
            sale_id: The sale, open or not.
            ranker: The ranker to rank by: the night's, or the same as of the present.
            n: Number of the most similar sales that are ordered for the user.

        Raises:
            DamagedRecordError: If the user's history holds sales that do not exist.
        """
        if sale_id not in self.catalogue.position:
            return None
        visit = np.array([self.catalogue.position[sale_id]], np.int32), np.zeros(1, bool)
        nobody = self._histories(None)
        similar = _Similar(ranker.scored(nobody), ranker.scored(nobody.with_session(*visit)), n if user else 0)
        scored = ranker.scored(self._histories(user).with_session(*visit)) if user else similar.after
        return SessionRanking(policy, scored, 0, similar)

    def _histories(self, user: User | None) -> Histories:
        as_of, n_sales = self._horizon.as_of, len(self.catalogue)
        if user is None:
            return Histories.of_unknown_user(as_of, n_sales)
        sales, ages, purchases = user.history()
        occurred_at, are_known = _instants(sales, ages, n_sales, as_of)
        if not are_known:  # compiled loops do not check their indices
            raise DamagedRecordError(
                f"a user's history holds sales {sales.min()} to {sales.max()}, must be in 0..{n_sales - 1}"
            )
        return Histories(as_of, n_sales, np.array([0, len(sales)]), sales, purchases, occurred_at)


@compiled
def _instants(
    sales: NDArray[np.int32], ages: NDArray[np.int32], n_sales: int, as_of: int
) -> tuple[NDArray[np.int64], bool]:
    """Return when each event occurred, and whether all sales are among those of the catalogue.

    At least 1 us before as_of: an event of the last second before it must not count as one of the session.
    """
    occurred_at, are_known = np.empty(len(sales), np.int64), True
    for event in range(len(sales)):
        are_known &= 0 <= sales[event] < n_sales
        occurred_at[event] = as_of - max(np.int64(ages[event]) * SECOND, np.int64(1))
    return occurred_at, are_known


class _Similar(NamedTuple):
    """What a visit of a sale changes for somebody of whom nothing else is known."""

    before: Scored
    after: Scored
    n: int
    """Number of the most similar sales that are in the user's order."""

    def order(self, policy: str, best: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the places of sales, given best first for the user, in the order of their similarity to the sale.

        A sale resembles it by how much the visit raises the score.
        """
        raised = self.after.scores(policy)[0, best] - self.before.scores(policy)[0, best]
        order = np.argsort(-raised, kind="stable")
        order[: self.n].sort()
        return order


class SessionRanking(NamedTuple):
    """One user's ranking; reasons, photos and contributions are computed only for the sales on the page."""

    policy: str
    scored: Scored
    visits: int
    """Number of events of the session whose sales the ranker knows."""
    similar: _Similar | None = None
    """Orders the sales by their similarity to one; None for the order of the policy."""

    def picks(self) -> Iterator[Pick]:
        """Return all sales of the horizon, best or most similar first, without reasons."""
        best, scores = self.scored.best(self.policy)
        sales, scores = best[0], scores[0]
        if self.similar is not None:
            order = self.similar.order(self.policy, sales)
            sales, scores = sales[order], scores[order]
        for start in range(0, len(sales), _AT_ONCE):  # most pages need a few of them
            part = slice(start, start + _AT_ONCE)
            yield from zip(sales[part].tolist(), scores[part].tolist(), repeat(UNEXPLAINED), repeat(0), strict=False)

    def by(self, policy: str) -> "SessionRanking":
        """Return the ranking of the same user by another policy."""
        return self if policy == self.policy else self._replace(policy=policy)

    def explained(self, picks: Sequence[Pick]) -> list[Pick]:
        """Return the picks, with reasons and photos added where they are missing."""
        best = np.array([[sale for sale, _, reason, _ in picks if reason == UNEXPLAINED]], np.int64)
        if not best.size:
            return list(picks)
        reasons, covers = self.scored.reasons(self.policy, best)[0], self.scored.covers(best)[0]
        whys = zip(reasons.tolist(), covers.tolist(), strict=True)
        return [(*pick[:2], *next(whys)) if pick[2] == UNEXPLAINED else pick for pick in picks]

    def contributions(self, picks: Sequence[Pick]) -> list[Mapping[str, float]]:
        """Return each pick's contributions to the log-odds by feature, in descending order; empty for a recommender."""
        ranker = self.scored.ranker
        meta_model = ranker.meta_model_of(self.policy)
        if meta_model is None:
            return []
        best = np.array([[pick[0] for pick in picks]], np.int64)
        names = ranker.scorer.names
        rows = self.scored.contributions(meta_model, best)[:, 0, :].T.tolist()
        return [dict(sorted(zip(names, row, strict=True), key=lambda pair: -pair[1])) for row in rows]
