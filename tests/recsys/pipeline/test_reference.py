"""The implementations that the jobs use equal the reference in SQL, on shops with all special cases."""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession
from scipy.sparse import csr_matrix

from recsys.pipeline import reference
from recsys.pipeline.histories import user_histories
from recsys.recommenders import RecommenderSettings, recommenders
from recsys.recommenders.collaborative import Collaborative, CollaborativeSettings
from recsys.recommenders.content import Content, ContentSettings, Features, MetadataSettings
from recsys.recommenders.popularity import Popularity, PopularitySettings
from recsys.shop.histories import Block, Histories, HistorySettings
from recsys.testing.shops import AS_OF, ShopData, make_shop, purchase, random_shop, sale, visit

HISTORY = HistorySettings(days=45, max_events=12)
RECOMMENDERS = RecommenderSettings(
    collaborative=CollaborativeSettings(half_life_days=5, purchase_weight=2.5, shrinkage=3, neighbours=4),
    popularity=PopularitySettings(half_life_days=3, purchase_weight=4, prior_days=0.7),
    content_metadata=MetadataSettings(half_life_days=8, purchase_weight=2, price_band_ratio=1.8),
)


class Reference:
    """Input of both implementations for one shop: frames for the SQL, and histories that Spark built from them."""

    def __init__(self, spark: SparkSession, shop: ShopData) -> None:
        self.spark = spark
        self.shop = shop
        self.sales = spark.createDataFrame(shop.sales)
        self.events = spark.createDataFrame(shop.events)
        self.horizon = shop.horizon()
        self.known = reference.known_events(self.events, AS_OF, HISTORY).cache()
        self.targets = reference.horizon_sales(self.sales, AS_OF, self.horizon.until)
        histories = user_histories(self.events, shop.catalogue).orderBy("user_id").toArrow()
        self.block = Block.from_batch(histories.combine_chunks().to_batches()[0], len(shop.catalogue))
        self.users = self.block.user_ids.to_pylist()
        self.target_ids = [shop.catalogue.sale_ids[position] for position in self.horizon.sales]

    @property
    def histories(self) -> Histories:
        return self.block.as_of(AS_OF, HISTORY)

    def recommender(self, name: str) -> Collaborative | Content | Popularity:
        return next(each for each in recommenders(RECOMMENDERS, self.shop.catalogue) if each.name == name)

    def fast_scores(self, name: str) -> NDArray[np.float32]:
        recommender = self.recommender(name)
        model = recommender.fit(recommender.count(self.histories, self.horizon), self.horizon)
        return model.score(self.histories)

    def weights(self, settings: CollaborativeSettings | ContentSettings | PopularitySettings) -> DataFrame:
        return reference.user_weights(self.known, AS_OF, settings.half_life_days, settings.purchase_weight)

    def content_scores(self, name: str, sale_features: DataFrame, min_sales: int) -> NDArray[np.float64]:
        profiles = reference.sale_profiles(sale_features, self.sales, self.horizon.until, min_sales).cache()
        users = reference.user_profiles(self.weights(self.recommender(name).settings), profiles)
        scores = reference.content_scores(users, profiles, self.targets)
        return matrix(scores, ("user_id", self.users), ("sale_id", self.target_ids), "score")


@pytest.fixture(scope="module")
def both(spark: SparkSession) -> Reference:
    return Reference(spark, random_shop(1, n_users=25, n_sales=14, n_events=500))


def matrix(frame: DataFrame, rows: tuple[str, list], columns: tuple[str, list], value: str) -> NDArray[np.float64]:
    """Return a frame of one row per cell as a matrix; a cell without a row is 0, one with two rows fails."""
    table = frame.select(rows[0], columns[0], value).toArrow().to_pylist()
    cells = {(row[rows[0]], row[columns[0]]): row[value] for row in table}
    assert len(cells) == len(table), "two rows of one key"
    result = np.zeros((len(rows[1]), len(columns[1])))
    for (row, column), cell in cells.items():
        result[rows[1].index(row), columns[1].index(column)] = cell
    return result


