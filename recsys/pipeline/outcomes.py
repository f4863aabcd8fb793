"""Logged pages and events → the users of an experiment, and their outcomes by day."""

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
"""At most this many values of an attribute have a segment of their own: the most frequent ones."""
OTHER, NONE = "other", "(none)"
"""The segments of users with a less frequent value, and of users without a value."""


def pages(exposures: DataFrame, experiment: Experiment, as_of: int) -> DataFrame:
    """Return the pages of an experiment's phase that were served before `as_of` (microseconds), without duplicates."""
    args = {
        "experiment": experiment.key,
        "phase": experiment.phase,
        "start": to_micros(experiment.start),
        "as_of": as_of,
        "is_interleaved": experiment.type == "interleave",
    }
    return _run_query("experiment_pages", args, exposures=exposures)


def holdout_pages(
    exposures: DataFrame, surface: str, experiment: Experiment, earlier: Sequence[str], as_of: int
) -> DataFrame:
    """Return the pages of a surface as `pages` does, by whether their users are in a holdout.

    Args:
        exposures: Table `exposures_compacted`.
        surface: The surface of the holdout's file.
        experiment: The holdout, from `recsys.experiments.holdouts.as_experiment`.
        earlier: Keys of the holdouts before it.
        as_of: Pages served at or after this instant are ignored; microseconds since 1970 UTC.
    """
    args = {
        "surface": surface,
        "holdout": experiment.key,
        "earlier": ",".join(earlier),
        "start": to_micros(experiment.start),
        "as_of": as_of,
    }
    return _run_query("holdout_pages", args, exposures=exposures)


def events(events: DataFrame, recorded_events: DataFrame, experiment: Experiment, as_of: int) -> DataFrame:
    """Return the shop's events that may count, without duplicates, with the token of the page that led to each.

    Args:
        events: Valid rows of table `events`; these are the events that happened.
        recorded_events: Table `recorded_events_compacted`; only its attribution tokens are used.
        experiment: Its start and its CUPED lookback limit the events.
        as_of: Events that occurred or were recorded at or after this instant are ignored; microseconds since 1970 UTC.
    """
    since = to_micros(experiment.start) - _lookback_micros(experiment)
    args = {"since": since, "as_of": as_of}
    return _run_query("experiment_events", args, events=events, recorded_events=recorded_events)


def first_pages(pages: DataFrame) -> DataFrame:
    """Return the time, variant and attributes of each user's first page of the experiment."""
    return _run_query("experiment_first_pages", {}, pages=pages)


def user_days(pages: DataFrame, users: DataFrame, events: DataFrame, experiment: Experiment) -> DataFrame:
    """Return the growth of each user's columns on each day, sorted by user and day within partitions.

    Args:
        pages: From `pages`.
        users: From `first_pages`; its variant and segment columns are added.
        events: From `events`.
        experiment: Its attribution window and its CUPED lookback are used.
    """
    args = {"lookback": _lookback_micros(experiment), "attribution": _to_micros(experiment.attribution)}
    outcomes = _run_query("experiment_outcomes", args, pages=pages, users=users, events=events)
    parts = [
        _run_query(
            "experiment_page_days", {"attribution": _to_micros(experiment.attribution)}, pages=pages, users=users
        ),
        _run_query("experiment_outcome_days", {}, outcomes=outcomes),
    ]
    if experiment.type == "interleave":
        parts.append(_credit_days(_run_query("experiment_credits", {}, outcomes=outcomes, pages=pages), experiment))
    growth = [f.coalesce(f.sum(name), f.lit(0.0)).alias(name) for name in _outcome_columns(experiment)]
    triggered = f.coalesce(f.bool_or("triggered"), f.lit(False)).alias("triggered")
    days = _union_by_name(parts).repartition("user_id").groupBy("user_id", "day").agg(triggered, *growth)
    variants_and_segments = users.drop("attributes", "jumped", "first_shown_at")
    return days.join(variants_and_segments, on="user_id", how="inner").sortWithinPartitions("user_id", "day")


def with_segments(users: DataFrame, attributes: Sequence[str]) -> DataFrame:
    """Add each user's segment by each attribute, such as country=DE; less frequent values become country=other."""
    for name in attributes:
        value = f.coalesce(f.col("attributes")[name], f.lit(NONE))
        counted = users.groupBy(value.alias("value")).count().orderBy(f.desc("count"), "value").limit(MAX_VALUES)
        frequent = [row["value"] for row in counted.collect()]
        named = f.when(value.isin(frequent), value).otherwise(OTHER)
        users = users.withColumn(segment_column(name), f.concat(f.lit(f"{name}="), named))
    return users


def experiment_users(user_days: DataFrame, users: DataFrame, experiment: Experiment) -> DataFrame:
    """Return table `experiment_users`."""
    totals = [f.sum(name).alias(name) for name in _outcome_columns(experiment)]
    summed = user_days.groupBy("user_id").agg(f.bool_or("triggered").alias("triggered"), *totals)
    known = users.withColumn("first_exposed_at", f.timestamp_micros("first_shown_at"))
    return summed.join(known, on="user_id", how="inner").select(
        *EXPERIMENT_USERS.columns,
        *[name for name in _outcome_columns(experiment) if name not in EXPERIMENT_USERS.columns],
    )


def _credit_days(credits: DataFrame, experiment: Experiment) -> DataFrame:
    keys = [variant.key for variant in experiment.variants]
    counts = [f.count_if(f.col("variant") == key).cast("double").alias(credit(key)) for key in keys]
    return credits.groupBy("user_id", "day").agg(*counts)


def _union_by_name(parts: list[DataFrame]) -> DataFrame:
    return reduce(lambda one, other: one.unionByName(other, allowMissingColumns=True), parts)


def _outcome_columns(experiment: Experiment) -> list[str]:
    credits = [credit(variant.key) for variant in experiment.variants] if experiment.type == "interleave" else []
    return [*COLUMNS, *credits]


def _lookback_micros(experiment: Experiment) -> int:
    cuped = experiment.analysis.cuped
    return _to_micros(timedelta(days=cuped.lookback_days)) if cuped else 0


def _to_micros(duration: timedelta) -> int:
    return duration // timedelta(microseconds=1)


def _run_query(table: str, args: dict[str, Any], **frames: DataFrame) -> DataFrame:
    spark = next(iter(frames.values())).sparkSession
    query = (files("recsys.sql") / f"{table}.sql").read_text(encoding="utf-8")
    return spark.sql(query, args=args, **frames)
