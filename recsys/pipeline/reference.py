"""Reference implementations of the recommenders in SQL, written for clarity rather than for speed.

Tests compare the implementations that the jobs use with these on random data, and benchmarks compare their speed; no
job runs them. Each function runs the file of its name in recsys/sql.
"""

from importlib.resources import files

from pyspark.sql import DataFrame

from recsys.recommenders.collaborative import COSINE, CollaborativeSettings, Measure
from recsys.recommenders.content import MetadataSettings
from recsys.recommenders.popularity import PopularitySettings
from recsys.shop.histories import HistorySettings


def known_events(events: DataFrame, as_of: int, settings: HistorySettings) -> DataFrame:
    """Return the events that are in the users' histories as of an instant (microseconds UTC).

    Args:
        events: Table `events`; the sale of each event must be in table `sales`.
        as_of: The instant; only events that occurred and were recorded strictly before it are known.
        settings: The window and the maximum number of events per user.
    """
    return _run_sql_file("known_events", {"as_of": as_of, **settings.model_dump()}, events=events)


def horizon_sales(sales: DataFrame, as_of: int, until: int) -> DataFrame:
    """Return the sales open at any instant of [as_of, until), microseconds."""
    return _run_sql_file("horizon_sales", {"as_of": as_of, "until": until}, sales=sales)


def user_weights(known_events: DataFrame, as_of: int, half_life_days: float, purchase_weight: float) -> DataFrame:
    """Return the weight of each sale in each user's history, above 0."""
    args = {"as_of": as_of, "half_life_days": half_life_days, "purchase_weight": purchase_weight}
    return _run_sql_file("user_weights", args, known_events=known_events)


def sale_similarities(
    known_events: DataFrame, targets: DataFrame, settings: CollaborativeSettings, measure: Measure = COSINE
) -> DataFrame:
    """Return the most similar sales of each target sale.

    Args:
        known_events: Columns `user_id` and `sale_id`; duplicates are counted once.
        targets: Column `sale_id`, distinct.
        settings: Shrinkage and number of neighbours.
        measure: The similarity measure: powers of the numbers of users in its denominator.
    """
    args = {"shrinkage": settings.shrinkage, "neighbours": settings.neighbours, **measure._asdict()}
    return _run_sql_file("sale_similarities", args, known_events=known_events, targets=targets)


def collaborative_scores(user_weights: DataFrame, sale_similarities: DataFrame) -> DataFrame:
    """Return the collaborative score of each user and sale; pairs without a row have score 0."""
    return _run_sql_file("collaborative_scores", {}, user_weights=user_weights, sale_similarities=sale_similarities)


def metadata_features(sales: DataFrame, settings: MetadataSettings) -> DataFrame:
    """Return each sale's attributes and price band as features."""
    return _run_sql_file("metadata_features", {"price_band_ratio": settings.price_band_ratio}, sales=sales)


def sale_profiles(sale_features: DataFrame, sales: DataFrame, until: int, min_sales: int = 1) -> DataFrame:
    """Return each sale's profile.

    Args:
        sale_features: Columns `sale_id`, `feature`, `occurrences`; one row per sale and feature, of any family.
        sales: Table `sales`.
        until: Sales that open at or after this instant, microseconds UTC, are not known.
        min_sales: Minimum number of known sales with a feature; rarer features are left out.
    """
    return _run_sql_file(
        "sale_profiles", {"until": until, "min_sales": min_sales}, sale_features=sale_features, sales=sales
    )


def user_profiles(user_weights: DataFrame, sale_profiles: DataFrame) -> DataFrame:
    """Return each user's profile."""
    return _run_sql_file("user_profiles", {}, user_weights=user_weights, sale_profiles=sale_profiles)


def content_scores(user_profiles: DataFrame, sale_profiles: DataFrame, targets: DataFrame) -> DataFrame:
    """Return the content-based score of each user and sale; pairs without a row have score 0."""
    return _run_sql_file(
        "content_scores", {}, user_profiles=user_profiles, sale_profiles=sale_profiles, targets=targets
    )


def taste_scores(
    user_weights: DataFrame, sale_features: DataFrame, targets: DataFrame, prior_events: float
) -> DataFrame:
    """Return the taste score of each user and target sale.

    Args:
        user_weights: From `user_weights`, with the half-life and the purchase weight of the same settings.
        sale_features: Columns `sale_id`, `feature`, `value`; only features in use, of known sales.
        targets: Column `sale_id`, distinct: the sales to score.
        prior_events: Strength of the prior, in visits at as_of.
    """
    args = {"prior_events": prior_events}
    return _run_sql_file("taste_scores", args, user_weights=user_weights, sale_features=sale_features, targets=targets)


def popularity_scores(
    known_events: DataFrame,
    sales: DataFrame,
    sale_features: DataFrame,
    targets: DataFrame,
    as_of: int,
    settings: PopularitySettings,
) -> DataFrame:
    """Return the popularity score of each target sale.

    Args:
        known_events: From `known_events`.
        sales: Table `sales`.
        sale_features: From `metadata_features`, one row per sale and feature.
        targets: Column `sale_id`, distinct: the sales to score.
        as_of: The instant, microseconds UTC.
        settings: Half-life, weight of a purchase, and prior.
    """
    return _run_sql_file(
        "popularity_scores",
        {"as_of": as_of, **settings.model_dump()},
        known_events=known_events,
        sales=sales,
        sale_features=sale_features,
        targets=targets,
    )


def _run_sql_file(table: str, args: dict[str, int | float], **frames: DataFrame) -> DataFrame:
    spark = next(iter(frames.values())).sparkSession
    query = (files("recsys.sql") / f"{table}.sql").read_text(encoding="utf-8")
    return spark.sql(query, args=args, **frames)
