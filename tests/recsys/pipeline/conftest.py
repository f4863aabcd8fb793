"""A random shop, both in a folder for the steps of the pipeline and in memory as input of the oracles."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession

from recsys.instants import DAY
from recsys.meta_model import LogisticModel, MetaModel, Weights
from recsys.pipeline.fitting import fitted_recommenders
from recsys.pipeline.histories import user_histories
from recsys.pipeline.shop import Shop
from recsys.ranking.scorer import Scorer
from recsys.recommenders import RecommenderSettings
from recsys.shop.histories import Histories, HistorySettings
from recsys.storage.outputs import Outputs
from recsys.tables.night import FITTED_RECOMMENDERS
from recsys.testing.shops import AS_OF, ShopData, random_shop
from tests.helpers.shops import CALIBRATION

INSTANTS = [AS_OF - 3 * DAY, AS_OF - DAY, AS_OF]
HISTORY = HistorySettings(days=45, max_events=12)


@dataclass(frozen=True)
class FittedShop:
    """A shop, its table `user_histories`, and its recommenders fitted as of `INSTANTS`."""

    data: ShopData
    shop: Shop
    histories: DataFrame
    instants: list[int]

    @property
    def users(self) -> list[str]:
        return self.data.block.user_ids.to_pylist()

    def known(self, user: str, as_of: int) -> Histories:
        """Return the known history of one user, to score the user alone."""
        return self.data.block.take(np.array([self.users.index(user)])).as_of(as_of, HISTORY)

    def scorer(self, as_of: int) -> Scorer:
        """The recommenders fitted to all users at once, in memory."""
        return fit(self.data, self.shop, as_of)

    def features(self, user: str, as_of: int) -> dict[str, NDArray[np.float32]]:
        """Each feature of a user for every sale of the horizon."""
        scorer = self.scorer(as_of)
        values = scorer.features(self.known(user, as_of))
        return {
            name: np.broadcast_to(value, (1, len(scorer.horizon)))[0]
            for name, value in zip(scorer.names, values, strict=True)
        }

    def sale_ids(self, as_of: int) -> list[str]:
        return [self.data.catalogue.sale_ids[sale] for sale in self.shop.horizon(as_of).sales]


_FITTED: dict[tuple[str, int], Scorer] = {}


def fit(data: ShopData, shop: Shop, as_of: int) -> Scorer:
    """Fit every recommender to one block of all users, without Spark."""
    key = (shop.outputs, as_of)
    if key not in _FITTED:
        horizon, known = shop.horizon(as_of), data.block.as_of(as_of, shop.history)
        models = [each.fit(each.count(known, horizon), horizon) for each in shop.recommenders]
        _FITTED[key] = Scorer(horizon, shop.recommenders, models)
    return _FITTED[key]


def shop_in(folder: Path, data: ShopData) -> Shop:
    (folder / "sales").mkdir(parents=True)
    pq.write_table(data.sales, folder / "sales/part.parquet")
    return Shop(Outputs(str(folder)), HISTORY, RecommenderSettings(), horizon_hours=36)


@pytest.fixture(scope="session")
def fitted_shop(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Callable[[ShopData], FittedShop]:
    """Put a shop into a folder and fit it there."""

    def make(data: ShopData) -> FittedShop:
        folder = tmp_path_factory.mktemp("fitted")
        shop = shop_in(folder, data)
        histories = user_histories(spark.createDataFrame(data.events), data.catalogue).repartition(3).cache()
        FITTED_RECOMMENDERS.write(fitted_recommenders(histories, shop, INSTANTS, INSTANTS), folder)
        return FittedShop(data, shop, histories, INSTANTS)

    return make


@pytest.fixture(scope="session")
def fitted(fitted_shop) -> FittedShop:
    return fitted_shop(random_shop(3, n_users=31, n_sales=45, n_events=1500))


@pytest.fixture(scope="session")
def meta_model(fitted: FittedShop) -> MetaModel:
    """A model that weighs every feature, some negatively."""
    names = [recommender.name for recommender in fitted.shop.recommenders]
    rng = np.random.default_rng(0)
    means, scales, coefficients, again = rng.normal(size=(4, len(names)))
    weights = Weights(list(again), -1.0)
    return LogisticModel(names, list(means), list(np.abs(scales) + 0.1), list(coefficients), -3.0, weights, CALIBRATION)
