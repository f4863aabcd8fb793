"""Logged pages and events → the users of an experiment, and what they did day by day."""

from collections.abc import Sequence
from datetime import timedelta
from functools import reduce
from importlib.resources import files
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as f

from recsys.experiments.analysis.outcomes import COLUMNS, credit, segment_column
from recsys.experiments.settings import Experiment
from recsys.instants import to_micros
from recsys.tables.experiments import EXPERIMENT_USERS

MAX_VALUES = 20
"""So many values of an attribute are segments of their own: those that most users have."""
OTHER, NONE = "other", "(none)"
"""The values of users with a rarer one, and of those without."""


def pages(exposures: DataFrame, experiment: Experiment, as_of: int) -> DataFrame:
    """Return the pages of the experiment's phase that were served before an instant, each once."""
    args = {
        "experiment": experiment.key,
        "phase": experiment.phase,
        "start": to_micros(experiment.start),
        "as_of": as_of,
        "is_interleaved": experiment.type == "interleave",
    }
    return _select("experiment_pages", args, exposures=exposures)


def events(events: DataFrame, recorded_events: DataFrame, experiment: Experiment, as_of: int) -> DataFrame:
    """Return the shop's events that may count, each once, with the token of the page that led to it where known.

    Args:
        events: Valid rows of table `events`: what happened.
        recorded_events: Table `recorded_events_compacted`; only its tokens are taken.
        experiment: Its start and the days before that it looks back.
        as_of: What occurred, or was recorded, at or after it is not known; microseconds.
    """
    since = to_micros(experiment.start) - _lookback(experiment)
    args = {"since": since, "as_of": as_of}
    return _select("experiment_events", args, events=events, recorded_events=recorded_events)


def first_pages(pages: DataFrame) -> DataFrame:
    """Return when each user was first shown a page of the experiment, and of which variant."""
    return _select("experiment_first_pages", {}, pages=pages)


def user_days(pages: DataFrame, users: DataFrame, events: DataFrame, experiment: Experiment) -> DataFrame:
    """Return by how much each column of each user grew on each day, sorted by user and day within partitions.

    Args:
        pages: From `pages`.
        users: From `first_pages`; variant and segments go along.
        events: From `events`.
        experiment: Its attribution and what it looks back to.
    """
    args = {"lookback": _lookback(experiment), "attribution": _micros(experiment.attribution)}
    outcomes = _select("experiment_outcomes", args, pages=pages, users=users, events=events)
    parts = [
        _select("experiment_page_days", {"attribution": _micros(experiment.attribution)}, pages=pages, users=users),
        _select("experiment_outcome_days", {}, outcomes=outcomes),
    ]
    if experiment.type == "interleave":
        parts.append(_credit_days(_select("experiment_credits", {}, outcomes=outcomes, pages=pages), experiment))
    grown = [f.coalesce(f.sum(name), f.lit(0.0)).alias(name) for name in _columns(experiment)]
    triggered = f.coalesce(f.bool_or("triggered"), f.lit(False)).alias("triggered")
    days = _united(parts).repartition("user_id").groupBy("user_id", "day").agg(triggered, *grown)
    going_along = users.drop("attributes", "jumped", "first_shown_at")
    return days.join(going_along, on="user_id", how="inner").sortWithinPartitions("user_id", "day")


def with_segments(users: DataFrame, attributes: Sequence[str]) -> DataFrame:
    """Add each user's segment by each attribute, such as country=DE; the rarer values are country=other."""
    for name in attributes:
        value = f.coalesce(f.col("attributes")[name], f.lit(NONE))
        counted = users.groupBy(value.alias("value")).count().orderBy(f.desc("count"), "value").limit(MAX_VALUES)
        frequent = [row["value"] for row in counted.collect()]
        shown = f.when(value.isin(frequent), value).otherwise(OTHER)
        users = users.withColumn(segment_column(name), f.concat(f.lit(f"{name}="), shown))
    return users


def experiment_users(user_days: DataFrame, users: DataFrame, experiment: Experiment) -> DataFrame:
    """Return table `experiment_users`."""
    totals = [f.sum(name).alias(name) for name in _columns(experiment)]
    summed = user_days.groupBy("user_id").agg(f.bool_or("triggered").alias("triggered"), *totals)
    known = users.withColumn("first_exposed_at", f.timestamp_micros("first_shown_at"))
    return summed.join(known, on="user_id", how="inner").select(
        *EXPERIMENT_USERS.columns, *[name for name in _columns(experiment) if name not in EXPERIMENT_USERS.columns]
    )


def _credit_days(credits: DataFrame, experiment: Experiment) -> DataFrame:
    keys = [variant.key for variant in experiment.variants]
    counts = [f.count_if(f.col("variant") == key).cast("double").alias(credit(key)) for key in keys]
    return credits.groupBy("user_id", "day").agg(*counts)


def _united(parts: list[DataFrame]) -> DataFrame:
    return reduce(lambda one, other: one.unionByName(other, allowMissingColumns=True), parts)


def _columns(experiment: Experiment) -> list[str]:
    credits = [credit(variant.key) for variant in experiment.variants] if experiment.type == "interleave" else []
    return [*COLUMNS, *credits]


def _lookback(experiment: Experiment) -> int:
    cuped = experiment.analysis.cuped
    return _micros(timedelta(days=cuped.lookback_days)) if cuped else 0


def _micros(duration: timedelta) -> int:
    return duration // timedelta(microseconds=1)


def _select(table: str, args: dict[str, Any], **frames: DataFrame) -> DataFrame:
    spark = next(iter(frames.values())).sparkSession
    query = (files("recsys.sql") / f"{table}.sql").read_text(encoding="utf-8")
    return spark.sql(query, args=args, **frames)
