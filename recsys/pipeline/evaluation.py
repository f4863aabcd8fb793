"""user_histories, fitted_recommenders, a meta-model → page_metrics: ranking quality of each policy on each page."""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as f
from pyspark.sql.pandas.types import to_arrow_schema

from recsys.instants import DAY, from_micros
from recsys.meta_model import Cells, Features, MetaModel, probability
from recsys.metrics import NDCG, ranking_metrics, ranks
from recsys.pipeline.examples import BLOCK_USERS, bought_in_day, buyers_of_day, day_of, open_at, user_seeds
from recsys.pipeline.shop import Shop
from recsys.ranking.moments import quarters
from recsys.recommenders.own import bought_before
from recsys.shop.histories import Block, blocks
from recsys.snapshot.format import POPULARITY
from recsys.tables.night import KNOWN_USERS, PAGE_METRICS
from recsys.tables.spark_parts import PartTasks

SHOWN = 10
"""Number of sales at the top of a page that the metrics use, as in ndcg@10."""

NEW_NDCG, REPEAT_NDCG = f"new_{NDCG}", f"repeat_{NDCG}"

LIVE = "live_"
"""Before the name of a policy: the same policy by what all users did up to a moment before the page."""

Policies = Callable[[Block, int], Mapping[str, NDArray]]
"""Scores by policy, each of shape (n_users, n_horizon), for the users of a block as of an instant."""


def page_metrics(
    histories: DataFrame | PartTasks,
    shop: Shop,
    as_ofs: list[int],
    meta_models: Mapping[str, MetaModel],
    users_sampled: float = 1.0,
    seed: int = 0,
    new_only: bool = False,
    lag: int | None = None,
    recommenders: bool = True,
) -> DataFrame:
    """Measure meta-models, given by the name of their policy, and each recommender alone; see `ranked_pages`.

    The meta-models must have been trained on earlier days; they may use a subset of the features.

    Args:
        histories: Table `user_histories`.
        shop: The shop, with recommenders fitted as of each instant.
        as_ofs: Instants, microseconds UTC.
        meta_models: By policy.
        users_sampled: Share of the users sampled on each day, in (0, 1].
        seed: Seed of that sample.
        new_only: Leave out repeat purchases.
        lag: Also rank each page by the first meta-model, and by popularity, as the service does by day: with the
            features that are the same for all users as of this long before the session of the first purchase began,
            microseconds, see `Moments`. These are policies of their own, named by LIVE.
        recommenders: Whether to measure each recommender alone too.
    """
    best = dict(list(meta_models.items())[:1])

    def score(block: Block, as_of: int) -> Mapping[str, NDArray]:
        scorer, known = shop.scorer(as_of), block.as_of(as_of, shop.history)
        features, repeat = scorer.features(known), bought_before(known, scorer.horizon)
        scores = _log_odds(meta_models, scorer.names, features, repeat)
        if recommenders:
            scores |= {name: scorer.score(name, known) for name in scorer.names}
        if lag is not None:
            moments = quarters(block.session_starts()[_first_purchases(block, as_of)] - lag, as_of)
            live = shop.moments(as_of).update_pages(features, moments)
            scores |= {LIVE + policy: each for policy, each in _log_odds(best, scorer.names, live, repeat).items()}
            if POPULARITY in scorer.names:
                scores[LIVE + POPULARITY] = live[scorer.names.index(POPULARITY)]
        return scores

    of_live = {LIVE + policy: model for policy, model in best.items()}
    return ranked_pages(histories, shop, as_ofs, score, users_sampled, seed, new_only, {**meta_models, **of_live})


def _log_odds(
    meta_models: Mapping[str, MetaModel], names: list[str], features: Features, repeat: Cells
) -> dict[str, NDArray[np.float32]]:
    """Return the log-odds of each model, by policy, from features in the order of the names."""
    return {
        policy: model.log_odds(features[[names.index(name) for name in model.features]], repeat)
        for policy, model in meta_models.items()
    }


