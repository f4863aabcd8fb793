"""What Python workers need to know of a shop, found by path and kept between their tasks."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from types import MappingProxyType

import pyarrow.parquet as pq

from recsys.images.themes import theme_store
from recsys.images.themes.themes import THEME_MODEL
from recsys.meta_model import MetaModel
from recsys.ranking.covers import Covers
from recsys.ranking.ranker import Ranker
from recsys.ranking.scorer import Scorer
from recsys.recommenders import Recommender, RecommenderSettings, recommenders
from recsys.shop.catalogue import Catalogue, Horizon
from recsys.shop.gallery import Gallery
from recsys.shop.histories import HistorySettings


@dataclass(frozen=True)
class Shop:
    """The settings and the folder of a run's tables; the folder is one that every Spark worker can read."""

    folder: str
    version: str
    """Differs whenever the tables differ: workers keep what they opened."""
    history: HistorySettings
    recommender_settings: RecommenderSettings
    horizon_hours: float

    @property
    def catalogue(self) -> Catalogue:
        """All sales."""
        return _opened(self).catalogue

    @property
    def recommenders(self) -> list[Recommender]:
        """The recommenders in use."""
        return _opened(self).recommenders

    def horizon(self, as_of: int) -> Horizon:
        """Return the sales that a night at an instant ranks."""
        return self.catalogue.horizon(as_of, self.horizon_hours)

    def with_open_sales(self, as_ofs: list[int]) -> list[int]:
        """Return the instants at which a night has anything to rank: a shop was once closed, or not yet open."""
        return self.catalogue.with_open_sales(as_ofs, self.horizon_hours)

    def scorer(self, as_of: int) -> Scorer:
        """Return the recommenders fitted as of an instant, from table `fitted_recommenders`."""
        return _scorer(self, as_of)

    def ranker(
        self, as_of: int, meta_model: MetaModel, other_versions: Mapping[str, MetaModel] = MappingProxyType({})
    ) -> Ranker:
        """Return what ranks the sales of the horizon of an instant, with photos where the shop has any."""
        return Ranker(self.scorer(as_of), meta_model, _covers(self, as_of), other_versions)


class _Opened:
    def __init__(self, shop: Shop) -> None:
        self._shop = shop

    @cached_property
    def catalogue(self) -> Catalogue:
        folder = Path(self._shop.folder)
        catalogue = Catalogue.from_table(pq.read_table(folder / "sales"))
        return replace(catalogue, gallery=read_gallery(folder, catalogue.position))

    @cached_property
    def recommenders(self) -> list[Recommender]:
        return recommenders(self._shop.recommender_settings, self.catalogue)


@lru_cache(maxsize=2)
def _opened(shop: Shop) -> _Opened:
    return _Opened(shop)


@lru_cache(maxsize=2)
def _covers(shop: Shop, as_of: int) -> Covers | None:
    gallery = shop.catalogue.gallery
    return Covers(gallery, shop.horizon(as_of)) if gallery else None


@lru_cache(maxsize=2)
def _scorer(shop: Shop, as_of: int) -> Scorer:
    rows = pq.read_table(f"{shop.folder}/fitted_recommenders/as_of={as_of}", partitioning=None).to_pylist()
    arrays = {row["recommender"]: row["arrays"] for row in rows}
    return Scorer.load(shop.recommenders, arrays, shop.horizon(as_of))


def read_gallery(folder: Path, position: Mapping[str, int]) -> Gallery | None:
    """Read the photos and their themes from a run's folder; None for a shop without photos.

    None also where they are of other sales: a run whose sales have changed finds the last ones there until its themes
    are built, and the steps before need none.

    Args:
        folder: Of the run.
        position: Of each sale in the catalogue.
    """
    path = folder / THEME_MODEL
    tables = [folder / "image_themes", folder / "sale_themes"]
    if not all(each.exists() for each in (path, *tables)):
        return None
    names = theme_store.read(path).names
    photos, sale_themes = map(pq.read_table, tables)
    are_known = set(photos["sale_id"].to_pylist()) <= position.keys()
    belong = are_known and set(sale_themes["theme"].to_pylist()) <= set(names)
    return Gallery.from_tables(photos, sale_themes, names, position) if belong and photos.num_rows else None
