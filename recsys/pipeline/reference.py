"""The recommenders as published, in SQL: joins that say what is computed, where the fast path says how.

Tests hold the fast path to these on random data and benchmarks measure it against them; no job runs them. Each
function runs the file of its name in recsys/sql.
"""

from importlib.resources import files

from pyspark.sql import DataFrame

from recsys.recommenders.collaborative import COSINE, CollaborativeSettings, Measure
from recsys.recommenders.content import MetadataSettings
from recsys.recommenders.popularity import PopularitySettings
from recsys.shop.histories import HistorySettings


def known_events(events: DataFrame, as_of: int, settings: HistorySettings) -> DataFrame:
    """Return the events that histories as of an instant (microseconds) hold.

    Args:
        events: Table `events`, each event's sale in table `sales`.
        as_of: Only events that occurred and were recorded strictly before it are known.
        settings: Which of them are looked at.
    """
    return _select("known_events", {"as_of": as_of, **settings.model_dump()}, events=events)


def horizon_sales(sales: DataFrame, as_of: int, until: int) -> DataFrame:
    """Return the sales open at any instant of [as_of, until), microseconds."""
    return _select("horizon_sales", {"as_of": as_of, "until": until}, sales=sales)


def user_weights(known_events: DataFrame, as_of: int, half_life_days: float, purchase_weight: float) -> DataFrame:
    """Return the weight of each sale in each user's history."""
    args = {"as_of": as_of, "half_life_days": half_life_days, "purchase_weight": purchase_weight}
    return _select("user_weights", args, known_events=known_events)


def sale_similarities(
    known_events: DataFrame, targets: DataFrame, settings: CollaborativeSettings, measure: Measure = COSINE
) -> DataFrame:
    """Return the most similar sales of each target.

    Args:
        known_events: Columns `user_id` and `sale_id` are looked at, duplicates counted once.
        targets: Column `sale_id`, distinct.
        settings: Shrinkage and number of neighbours.
        measure: What the users of both are divided by.
    """
    args = {"shrinkage": settings.shrinkage, "neighbours": settings.neighbours, **measure._asdict()}
    return _select("sale_similarities", args, known_events=known_events, targets=targets)


def collaborative_scores(user_weights: DataFrame, sale_similarities: DataFrame) -> DataFrame:
    """Return collaborative scores; a user and sale without a row have 0."""
    return _select("collaborative_scores", {}, user_weights=user_weights, sale_similarities=sale_similarities)


def metadata_features(sales: DataFrame, settings: MetadataSettings) -> DataFrame:
    """Return each sale's attributes and price band as features."""
    return _select("metadata_features", {"price_band_ratio": settings.price_band_ratio}, sales=sales)


def sale_profiles(sale_features: DataFrame, sales: DataFrame, until: int, min_sales: int = 1) -> DataFrame:
    """Return each sale's profile.

    Args:
        sale_features: Columns `sale_id`, `feature`, `occurrences`; one row a sale and feature, of any family.
        sales: Table `sales`.
        until: Sales that open from this instant on, microseconds, are not known.
        min_sales: A feature that fewer known sales have is left out.
    """
    return _select("sale_profiles", {"until": until, "min_sales": min_sales}, sale_features=sale_features, sales=sales)


def user_profiles(user_weights: DataFrame, sale_profiles: DataFrame) -> DataFrame:
    """Return each user's profile."""
    return _select("user_profiles", {}, user_weights=user_weights, sale_profiles=sale_profiles)


def content_scores(user_profiles: DataFrame, sale_profiles: DataFrame, targets: DataFrame) -> DataFrame:
    """Return content-based scores; a user and sale without a row have 0."""
    return _select("content_scores", {}, user_profiles=user_profiles, sale_profiles=sale_profiles, targets=targets)


def taste_scores(
    user_weights: DataFrame, sale_features: DataFrame, targets: DataFrame, prior_events: float
) -> DataFrame:
    """Return taste scores.

    Args:
        user_weights: Weights by the half life and the purchase weight of the same settings.
        sale_features: Columns `sale_id`, `feature`, `value`; features of sales that are known, and that count.
        targets: Column `sale_id`, distinct: the sales that get a score.
        prior_events: As in the settings.
    """
    args = {"prior_events": prior_events}
    return _select("taste_scores", args, user_weights=user_weights, sale_features=sale_features, targets=targets)


def popularity_scores(
    user_weights: DataFrame,
    sales: DataFrame,
    sale_features: DataFrame,
    targets: DataFrame,
    as_of: int,
    settings: PopularitySettings,
) -> DataFrame:
    """Return popularity scores.

    Args:
        user_weights: Weights by the half life and the purchase weight of the same settings.
        sales: Table `sales`.
        sale_features: The metadata features, one row a sale and feature.
        targets: Column `sale_id`, distinct: the sales that get a score.
        as_of: Microseconds.
        settings: Half life and prior.
    """
    return _select(
        "popularity_scores",
        {"as_of": as_of, "half_life_days": settings.half_life_days, "prior_days": settings.prior_days},
        user_weights=user_weights,
        sales=sales,
        sale_features=sale_features,
        targets=targets,
    )


def _select(table: str, args: dict[str, int | float], **frames: DataFrame) -> DataFrame:
    spark = next(iter(frames.values())).sparkSession
    query = (files("recsys.sql") / f"{table}.sql").read_text(encoding="utf-8")
    return spark.sql(query, args=args, **frames)