def ranked_pages(
    histories: DataFrame | PartTasks,
    shop: Shop,
    as_ofs: list[int],
    policies: Policies,
    users_sampled: float = 1.0,
    seed: int = 0,
    new_only: bool = False,
    meta_models: Mapping[str, MetaModel] = MappingProxyType({}),
) -> DataFrame:
    """Measure policies on the purchases of the 24 hours from each instant on, one page per user and instant.

    The page of a user who bought on that day ranks the sales that were open at the user's first purchase, by data known
    at the instant; relevant are those that the user bought on that day. Users without a relevant sale have no page.

    Args:
        histories: Table `user_histories`.
        shop: The shop, with recommenders fitted as of each instant.
        as_ofs: Instants, microseconds UTC.
        policies: Returns the scores of the policies to measure.
        users_sampled: Share of the users sampled on each day, in (0, 1].
        seed: Seed of that sample.
        new_only: Leave out repeat purchases: sales that the user bought before the instant are neither ranked nor
            relevant.
        meta_models: The models whose scores are log-odds, by policy; the purchases that they predict are measured too.

    Returns:
        Table `page_metrics`.
    """
    schema, models = to_arrow_schema(PAGE_METRICS.schema, timezone="UTC"), dict(meta_models)

    def measure(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for block in blocks(batches, len(shop.catalogue), BLOCK_USERS):
            for as_of in as_ofs:
                for buyers in buyers_of_day(block, as_of):
                    sampled = user_seeds(buyers.user_ids, seed, as_of) < users_sampled * 2.0**64
                    chosen = buyers.take(np.flatnonzero(sampled))
                    rows = measured_pages(chosen, shop, as_of, policies, new_only, models)
                    yield pa.RecordBatch.from_pylist(rows, schema=schema)

    return histories.mapInArrow(measure, PAGE_METRICS.schema)


def measured_pages(
    block: Block,
    shop: Shop,
    as_of: int,
    policies: Policies,
    new_only: bool,
    meta_models: Mapping[str, MetaModel] = MappingProxyType({}),
) -> list[dict[str, Any]]:
    """Return the rows of table `page_metrics` of users who bought on the day from an instant on; see `ranked_pages`."""
    if not len(block):
        return []
    candidates, relevant = candidates_and_relevant(block, shop, as_of, new_only)
    pages = _pages_of_users(block, shop, as_of, relevant)
    sale_ids = np.array(shop.catalogue.sale_ids, object)[shop.horizon(as_of).sales]
    repeat = np.zeros(candidates.shape, bool)
    repeat[bought_before(block.as_of(as_of, shop.history), shop.horizon(as_of))] = True
    repeat &= candidates
    rows = []
    for policy, scores in policies(block, as_of).items():
        ranked, has_order = ranks(scores, candidates), _scores_differ(scores, candidates)
        predicted = _predicted_purchases(meta_models.get(policy), scores, candidates, ranked)
        rows += [
            page
            | {"policy": policy, "has_order": bool(has_order[user])}
            | _measure_ranking(scores[user], ranked[user], relevant[user], sale_ids)
            | _ndcg_by_case(ranked[user], relevant[user], repeat[user])
            | {name: float(values[user]) for name, values in predicted.items()}
            for user, page in pages
        ]
    return rows


def _predicted_purchases(
    model: MetaModel | None, log_odds: NDArray[np.float32], candidates: NDArray[np.bool_], ranked: NDArray[np.int64]
) -> dict[str, NDArray[np.floating]]:
    """Return the columns of `page_metrics` on the probabilities of a model, each of shape (n_users,); none without."""
    if model is None:
        return {}
    said = model.calibrated(log_odds)
    shifts = model.shifts(said, candidates)
    probabilities = np.where(candidates, probability(said + shifts[:, None]), 0)
    shown = (ranked > 0) & (ranked <= SHOWN)
    return {
        "predicted": probabilities.sum(axis=1, dtype=np.float64),
        "predicted@10": (probabilities * shown).sum(axis=1, dtype=np.float64),
        "shift": shifts,
    }


def _scores_differ(scores: NDArray[np.float32], candidates: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return whether the candidates of each row have more than one score, shape (n_users,)."""
    lowest = np.where(candidates, scores, np.inf).min(axis=1, initial=np.inf)
    return np.where(candidates, scores, -np.inf).max(axis=1, initial=-np.inf) > lowest


def _pages_of_users(
    block: Block, shop: Shop, as_of: int, relevant: NDArray[np.bool_]
) -> list[tuple[int, dict[str, Any]]]:
    """Return, for each user with a page, their row in the block and the columns that are the same for all policies."""
    user_ids, known = block.user_ids.to_pylist(), np.diff(block.as_of(as_of, shop.history).offsets).tolist()
    moments = [from_micros(moment) for moment in first_purchases(block, as_of).tolist()]
    day = {"as_of": from_micros(as_of)}
    return [
        (user, day | {"user_id": user_ids[user], "known_events": known[user], "first_purchase_at": moments[user]})
        for user in np.flatnonzero(relevant.any(axis=1)).tolist()
    ]


def _measure_ranking(
    scores: NDArray[np.floating],
    ranked: NDArray[np.int64],
    relevant: NDArray[np.bool_],
    sale_ids: NDArray[np.object_],
) -> dict[str, Any]:
    """Return the metrics of a ranked page, the sales at its top, those that were bought and their ranks."""
    of_bought = ranked[relevant]
    shown = np.flatnonzero((ranked > 0) & (ranked <= SHOWN))
    best_first = shown[np.argsort(ranked[shown])]
    return {
        "shown": sale_ids[best_first].tolist(),
        "scores": scores[best_first].tolist(),
        "bought": sale_ids[relevant].tolist(),
        "ranks": of_bought.tolist(),
        **ranking_metrics(of_bought),
    }


def _ndcg_by_case(
    ranked: NDArray[np.int64], relevant: NDArray[np.bool_], repeat: NDArray[np.bool_]
) -> dict[str, float | None]:
    """Return the ndcg@10 of a page without repeat purchases, and of one of these only; None where none was bought.

    Args:
        ranked: Rank of each sale, 0 if it is not ranked, shape (n_sales,).
        relevant: Whether the user bought each sale, which is ranked.
        repeat: Whether each sale is ranked and the user had bought it before.
    """
    of_bought, is_repeat = ranked[relevant], repeat[relevant]
    repeats_above = np.searchsorted(np.sort(ranked[repeat]), of_bought)
    new, repeated = (of_bought - repeats_above)[~is_repeat], (repeats_above + 1)[is_repeat]
    return {
        NEW_NDCG: ranking_metrics(new)[NDCG] if len(new) else None,
        REPEAT_NDCG: ranking_metrics(repeated)[NDCG] if len(repeated) else None,
    }


def most_pages(events: DataFrame, as_ofs: list[int]) -> int:
    """Return the largest number of pages that `ranked_pages` can measure: buyers of each day, from its `events`."""
    purchases = events.where("kind = 'purchase'").select("user_id", day_of("occurred_at", as_ofs).alias("as_of"))
    return purchases.where("as_of is not null").distinct().count()


def known_users(histories: DataFrame | PartTasks, shop: Shop, as_ofs: list[int]) -> DataFrame:
    """Count the users with a known event of each sale as of each instant, as table `known_users`."""
    schema, sale_ids = to_arrow_schema(KNOWN_USERS.schema, timezone="UTC"), pa.array(shop.catalogue.sale_ids)

    def count(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for block in blocks(batches, len(shop.catalogue), BLOCK_USERS):
            for as_of in as_ofs:
                users = np.bincount(block.as_of(as_of, shop.history).seen().indices, minlength=len(shop.catalogue))
                sales = np.flatnonzero(users)
                instants = pa.repeat(pa.scalar(from_micros(as_of), schema.field("as_of").type), len(sales))
                yield pa.RecordBatch.from_arrays(
                    [instants, sale_ids.take(sales), pa.array(users[sales])], schema=schema
                )

    counts = histories.mapInArrow(count, KNOWN_USERS.schema)
    return counts.groupBy("as_of", "sale_id").agg(f.sum("users").alias("users"))


def candidates_and_relevant(
    block: Block, shop: Shop, as_of: int, new_only: bool = False
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which sales of the horizon are candidates of each user's page, and which of these are relevant.

    Args:
        block: Users who bought in the 24 hours from the instant on.
        shop: The shop.
        as_of: The instant, microseconds UTC.
        new_only: Leave out sales that the user bought before the instant, however long ago.

    Returns:
        Two arrays of shape (n_users, n_horizon): open at the user's first purchase of the day; and of these, bought on
        that day.
    """
    horizon = shop.horizon(as_of)
    candidates = open_at(shop, horizon.sales, first_purchases(block, as_of))
    if new_only:
        users, events = block.purchases_between(np.iinfo(np.int64).min, as_of)
        columns = horizon.columns(block.sales[events])
        candidates[users[columns >= 0], columns[columns >= 0]] = False
    return candidates, bought_in_day(block, as_of, len(shop.catalogue))[:, horizon.sales] & candidates


def first_purchases(block: Block, as_of: int) -> NDArray[np.int64]:
    """Return the time of each user's first purchase in the 24 hours from an instant on, microseconds, shape
    (n_users,)."""
    return block.occurred_at[_first_purchases(block, as_of)]


def _first_purchases(block: Block, as_of: int) -> NDArray[np.int64]:
    """Return the number of that event of each user."""
    users, events = block.purchases_between(as_of, as_of + DAY)
    _, first = np.unique(users, return_index=True)
    return events[first]
