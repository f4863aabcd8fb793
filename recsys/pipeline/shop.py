"""The tables of a run for Spark's Python workers, opened by path and cached between tasks."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from types import MappingProxyType

from recsys.images.themes import theme_store
from recsys.images.themes.themes import THEME_MODEL
from recsys.meta_model import MetaModel
from recsys.pipeline.photo_tags import PHOTO_ATTRIBUTE
from recsys.ranking.covers import Covers
from recsys.ranking.moments import Moments
from recsys.ranking.ranker import Ranker
from recsys.ranking.scorer import Scorer
from recsys.recommenders import Recommender, RecommenderSettings, recommenders
from recsys.recommenders.towers import TOWERS_FILE, read_towers
from recsys.shop.catalogue import Catalogue, Horizon
from recsys.shop.gallery import Gallery
from recsys.shop.histories import HistorySettings
from recsys.storage.outputs import Outputs
from recsys.storage.places import Place
from recsys.tables.night import SALE_PHOTO_LABELS
from recsys.tables.parts import read_arrow


@dataclass(frozen=True)
class Shop:
    """The settings of a run and where its tables are; every Spark worker must be able to read them."""

    outputs: Outputs
    """Differ where a table does; workers cache what they opened by them."""
    history: HistorySettings
    recommender_settings: RecommenderSettings
    horizon_hours: float

    @property
    def catalogue(self) -> Catalogue:
        """The catalogue of all sales."""
        return _open_shop(self).catalogue

    @property
    def recommenders(self) -> list[Recommender]:
        """The recommenders in use."""
        return _open_shop(self).recommenders

    def horizon(self, as_of: int) -> Horizon:
        """Return the sales open at any instant of the horizon from `as_of`, which a night ranks."""
        return self.catalogue.horizon(as_of, self.horizon_hours)

    def with_open_sales(self, as_ofs: list[int]) -> list[int]:
        """Return the instants whose horizon has an open sale; a shop may have been closed, or not have opened yet."""
        return self.catalogue.with_open_sales(as_ofs, self.horizon_hours)

    def scorer(self, as_of: int) -> Scorer:
        """Return the recommenders fitted as of an instant, from table `fitted_recommenders`."""
        return _load_scorer(self, as_of)

    def moments(self, as_of: int) -> Moments:
        """Return the same of a past day, with the features as of its moments."""
        return _load_moments(self, as_of)

    def ranker(
        self, as_of: int, meta_model: MetaModel | None, other_versions: Mapping[str, MetaModel] = MappingProxyType({})
    ) -> Ranker:
        """Return the ranker of the horizon of an instant; it chooses photos too if the shop has any."""
        return Ranker(self.scorer(as_of), meta_model, _load_covers(self, as_of), other_versions)


class _Opened:
    """The tables of a shop, read on first use."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop

    @cached_property
    def catalogue(self) -> Catalogue:
        outputs = self._shop.outputs
        catalogue = Catalogue.from_table(read_arrow(outputs / "sales"))
        catalogue = catalogue.with_attributes(read_photo_labels(outputs))
        return replace(catalogue, gallery=read_gallery(outputs, catalogue.position))

    @cached_property
    def recommenders(self) -> list[Recommender]:
        towers = read_towers(self._shop.outputs / TOWERS_FILE)
        return recommenders(self._shop.recommender_settings, self.catalogue, towers)


@lru_cache(maxsize=2)
def _open_shop(shop: Shop) -> _Opened:
    return _Opened(shop)


@lru_cache(maxsize=2)
def _load_covers(shop: Shop, as_of: int) -> Covers | None:
    gallery = shop.catalogue.gallery
    return Covers(gallery, shop.horizon(as_of)) if gallery else None


@lru_cache(maxsize=2)
def _load_scorer(shop: Shop, as_of: int) -> Scorer:
    rows = read_arrow(shop.outputs / "fitted_recommenders", within=f"as_of={as_of}").to_pylist()
    arrays = {row["recommender"]: row["arrays"] for row in rows}
    return Scorer.load(shop.recommenders, arrays, shop.horizon(as_of))


@lru_cache(maxsize=2)
def _load_moments(shop: Shop, as_of: int) -> Moments:
    return Moments(_load_scorer(shop, as_of))


def read_photo_labels(outputs: Outputs | Place) -> dict[str, dict[str, str]]:
    """Return what the photos of each sale show, as attributes by sale id, from a run's outputs."""
    path, attributes = outputs / SALE_PHOTO_LABELS.name, defaultdict[str, dict[str, str]](dict)
    for row in read_arrow(path).to_pylist() if path.exists() else ():
        attributes[row["sale_id"]][f"{PHOTO_ATTRIBUTE}{row['taxonomy']}"] = row["label"]
    return attributes


def read_gallery(outputs: Outputs | Place, position: Mapping[str, int]) -> Gallery | None:
    """Return the photos and their themes from a run's outputs; None for a shop without photos.

    Also None if they belong to other sales: when the sales have changed, the photos are the earlier ones until the
    step that builds themes has run, and the steps before it do not use them.

    Args:
        outputs: Those of a run, or a folder with the tables.
        position: Position of each sale in the catalogue, by its id.
    """
    path = outputs / THEME_MODEL
    tables = [outputs / "image_themes", outputs / "sale_themes"]
    if not all(each.exists() for each in (path, *tables)):
        return None
    names = theme_store.read(path).names
    photos, sale_themes = map(read_arrow, tables)
    are_known = set(photos["sale_id"].to_pylist()) <= position.keys()
    belong = are_known and set(sale_themes["theme"].to_pylist()) <= set(names)
    return Gallery.from_tables(photos, sale_themes, names, position) if belong and photos.num_rows else None
