"""events → user_histories: one row per user, so that no later step needs to exchange events between workers.

The jobs write the table by `history_parts`, which must equal what is returned here.
"""

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as f

from recsys.shop.catalogue import Catalogue


def user_histories(events: DataFrame, catalogue: Catalogue) -> DataFrame:
    """Return each user's events in order of time, as table `user_histories`; sales by their position in the catalogue.

    Ties in time are broken by sale and kind, so that the same events give the same row.
    """
    event = f.struct("occurred_at", "position", "purchase", "recorded_at")
    gathered = (
        events_of_catalogue(events, catalogue)
        .groupBy("user_id")
        .agg(f.sort_array(f.collect_list(event)).alias("events"))
    )
    return gathered.select(
        "user_id",
        f.col("events.position").alias("sales"),
        f.col("events.purchase").alias("purchases"),
        f.col("events.occurred_at").alias("occurred_at"),
        f.col("events.recorded_at").alias("recorded_at"),
    )


def events_of_catalogue(events: DataFrame, catalogue: Catalogue) -> DataFrame:
    """Return events of the sales of a catalogue, sales by their position in it and instants in microseconds."""
    # As Arrow: Spark starts Python workers to read a list.
    columns = [pa.array(catalogue.sale_ids, pa.string()), pa.array(range(len(catalogue)), pa.int32())]
    positions = events.sparkSession.createDataFrame(pa.table(columns, ["sale_id", "position"]))
    return events.join(f.broadcast(positions), on="sale_id", how="inner").select(
        "user_id",
        "position",
        (f.col("kind") == "purchase").alias("purchase"),
        f.unix_micros("occurred_at").alias("occurred_at"),
        f.unix_micros("recorded_at").alias("recorded_at"),
    )
