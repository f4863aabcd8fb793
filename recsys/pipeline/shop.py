"""What Python workers need to know of a shop, found by path and kept between their tasks."""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import pyarrow.parquet as pq

from recsys.catalogue import Catalogue, Horizon
from recsys.histories import HistorySettings
from recsys.instants import HOUR
from recsys.recommenders import Recommender, RecommenderSettings, recommenders
from recsys.scorer import Scorer


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
        opens, closes = self.catalogue.opens_at, self.catalogue.closes_at
        until = int(self.horizon_hours * HOUR)
        return [as_of for as_of in as_ofs if ((opens < as_of + until) & (closes > as_of)).any()]

    def scorer(self, as_of: int) -> Scorer:
        """Return the recommenders fitted as of an instant, from table `fitted_recommenders`."""
        return _scorer(self, as_of)


class _Opened:
    def __init__(self, shop: Shop) -> None:
        self._shop = shop

    @cached_property
    def catalogue(self) -> Catalogue:
        return Catalogue.from_table(pq.read_table(f"{self._shop.folder}/sales"))

    @cached_property
    def recommenders(self) -> list[Recommender]:
        return recommenders(self._shop.recommender_settings, self.catalogue)


@lru_cache(maxsize=2)
def _opened(shop: Shop) -> _Opened:
    return _Opened(shop)


@lru_cache(maxsize=2)
def _scorer(shop: Shop, as_of: int) -> Scorer:
    rows = pq.read_table(f"{shop.folder}/fitted_recommenders/as_of={as_of}", partitioning=None).to_pylist()
    arrays = {row["recommender"]: row["arrays"] for row in rows}
    return Scorer.load(shop.recommenders, arrays, shop.horizon(as_of))
