"""Ranks for a visitor's running session, by the code and the arrays that the night ranked with."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np

from recsys.errors import DamagedRecordError, SnapshotError
from recsys.instants import SECOND
from recsys.ranking.ranker import Scored
from recsys.ranking.ranker_files import RANKER, read_ranker
from recsys.shop.histories import Histories
from recsys.snapshot.format import Snapshot
from recsys.snapshot.users import User
from serving.answers.pages import UNEXPLAINED, Pick, Visit


class SessionRanker:
    """Joins a session to the user's history, and scores all sales of the horizon anew."""

    def __init__(self, snapshot: Snapshot):
        """Read the ranker of a snapshot.

        Raises:
            SnapshotError: If it carries none, a damaged one, or one of other sales.
        """
        self._ranker, self._catalogue = read_ranker(snapshot.file(RANKER))
        ranked = [self._catalogue.sale_ids[sale] for sale in self._ranker.scorer.horizon.sales]
        if ranked != [sale.sale_id for sale in snapshot.sales]:
            raise SnapshotError(f"{snapshot.path}: its ranker is of other sales: write it again with 'recsys nightly'")

    def rank(self, policy: str, user: User | None, session: Sequence[Visit]) -> "SessionRanking | None":
        """Rank all sales of the horizon; None where the ranker knows neither a visit of the session nor the user.

        Raises:
            DamagedRecordError: If the user's history cannot be that of a user.
        """
        position = self._catalogue.position
        known = [(position[sale_id], bought) for sale_id, bought in session if sale_id in position]
        if not known and user is None:
            return None
        histories = self._histories(user)
        if known:
            sales, purchases = zip(*known, strict=True)
            histories = histories.with_session(np.array(sales, np.int32), np.array(purchases, bool))
        return SessionRanking(policy, self._ranker.scored(histories), len(known))

    def _histories(self, user: User | None) -> Histories:
        as_of, n_sales = self._ranker.scorer.horizon.as_of, len(self._catalogue)
        if user is None:
            return Histories.of_nobody_known(as_of, n_sales)
        sales, ages, purchases = user.history()
        if len(sales) and not 0 <= sales.min() <= sales.max() < n_sales:  # a sparse product would not look
            raise DamagedRecordError(
                f"a user's history holds sales {sales.min()} to {sales.max()}, must be in 0..{n_sales - 1}"
            )
        # An event in the second before as_of is none of the session.
        occurred_at = as_of - np.maximum(ages * np.int64(SECOND), 1)
        return Histories(as_of, n_sales, np.array([0, len(sales)]), sales, purchases, occurred_at)


@dataclass(frozen=True)
class SessionRanking:
    """One user's ranking; what is only shown to people is computed for the sales that are shown."""

    policy: str
    scored: Scored
    visits: int
    """Of the session, of sales that the ranker knows."""

    def picks(self) -> Iterator[Pick]:
        """Return all sales of the horizon, best first, unexplained."""
        best, scores = self.scored.best(self.policy)
        return zip(best[0].tolist(), scores[0].tolist(), repeat(UNEXPLAINED), repeat(0), strict=False)

    def explained(self, picks: Sequence[Pick]) -> list[Pick]:
        """Return picks with reasons and photos, where they lack them."""
        best = np.array([[sale for sale, _, reason, _ in picks if reason == UNEXPLAINED]], np.int64)
        if not best.size:
            return list(picks)
        reasons, covers = self.scored.reasons(self.policy, best)[0], self.scored.covers(best)[0]
        whys = zip(reasons.tolist(), covers.tolist(), strict=True)
        return [(*pick[:2], *next(whys)) if pick[2] == UNEXPLAINED else pick for pick in picks]

    def contributions(self, picks: Sequence[Pick]) -> list[Mapping[str, float]]:
        """Return for each pick what each feature adds to the log-odds, the most first; nothing for a recommender."""
        ranker = self.scored.ranker
        meta_model = ranker.meta_model_of(self.policy)
        if meta_model is None:
            return []
        best = np.array([[pick[0] for pick in picks]], np.int64)
        names = ranker.scorer.names
        rows = self.scored.contributions(meta_model, best)[:, 0, :].T.tolist()
        return [dict(sorted(zip(names, row, strict=True), key=lambda pair: -pair[1])) for row in rows]
