"""Validated tables → the aggregates that a data profile is made of."""

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as f

from recsys.data_profile.frames import ProfileFrames, Repeats
from recsys.instants import HOUR
from recsys.shop.histories import SESSION_GAP

_MOST_TIMES = 3


def profile_frames(sales: DataFrame, sale_images: DataFrame, events: DataFrame, hours: float) -> ProfileFrames:
    """Aggregate a shop's tables by hour, by user and by sale; every pass over the events reads few columns.

    Args:
        sales: Table `sales`, few enough to be sent to every task.
        sale_images: Table `sale_images`.
        events: Table `events`.
        hours: A repeat purchase within so many hours of the purchase before is a soon one.
    """
    at = f.unix_micros("occurred_at")
    return ProfileFrames(
        hours=_by_hour(sales, events).toArrow().to_pandas(),
        users=_by_activity(events).toArrow().to_pandas(),
        sales=_by_sale(sales, sale_images, events.select("sale_id", at.alias("at"))).toArrow().to_pandas(),
        repeats=_repeats(events, hours),
        times_of_day=times_of_day(events),
    )


def times_of_day(events: DataFrame) -> tuple[str, ...]:
    """Return the times of day of events in UTC, ascending: all of them if there are one or two, otherwise three.

    One or two mean that the events tell days only: midnight in local time is two times in UTC, in summer and in winter.
    """
    times = events.select(f.date_format("occurred_at", "HH:mm:ss")).distinct().limit(_MOST_TIMES).collect()
    return tuple(sorted(row[0] for row in times))


def _by_hour(sales: DataFrame, events: DataFrame) -> DataFrame:
    windows = f.broadcast(sales.select("sale_id", "opens_at", "closes_at"))
    is_open = f.expr("occurred_at >= opens_at and occurred_at < closes_at")
    hour = f.expr(f"unix_micros(occurred_at) div {HOUR} * {HOUR}").alias("hour")
    return (
        events.join(windows, on="sale_id", how="inner")
        .groupBy(hour, "kind")
        .agg(f.count("*").alias("events"), f.count_if(is_open).alias("open_events"))
        .orderBy("hour", "kind")
    )


def _by_activity(events: DataFrame) -> DataFrame:
    purchases = f.least(f.count_if(f.col("kind") == "purchase"), f.lit(2))
    users = events.groupBy("user_id").agg(f.count("*").alias("events"), purchases.alias("purchases"))
    return users.groupBy("events", "purchases").agg(f.count("*").alias("users")).orderBy("events", "purchases")


def _by_sale(sales: DataFrame, sale_images: DataFrame, events: DataFrame) -> DataFrame:
    photos = sale_images.groupBy("sale_id").agg(
        f.count("*").alias("photos"), f.min_by("image_uri", "position").alias("cover")
    )
    seen = events.groupBy("sale_id").agg(
        f.count("*").alias("events"), f.min("at").alias("first_event"), f.max("at").alias("last_event")
    )
    return (
        sales.select(
            "sale_id",
            "title",
            f.unix_micros("opens_at").alias("opens_at"),
            f.unix_micros("closes_at").alias("closes_at"),
            f.col("price").isNotNull().alias("has_price"),
            (f.coalesce(f.size("attributes"), f.lit(0)) > 0).alias("has_attributes"),
        )
        .join(photos, on="sale_id", how="left")
        .join(seen, on="sale_id", how="left")
        .fillna(0, ["photos", "events", "first_event", "last_event"])
        .orderBy("sale_id")
    )


def _repeats(events: DataFrame, hours: float) -> Repeats:
    in_order = Window.partitionBy("user_id", "sale_id").orderBy("at")
    bought = events.where("kind = 'purchase'").select("user_id", "sale_id", f.unix_micros("occurred_at").alias("at"))
    gap = bought.select((f.col("at") - f.lag("at").over(in_order)).alias("gap")).where(f.col("gap") > SESSION_GAP)
    found = gap.agg(f.count("*").alias("all"), f.count_if(f.col("gap") <= hours * HOUR).alias("soon")).collect()[0]
    return Repeats(found["all"], found["soon"], hours)
