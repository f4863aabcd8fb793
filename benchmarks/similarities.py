"""Item-item similarity: our fit on Spark, compared with the SQL self-join on Spark and `implicit` in one process.

    python -m benchmarks.similarities [--users 100000] [--events 1500000] [--sales 3000]

All three find the most similar sales of every sale from the same events. Ours and the SQL give the same shrunk cosine,
and their results are compared; `implicit` gives the plain cosine and starts from a matrix in memory.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from implicit.nearest_neighbours import CosineRecommender
from pyspark.sql import DataFrame, SparkSession
from scipy.sparse import csr_matrix

from benchmarks import machine
from jobs.engine.session import spark_session
from recsys.config.pipeline import SourceSettings
from recsys.config.settings import Settings
from recsys.instants import DAY
from recsys.pipeline.fitting import fitted_recommenders
from recsys.pipeline.histories import user_histories
from recsys.pipeline.reference import sale_similarities
from recsys.pipeline.shop import Shop
from recsys.ranking.scorer import unpack
from recsys.recommenders import RecommenderSettings
from recsys.recommenders.collaborative import CollaborativeSettings
from recsys.shop.catalogue import Catalogue
from recsys.shop.histories import HistorySettings
from recsys.storage.outputs import Outputs

AS_OF = 20_000 * DAY
SETTINGS = CollaborativeSettings(neighbours=100)
WITHOUT = (
    *("popularity", "content_metadata", "content_text", "own_visits", "own_purchases"),
    *("price_gap", "hours_open", "hours_left", "activity"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--events", type=int, default=1_500_000)
    parser.add_argument("--sales", type=int, default=3_000)
    arguments = parser.parse_args()
    print(machine.describe())
    folder = Path(tempfile.mkdtemp(prefix="similarities-"))
    try:
        compare(folder, arguments.users, arguments.events, arguments.sales)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def compare(folder: Path, users: int, events: int, n_sales: int) -> None:
    """Generate events, measure the three ways in turn, and compare the results of ours and of the SQL."""
    user, sale = make_events(users, events, n_sales)
    write_tables(folder, user, sale, n_sales)
    source = SourceSettings(sql="", raw={})
    spark = spark_session(Settings(folder=str(folder), source=source))
    shop = Shop(
        Outputs(str(folder)), HistorySettings(), RecommenderSettings(collaborative=SETTINGS, without=WITHOUT), 36.0
    )

    ours, whole = timed(lambda: fit(spark, folder, shop))
    _, from_histories = timed(lambda: fit(spark, folder, shop, histories_done=True))
    _, implicit_whole = timed(lambda: fit_implicit(read_matrix(folder)))
    matrix = read_matrix(folder)
    _, implicit_fit = timed(lambda: fit_implicit(matrix))
    sql, sql_whole = timed(lambda: sql_similarities(spark, folder))

    print(f"{users:,} users, {len(user):,} events, {n_sales:,} sales, {SETTINGS.neighbours} neighbours per sale")
    print("From the events on disk:")
    print(f"  SQL self-join on Spark     {sql_whole:7.2f} s   SQL / ours: {sql_whole / whole:.1f}")
    print(f"  ours                       {whole:7.2f} s")
    print(f"  implicit                   {implicit_whole:7.2f} s   ours / implicit: {whole / implicit_whole:.1f}")
    print("From histories, one row per user, as in the night; from a matrix in memory:")
    print(f"  ours                       {from_histories:7.2f} s   SQL / ours: {sql_whole / from_histories:.1f}")
    print(f"  implicit                   {implicit_fit:7.2f} s   ours / implicit: {from_histories / implicit_fit:.1f}")
    print(f"  ours and SQL: {len(ours):,} and {len(sql):,} pairs, maximum difference {difference(ours, sql):.1e}")


def make_events(users: int, events: int, n_sales: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw events: the popularity of sales follows a power law, the activity of users a gamma distribution."""
    rng = np.random.default_rng(0)
    activity = rng.gamma(0.7, 1, users)
    user = rng.choice(users, events, p=activity / activity.sum())
    popularity = 1 / np.arange(1, n_sales + 1) ** 0.6
    return user, rng.choice(n_sales, events, p=popularity / popularity.sum())


