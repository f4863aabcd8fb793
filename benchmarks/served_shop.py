"""A large shop that is ready to be served: snapshots of many users, with a ranker fitted to some thousand users."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks import synthetic
from benchmarks.random_models import random_meta_model, random_towers
from recsys.instants import DAY, SECOND, from_micros, to_micros
from recsys.meta_model import META
from recsys.ranking.covers import Covers
from recsys.ranking.ranker import Ranker
from recsys.ranking.ranker_files import RANKER, write_ranker
from recsys.ranking.scorer import Scorer
from recsys.recommenders import RecommenderSettings, recommenders
from recsys.shop.catalogue import Catalogue
from recsys.shop.gallery import Gallery
from recsys.shop.histories import Block, Histories, HistorySettings
from recsys.snapshot import store as snapshot_store
from recsys.snapshot.format import POPULARITY, SnapshotContents, SnapshotSale
from recsys.snapshot.writer import write_snapshot

AS_OF = to_micros(synthetic.AS_OF)
HORIZON_HOURS = 6.0  # until the morning's sales open: the horizon then holds the sales that are open
KEPT = 30
EVENTS_PER_USER = 20
PHOTOS, THEMES = 4, 30
FITTED_USERS = 5_000
BATCH = 20_000


@dataclass(frozen=True)
class ServedShop:
    """The folder of a shop, and the data that its snapshots share."""

    folder: Path
    users: int
    catalogue: Catalogue
    ranker: Ranker

    @classmethod
    def made(cls, folder: Path, users: int, open_sales: int) -> "ServedShop":
        """Return a shop with generated sales and a ranker fitted to some users."""
        synthetic.write_shop(folder / "raw", FITTED_USERS, FITTED_USERS * EVENTS_PER_USER, open_sales)
        catalogue = _with_photos(Catalogue.from_table(pq.read_table(folder / "raw" / "sales.parquet")))
        ranker = _fit_ranker(catalogue, pq.read_table(folder / "raw" / "events"))
        (folder / RANKER).mkdir()
        write_ranker(folder / RANKER, ranker, catalogue, RecommenderSettings())
        return cls(folder, users, catalogue, ranker)

    @property
    def root(self) -> Path:
        """The folder of snapshots."""
        return self.folder / "snapshots"

    def write(self, seed: int) -> str:
        """Write a snapshot of random rankings and histories, and return its name."""
        scorer = self.ranker.scorer
        contents = SnapshotContents(
            as_of=synthetic.AS_OF,
            horizon_end=from_micros(scorer.horizon.until),
            sales=[self._sale(position) for position in scorer.horizon.sales.tolist()],
            policies=[META],
            shared_rankings={POPULARITY: self.ranker.shared_ranking(POPULARITY, len(self.catalogue))},
            reasons=scorer.reasons,
            versions={"home_ranker": str(seed)},
            fingerprint=f"{seed:08}",
            files={RANKER: self.folder / RANKER},
        )
        return write_snapshot(self.root, contents, self._random_batches(np.random.default_rng(seed)))

    def publish(self, name: str) -> None:
        """Make a snapshot the current one."""
        snapshot_store.publish(self.root, name, datetime.now(UTC))

    def current(self) -> str:
        """Return the name of the current snapshot."""
        name = snapshot_store.current(self.root)
        assert name is not None
        return name

    def rollback(self) -> str:
        """Make the previous snapshot the current one, and return its name."""
        return snapshot_store.rollback(self.root, datetime.now(UTC))

    def some_users(self, count: int) -> list[str]:
        """Return the ids of random users."""
        return [user_id(number) for number in np.random.default_rng(0).integers(0, self.users, count).tolist()]

    def open_sale_ids(self) -> list[str]:
        """Return the ids of the sales that snapshots rank."""
        return [self.catalogue.sale_ids[sale] for sale in self.ranker.scorer.horizon.sales.tolist()]

    def _sale(self, position: int) -> SnapshotSale:
        catalogue = self.catalogue
        assert catalogue.gallery is not None
        return SnapshotSale(
            sale_id=catalogue.sale_ids[position],
            title=" ".join(catalogue.texts[position].split()[:4]),
            opens_at=from_micros(int(catalogue.opens_at[position])),
            closes_at=from_micros(int(catalogue.closes_at[position])),
            price=float(catalogue.prices[position]),
            attributes=catalogue.attributes[position],
            images=catalogue.gallery.photos(position),
            theme=catalogue.gallery.main_theme(position),
        )

    def _random_batches(self, rng: np.random.Generator) -> Iterator[pa.RecordBatch]:
        for start in range(0, self.users, BATCH):
            count = min(BATCH, self.users - start)
            ids = pa.array([user_id(number) for number in range(start, start + count)])
            columns = {"user_id": ids} | self._random_rankings(count, rng) | self._random_histories(count, rng)
            yield pa.RecordBatch.from_pydict(columns)

    def _random_rankings(self, count: int, rng: np.random.Generator) -> dict[str, pa.Array]:
        draws = rng.random((count, len(self.ranker.scorer.horizon)), np.float32)
        shape = count, KEPT
        return {
            f"{META}_sales": _as_lists(np.argpartition(draws, KEPT, axis=1)[:, :KEPT].astype(np.int32)),
            f"{META}_scores": _as_lists(-np.sort(-rng.normal(-4, 1, shape), axis=1).astype(np.float32)),
            f"{META}_reasons": _as_lists(rng.integers(0, len(self.ranker.scorer.reasons), shape, np.uint8)),
            f"{META}_covers": _as_lists(rng.integers(0, PHOTOS, shape, np.uint8)),
        }

    def _random_histories(self, count: int, rng: np.random.Generator) -> dict[str, pa.Array]:
        shape = count, EVENTS_PER_USER
        seconds = -np.sort(-rng.integers(1, 90 * DAY // SECOND, shape), axis=1)
        return {
            "history_sales": _as_lists(rng.integers(0, len(self.catalogue), shape, np.int32)),
            "history_ages": _as_lists(seconds.astype(np.int32)),
            "history_purchases": _as_lists(rng.random(shape) < synthetic.PURCHASE_SHARE),
        }


def user_id(number: int) -> str:
    """Return the id of a user, the same in every snapshot."""
    return f"u-{number:09}"


def _with_photos(catalogue: Catalogue) -> Catalogue:
    """Return the catalogue with photos of every sale; each photo has about three themes."""
    rng = np.random.default_rng(0)
    first = np.arange(len(catalogue) + 1) * PHOTOS
    uris = [f"https://images.example.com/{each}/{photo}.jpg" for each in catalogue.sale_ids for photo in range(PHOTOS)]
    shape = len(uris), THEMES
    photo_themes = (rng.gamma(2, 1, shape) * (rng.random(shape) < 3 / THEMES)).astype(np.float32)
    sale_themes = photo_themes.reshape(-1, PHOTOS, THEMES).mean(axis=1)
    names = [f"theme {number}" for number in range(THEMES)]
    return replace(catalogue, gallery=Gallery(first, uris, names, photo_themes, sale_themes))


def _fit_ranker(catalogue: Catalogue, events: pa.Table) -> Ranker:
    horizon = catalogue.horizon(AS_OF, HORIZON_HOURS)
    known = _histories(catalogue, events)
    found = recommenders(RecommenderSettings(), catalogue, random_towers(catalogue))
    models = [each.fit(each.count(known, horizon), horizon) for each in found]
    names = [each.name for each in found]
    meta_model = random_meta_model(names)
    assert catalogue.gallery is not None
    return Ranker(Scorer(horizon, found, models), meta_model, Covers(catalogue.gallery, horizon))


def _histories(catalogue: Catalogue, events: pa.Table) -> Histories:
    """Return the histories of events that are sorted by user and time."""
    users = events["user_id"].combine_chunks().dictionary_encode()
    occurred_at = events["occurred_at"].cast(pa.int64()).to_numpy()
    block = Block(
        user_ids=users.dictionary,
        n_sales=len(catalogue),
        offsets=np.searchsorted(users.indices, np.arange(len(users.dictionary) + 1)),
        sales=pc.index_in(events["sale_id"], pa.array(catalogue.sale_ids)).to_numpy(),
        purchases=pc.equal(events["kind"], "purchase").to_numpy(),
        occurred_at=occurred_at,
        recorded_at=occurred_at,
    )
    return block.as_of(AS_OF, HistorySettings())


def _as_lists(values: np.ndarray) -> pa.ListArray:
    offsets = np.arange(0, values.size + 1, values.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(offsets, pa.array(values.ravel()))