def test_sql_and_histories_know_the_same_events(both: Reference) -> None:
    histories = both.histories
    fast = [
        (both.users[user], both.shop.catalogue.sale_ids[position], kind, int(occurred_at))
        for user, position, kind, occurred_at in zip(
            histories.user_of_event(),
            histories.sales,
            np.where(histories.purchases, "purchase", "visit"),
            histories.occurred_at,
            strict=True,
        )
    ]
    known = both.known.selectExpr("user_id", "sale_id", "kind", "unix_micros(occurred_at) as occurred_at").toArrow()
    assert sorted(fast) == sorted(tuple(row.values()) for row in known.to_pylist())
    assert len(fast) < both.shop.events.num_rows  # something was left out
    assert np.diff(histories.offsets).max() == HISTORY.max_events  # and something by the cap


def test_sql_and_horizon_rank_the_same_sales(both: Reference) -> None:
    rows = both.targets.collect()
    assert sorted(row.sale_id for row in rows) == both.target_ids
    assert 0 < len(rows) < both.sales.count()


def test_sql_and_histories_give_the_same_weights(both: Reference) -> None:
    fast = both.histories.matrix(both.histories.weights(5, 2.5))
    sql = reference.user_weights(both.known, AS_OF, 5, 2.5)
    sale_ids = both.shop.catalogue.sale_ids
    np.testing.assert_allclose(
        fast.toarray(), matrix(sql, ("user_id", both.users), ("sale_id", sale_ids), "weight"), rtol=1e-5
    )


@pytest.mark.parametrize("name", ["collaborative", "collaborative_conditional", "collaborative_lift"])
def test_sql_and_collaborative_keep_the_same_similarities(both: Reference, name: str) -> None:
    recommender = both.recommender(name)
    fast = recommender.fit(recommender.count(both.histories, both.horizon), both.horizon).similarities
    sql = reference.sale_similarities(both.known, both.targets, recommender.settings, recommender.measure)
    sale_ids = both.shop.catalogue.sale_ids
    np.testing.assert_allclose(
        fast.toarray(),
        matrix(sql, ("source_id", sale_ids), ("target_id", both.target_ids), "similarity"),
        rtol=1e-5,
    )
    assert np.diff(fast.indptr).max() == recommender.settings.neighbours  # something was pruned


def test_sql_and_collaborative_give_the_same_scores(both: Reference) -> None:
    settings = RECOMMENDERS.collaborative
    similarities = reference.sale_similarities(both.known, both.targets, settings)
    sql = reference.collaborative_scores(both.weights(settings), similarities)
    scores = matrix(sql, ("user_id", both.users), ("sale_id", both.target_ids), "score")
    np.testing.assert_allclose(both.fast_scores("collaborative"), scores, rtol=1e-4)
    assert (scores > 0).any()


def test_sql_and_taste_give_the_same_scores(both: Reference) -> None:
    recommender = both.recommender("taste_metadata")
    min_sales = recommender.settings.min_sales
    features = reference.metadata_features(both.sales, RECOMMENDERS.content_metadata)
    features.createOrReplaceTempView("all_features")
    both.sales.createOrReplaceTempView("all_sales")
    known = both.spark.sql(
        f"""
        with known as (
            select features.* from all_features as features
            left semi join (select * from all_sales where opens_at < timestamp_micros({both.horizon.until})) as sales
                on sales.sale_id = features.sale_id
        )
        select sale_id, feature, 1 as value from known
        where feature in (select feature from known group by feature having count(*) >= {min_sales})
        """
    )
    weights = both.weights(recommender.settings)
    sql = reference.taste_scores(weights, known, both.targets, recommender.settings.prior_events)
    scores = matrix(sql, ("user_id", both.users), ("sale_id", both.target_ids), "score")
    np.testing.assert_allclose(both.fast_scores("taste_metadata"), scores, atol=5e-3)
    assert (scores > 0.1).any()
    assert (scores < -0.1).any()


