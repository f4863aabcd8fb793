"""A shop whose snapshots contain a fitted ranker and users' histories, so that sessions can be ranked."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.config.pipeline import RankingSettings
from recsys.instants import HOUR, from_micros
from recsys.pipeline.rankings import history_lists, ranked_lists
from recsys.ranking.ranker import Ranker
from recsys.ranking.ranker_files import RANKER, write_ranker
from recsys.recommenders import RecommenderSettings
from recsys.recommenders.collaborative import CollaborativeSettings
from recsys.shop.catalogue import Catalogue
from recsys.shop.histories import Histories
from recsys.snapshot.format import SnapshotContents, SnapshotSale
from recsys.snapshot.writer import write_snapshot
from recsys.testing.shops import AS_OF, HISTORY, ShopData, random_shop
from tests.helpers.shops import fitted_ranker, history_of, with_photos

RECOMMENDERS = RecommenderSettings(collaborative=CollaborativeSettings(neighbours=5), without=("content_text",))
RANKINGS = RankingSettings(top_k=10, policies=("meta", "collaborative"))
Session = Sequence[tuple[str, bool]]
"""Sale ids, and whether each event was a purchase."""


@dataclass(frozen=True)
class RankedShop:
    """The data of a night, its ranker, and the ranker's files."""

    data: ShopData
    ranker: Ranker
    files: Path

    @classmethod
    def made(cls, files: Path, seed: int = 4, n_users: int = 23, n_sales: int = 40) -> "RankedShop":
        """Fit a ranker to a random shop, and write it to a new folder."""
        data = with_photos(random_shop(seed, n_users, n_sales, n_events=25 * n_users))
        ranker = fitted_ranker(data, RECOMMENDERS)
        files.mkdir()
        write_ranker(files, ranker, data.catalogue, RECOMMENDERS)
        return cls(data, ranker, files)

    @property
    def sales(self) -> list[SnapshotSale]:
        """The sales of the horizon."""
        return [_snapshot_sale(self.data.catalogue, position) for position in self.ranker.scorer.horizon.sales]

    @property
    def users(self) -> list[str]:
        """The users with at least one event known to the night."""
        known = np.diff(self.data.histories().offsets)
        return [user for user, n_events in zip(self.data.block.user_ids.to_pylist(), known, strict=True) if n_events]

    def write(self, root: Path, fingerprint: str = "00000000", top_k: int = RANKINGS.top_k, **changes: object) -> str:
        """Rank the users as the night does and write a snapshot; its one segment has every second popular sale."""
        horizon = self.ranker.scorer.horizon
        popular = self.ranker.shared_ranking("popularity", len(self.data.catalogue))
        contents = SnapshotContents(
            as_of=from_micros(horizon.as_of),
            horizon_end=from_micros(horizon.as_of + 36 * HOUR),
            policies=RANKINGS.policies,
            reasons=self.ranker.scorer.reasons,
            versions={"home_ranker": "3"},
            fingerprint=fingerprint,
            **{
                "sales": self.sales,
                "shared_rankings": {"popularity": popular},
                "segments": {"market": {"FR": type(popular)(*(values[::2] for values in popular))}},
                "files": {RANKER: self.files},
                **changes,
            },
        )
        return write_snapshot(root, contents, [self._rankings(top_k)])

    def scores(self, user_id: str, session: Session = (), policy: str = "meta") -> NDArray[np.float32]:
        """Return the oracle's scores of all sales of the horizon for a user and their session, by the fitted ranker."""
        position = self.data.catalogue.position
        known = self.data.block.user_ids.to_pylist()
        if user_id in known:
            history = history_of(self.data, known.index(user_id))
        else:
            history = Histories.of_unknown_user(AS_OF, len(self.data.catalogue))
        if session:
            sales, purchases = zip(*((position[sale_id], bought) for sale_id, bought in session), strict=True)
            history = history.with_session(np.array(sales, np.int32), np.array(purchases))
        scored, meta_model = self.ranker.scored(history), self.ranker.meta_model_of(policy)
        scores = scored.scores(policy)
        return (scores if meta_model is None else scored.calibrated(meta_model, scores))[0]

    def _rankings(self, top_k: int) -> pa.RecordBatch:
        known = np.flatnonzero(np.diff(self.data.histories().offsets))
        block = self.data.block.take(known)
        histories = block.as_of(AS_OF, HISTORY)
        rankings = RANKINGS.model_copy(update={"top_k": top_k})
        lists = [*ranked_lists(self.ranker, histories, rankings), *history_lists(histories, RANKINGS.history_events)]
        kinds = ("sales", "scores", "reasons", "covers")
        names = [f"{policy}_{kind}" for policy in RANKINGS.policies for kind in kinds]
        names += [f"history_{kind}" for kind in ("sales", "ages", "purchases")]
        return pa.RecordBatch.from_arrays([block.user_ids, *lists], ["user_id", *names])


def _snapshot_sale(catalogue: Catalogue, position: int) -> SnapshotSale:
    window = (from_micros(int(instants[position])) for instants in (catalogue.opens_at, catalogue.closes_at))
    sale_id = catalogue.sale_ids[position]
    return SnapshotSale(sale_id, f"Title of {sale_id}", *window, images=catalogue.gallery.photos(position))