def write_tables(folder: Path, user: np.ndarray, sale: np.ndarray, n_sales: int) -> None:
    """Write the tables sales, all of them open, and events."""
    instant = pa.timestamp("us", tz="UTC")
    ids = [f"s-{number:05}" for number in range(n_sales)]
    sales = {
        "sale_id": ids,
        "opens_at": pa.array([AS_OF - 50 * DAY] * n_sales, instant),
        "closes_at": pa.array([AS_OF + DAY] * n_sales, instant),
        "title": ids,
        "description": pa.nulls(n_sales, pa.string()),
        "price": pa.nulls(n_sales, pa.float64()),
        "attributes": pa.nulls(n_sales, pa.map_(pa.string(), pa.string())),
    }
    (folder / "sales").mkdir(parents=True)
    pq.write_table(pa.table(sales), folder / "sales" / "part.parquet")
    occurred_at = pa.array(AS_OF - np.arange(1, len(user) + 1) * 1_000_000, instant)
    events = {
        "user_id": np.char.add("u-", user.astype(str)),
        "sale_id": np.asarray(ids)[sale],
        "kind": ["visit"] * len(user),
        "occurred_at": occurred_at,
        "recorded_at": occurred_at,
        "revenue": pa.nulls(len(user), pa.float64()),
    }
    (folder / "events").mkdir()
    pq.write_table(pa.table(events), folder / "events" / "part.parquet", row_group_size=100_000)


def fit(spark: SparkSession, folder: Path, shop: Shop, histories_done: bool = False) -> pd.DataFrame:
    """Return our similarities, fitted to the events or to the histories of an earlier call."""
    histories = str(folder / "user_histories")
    if not histories_done:
        events = spark.read.parquet(str(folder / "events"))
        user_histories(events, shop.catalogue).write.mode("overwrite").parquet(histories)
    rows = fitted_recommenders(spark.read.parquet(histories), shop, [AS_OF]).collect()
    return as_pairs(shop.catalogue, unpack(rows[0]["arrays"]))


def as_pairs(catalogue: Catalogue, arrays: dict[str, np.ndarray]) -> pd.DataFrame:
    """Return fitted arrays as rows of target, source and similarity."""
    ids = np.asarray(catalogue.sale_ids)
    target = np.repeat(ids, np.diff(arrays["offsets"]))
    return pd.DataFrame({"target_id": target, "source_id": ids[arrays["sources"]], "similarity": arrays["data"]})


def sql_similarities(spark: SparkSession, folder: Path) -> pd.DataFrame:
    """Return the similarities of the SQL self-join."""
    events: DataFrame = spark.read.parquet(str(folder / "events"))
    sales = spark.read.parquet(str(folder / "sales")).select("sale_id")
    return sale_similarities(events, sales, SETTINGS).toPandas()


def difference(ours: pd.DataFrame, sql: pd.DataFrame) -> float:
    """Return the maximum difference of a similarity; a missing one counts as 0."""
    both = ours.merge(sql, on=["target_id", "source_id"], how="outer", suffixes=("_ours", "_sql")).fillna(0)
    return float((both["similarity_ours"] - both["similarity_sql"]).abs().max())


def read_matrix(folder: Path) -> csr_matrix:
    """Return the events in the format of `implicit`: 1 where a user saw a sale, shape (n_users, n_sales)."""
    events = pd.read_parquet(folder / "events", columns=["user_id", "sale_id"])
    user, users = pd.factorize(events["user_id"])
    sale, sales = pd.factorize(events["sale_id"])
    matrix = csr_matrix((np.ones(len(events), np.float32), (user, sale)), shape=(len(users), len(sales)))
    matrix.data[:] = 1
    return matrix


def fit_implicit(matrix: csr_matrix) -> CosineRecommender:
    """Return `implicit`'s cosine model, fitted."""
    model = CosineRecommender(K=SETTINGS.neighbours)
    model.fit(matrix, show_progress=False)
    return model


def timed(action: Callable[[], Any]) -> tuple[Any, float]:
    """Return the result of an action and the seconds of its second run; in the first one Java compiles its code."""
    action()
    start = time.perf_counter()
    return action(), time.perf_counter() - start


if __name__ == "__main__":
    main()