def test_sql_and_metadata_count_the_same_features(both: Reference) -> None:
    features = both.recommender("content_metadata").features
    rows = reference.metadata_features(both.sales, RECOMMENDERS.content_metadata).toArrow().to_pylist()
    fast = features.counts.tocoo()
    names = [features.names[column] for column in fast.col]
    # A price band has another name in SQL, so the features are compared by the sales that have them.
    assert sales_by_feature(zip(names, fast.row.tolist(), strict=True)) == sales_by_feature(
        (row["feature"], both.shop.catalogue.position[row["sale_id"]]) for row in rows
    )


def sales_by_feature(pairs: Iterable[tuple[str, int]]) -> list[list[int]]:
    groups: dict[str, list[int]] = {}
    for feature, position in pairs:
        groups.setdefault(feature, []).append(position)
    return sorted(sorted(group) for group in groups.values())


def test_sql_and_metadata_give_the_same_scores(both: Reference) -> None:
    sale_features = reference.metadata_features(both.sales, RECOMMENDERS.content_metadata)
    scores = both.content_scores("content_metadata", sale_features, min_sales=1)
    np.testing.assert_allclose(both.fast_scores("content_metadata"), scores, rtol=1e-4, atol=1e-6)
    assert (scores > 0).any()


def test_sql_and_text_give_the_same_scores(both: Reference) -> None:
    recommender = both.recommender("content_text")
    sale_features = feature_rows(both.spark, both.shop, recommender.features)
    scores = both.content_scores("content_text", sale_features, recommender.min_sales)
    np.testing.assert_allclose(both.fast_scores("content_text"), scores, rtol=1e-4, atol=1e-6)
    assert (scores > 0).any()


def feature_rows(spark: SparkSession, shop: ShopData, features: Features) -> DataFrame:
    counts: csr_matrix = features.counts.tocoo()
    rows = {
        "sale_id": [shop.catalogue.sale_ids[row] for row in counts.row],
        "feature": [features.names[column] for column in counts.col],
        "occurrences": counts.data.astype(np.int32),
    }
    return spark.createDataFrame(pa.table(rows))


def test_sql_and_popularity_give_the_same_scores(both: Reference) -> None:
    settings = RECOMMENDERS.popularity
    sale_features = reference.metadata_features(both.sales, RECOMMENDERS.content_metadata)
    sql = reference.popularity_scores(both.known, both.sales, sale_features, both.targets, AS_OF, settings).toArrow()
    scores = dict(zip(sql["sale_id"].to_pylist(), sql["score"].to_pylist(), strict=True))
    assert sorted(scores) == both.target_ids
    fast = both.fast_scores("popularity")[0]
    np.testing.assert_allclose(fast, [scores[sale_id] for sale_id in both.target_ids], rtol=1e-5)


def test_sql_breaks_ties_of_neighbours_by_sale(spark: SparkSession) -> None:
    shop = make_shop(
        [sale("t"), sale("c"), sale("a"), sale("b")],
        [visit("u", sale_id, -1) for sale_id in ("t", "b", "c", "a")],
    )
    known = reference.known_events(spark.createDataFrame(shop.events), AS_OF, HISTORY)
    targets = spark.createDataFrame([("t",)], "sale_id string")
    rows = reference.sale_similarities(known, targets, CollaborativeSettings(shrinkage=1, neighbours=2)).collect()
    assert sorted(tuple(row) for row in rows) == [("t", "a", 1 / (1 + 1)), ("t", "b", 1 / (1 + 1))]


def test_purchase_that_weighs_nothing_gives_no_content_score(spark: SparkSession) -> None:
    shop = make_shop([sale("a", country="FR")], [purchase("u", "a", -1)])
    known = reference.known_events(spark.createDataFrame(shop.events), AS_OF, HISTORY)
    assert reference.user_weights(known, AS_OF, 5, 0).count() == 0
