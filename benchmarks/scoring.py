"""Scoring, from histories to written rankings, compared with the published SQL formulation.

    python -m benchmarks.scoring [--users 200000] [--open-sales 300] [--sql-users 2000]

Both run on Spark with top_k 30. Ours computes every feature; the SQL joins compute the collaborative and the metadata
score only, and one window over them: less than half of the work.
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from benchmarks import machine, synthetic
from benchmarks.random_models import random_meta_model, random_towers
from jobs.engine.session import spark_session
from recsys.config.pipeline import RankingSettings, SourceSettings
from recsys.config.settings import Settings
from recsys.instants import to_micros
from recsys.pipeline import reference
from recsys.pipeline.fitting import fitted_recommenders
from recsys.pipeline.histories import user_histories
from recsys.pipeline.rankings import rankings
from recsys.pipeline.shop import Shop
from recsys.recommenders import RecommenderSettings
from recsys.recommenders.towers import TOWERS_FILE
from recsys.shop.catalogue import Catalogue
from recsys.shop.histories import HistorySettings
from recsys.storage.outputs import Outputs

AS_OF = to_micros(synthetic.AS_OF)
HORIZON_HOURS = 6.0  # until the morning's sales open: the horizon then holds the sales that are open
EVENTS_PER_USER = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=200_000)
    parser.add_argument("--open-sales", type=int, default=300)
    parser.add_argument("--sql-users", type=int, default=2_000)
    arguments = parser.parse_args()
    print(machine.describe())
    folder = Path(tempfile.mkdtemp(prefix="scoring-"))
    try:
        compare(folder, arguments.users, arguments.open_sales, arguments.sql_users)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def compare(folder: Path, users: int, open_sales: int, sql_users: int) -> None:
    """Generate and fit a shop, then measure both ways of ranking."""
    synthetic.write_shop(folder / "raw", users, users * EVENTS_PER_USER, open_sales)
    spark = spark_session(Settings(folder=str(folder), source=SourceSettings(sql="", raw={})))
    shop = fitted_shop(spark, folder)
    names = [each.name for each in shop.recommenders]
    model = random_meta_model(names)
    histories = spark.read.parquet(str(folder / "user_histories"))

    start = time.perf_counter()
    ranked = rankings(histories, shop, AS_OF, model, RankingSettings(top_k=30))
    ranked.write.parquet(str(folder / "rankings"))
    ours = time.perf_counter() - start
    n_users = spark.read.parquet(str(folder / "rankings")).count()

    sql = rank_by_sql(spark, folder, shop, sql_users)

    print(f"{len(names)} features, {len(shop.horizon(AS_OF))} sales of {len(shop.catalogue):,}, top 30, written")
    print(f"  ours           {n_users:>9,} users {ours:7.1f} s  {n_users / ours:>9,.0f} users/s")
    print(f"  SQL, 2 scores  {sql_users:>9,} users {sql:7.1f} s  {sql_users / sql:>9,.0f} users/s")
    print(f"  users/s of ours / users/s of the SQL: {(n_users / ours) / (sql_users / sql):.0f}")


def fitted_shop(spark: SparkSession, folder: Path) -> Shop:
    """Write the inputs of scoring: sales, user_histories and fitted_recommenders."""
    (folder / "sales").mkdir()
    shutil.copy(folder / "raw" / "sales.parquet", folder / "sales")
    catalogue = Catalogue.from_table(pq.read_table(folder / "sales"))
    events = spark.read.parquet(str(folder / "raw" / "events")).selectExpr("*", "occurred_at as recorded_at")
    user_histories(events, catalogue).write.parquet(str(folder / "user_histories"))
    (folder / TOWERS_FILE).write_text(random_towers(catalogue).to_json())
    shop = Shop(Outputs(str(folder)), HistorySettings(), RecommenderSettings(), HORIZON_HOURS)
    histories = spark.read.parquet(str(folder / "user_histories"))
    fitted = fitted_recommenders(histories, shop, [AS_OF])
    fitted.write.partitionBy("as_of").parquet(str(folder / "fitted_recommenders"))
    return shop


def rank_by_sql(spark: SparkSession, folder: Path, shop: Shop, users: int) -> float:
    """Rank by the sum of two scores for some of the users, write the ranking, and return the seconds.

    Similarities and profiles are computed beforehand and cached, as they are for ours.
    """
    settings = shop.recommender_settings
    sales = spark.read.parquet(str(folder / "sales"))
    until = shop.horizon(AS_OF).until
    targets = reference.horizon_sales(sales, AS_OF, until).cache()
    events = spark.read.parquet(str(folder / "raw" / "events")).selectExpr("*", "occurred_at as recorded_at")
    some = events.where(f"user_id < 'u-{users:09}'").cache()
    similarities = reference.sale_similarities(some, targets, settings.collaborative).cache()
    features = reference.metadata_features(sales, settings.content_metadata)
    profiles = reference.sale_profiles(features, sales, until).cache()
    for frame in (targets, some, similarities, profiles):
        frame.count()
    start = time.perf_counter()
    collaborative = settings.collaborative
    known = reference.known_events(some, AS_OF, shop.history)
    weights = reference.user_weights(known, AS_OF, collaborative.half_life_days, collaborative.purchase_weight)
    co_visits = reference.collaborative_scores(weights, similarities)
    content = reference.content_scores(reference.user_profiles(weights, profiles), profiles, targets)
    both = co_visits.unionByName(content, allowMissingColumns=True)
    both.createOrReplaceTempView("both_scores")
    best = spark.sql("""
        with scores as (
            select user_id, sale_id, sum(score) as score from both_scores group by all
        ), ranked as (
            select *, row_number() over (partition by user_id order by score desc, sale_id) as rank from scores
        )
        select * from ranked where rank <= 30
    """)
    best.write.parquet(str(folder / "sql_rankings"))
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
