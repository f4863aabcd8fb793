"""user_histories, fitted_recommenders, a meta-model → page_metrics: how well each policy ranked each page."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as f
from pyspark.sql.pandas.types import to_arrow_schema

from recsys.instants import DAY
from recsys.meta_model import MetaModel
from recsys.metrics import ranking_metrics, ranks
from recsys.pipeline.examples import BLOCK_USERS, bought_in_day, buyers_of_day, open_at, user_seeds
from recsys.pipeline.shop import Shop
from recsys.ranking.scorer import Scorer
from recsys.recommenders.own import bought_before
from recsys.shop.histories import Block, blocks
from recsys.tables.night import KNOWN_USERS, PAGE_METRICS

SHOWN = 10
"""Sales of a page that are looked at, as the names of the metrics say."""

Policies = Callable[[Block, int], Mapping[str, NDArray]]
"""Scores by policy, each of shape (n_users, n_horizon), for the users of a block as of an instant."""


def page_metrics(
    histories: DataFrame,
    shop: Shop,
    as_ofs: list[int],
    meta_models: Mapping[str, MetaModel],
    users_sampled: float = 1.0,
    seed: int = 0,
    new_only: bool = False,
) -> DataFrame:
    """Measure meta-models, by the name of their policy, and each recommender alone; see `ranked_pages`.

    Models were trained on earlier days, on all features or some.
    """

    def score(block: Block, as_of: int) -> Mapping[str, NDArray]:
        return _policies(shop.scorer(as_of), block, shop, meta_models)

    return ranked_pages(histories, shop, as_ofs, score, users_sampled, seed, new_only)


def ranked_pages(
    histories: DataFrame,
    shop: Shop,
    as_ofs: list[int],
    policies: Policies,
    users_sampled: float = 1.0,
    seed: int = 0,
    new_only: bool = False,
) -> DataFrame:
    """Measure policies on the purchases of the day from each instant.

    For each user who bought on that day, the sales open at his first purchase are ranked by what was known at the
    instant; relevant are those of them that he bought on that day. A user who bought none of them is left out.

    Args:
        histories: Table `user_histories`.
        shop: Where the recommenders fitted as of each instant are.
        as_ofs: Instants, microseconds.
        policies: What is measured.
        users_sampled: Share of the users looked at on each day, in (0, 1].
        seed: Seed of that sample.
        new_only: Neither rank nor count as relevant what the user had bought before the instant.

    Returns:
        Table `page_metrics`.
    """
    schema = to_arrow_schema(PAGE_METRICS.schema)

    def measure(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for block in blocks(batches, len(shop.catalogue), BLOCK_USERS):
            for as_of in as_ofs:
                for buyers in buyers_of_day(block, as_of):
                    sampled = user_seeds(buyers.user_ids, seed, as_of) < users_sampled * 2.0**64
                    rows = _measure(buyers.take(np.flatnonzero(sampled)), shop, as_of, policies, new_only)
                    yield pa.RecordBatch.from_pylist(rows, schema=schema)

    return histories.mapInArrow(measure, PAGE_METRICS.schema)


def _measure(block: Block, shop: Shop, as_of: int, policies: Policies, new_only: bool) -> list[dict]:
    if not len(block):
        return []
    candidates, relevant = candidates_and_relevant(block, shop, as_of, new_only)
    pages = _pages(block, shop, as_of, relevant)
    sales = shop.horizon(as_of).sales
    rows = []
    for policy, scores in policies(block, as_of).items():
        ranked = ranks(scores, candidates)
        rows += [page | {"policy": policy, **_ranking(ranked[user], page["bought"], sales)} for user, page in pages]
    return rows


def _pages(block: Block, shop: Shop, as_of: int, relevant: NDArray[np.bool_]) -> list[tuple[int, dict[str, Any]]]:
    """Return the row in the block of each user with a page, and what all policies' rows of it share."""
    user_ids, known = block.user_ids.to_pylist(), np.diff(block.as_of(as_of, shop.history).offsets).tolist()
    sales = shop.horizon(as_of).sales
    return [
        (
            user,
            {
                "as_of": as_of,
                "user_id": user_ids[user],
                "known_events": known[user],
                "bought": sales[relevant[user]].tolist(),
            },
        )
        for user in np.flatnonzero(relevant.any(axis=1)).tolist()
    ]


def _ranking(ranked: NDArray[np.int64], bought: list[int], sales: NDArray[np.int32]) -> dict[str, Any]:
    """Return how well a page is ranked, what it shows and where what was bought stands."""
    of_bought = ranked[np.searchsorted(sales, bought)]
    shown = np.flatnonzero((ranked > 0) & (ranked <= SHOWN))
    best_first = sales[shown[np.argsort(ranked[shown])]]
    return {"shown": best_first.tolist(), "ranks": of_bought.tolist(), **ranking_metrics(of_bought)}


def known_users(histories: DataFrame, shop: Shop, as_ofs: list[int]) -> DataFrame:
    """Count who had visited or bought each sale as of each instant, as table `known_users`."""
    schema = to_arrow_schema(KNOWN_USERS.schema)

    def count(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for block in blocks(batches, len(shop.catalogue), BLOCK_USERS):
            for as_of in as_ofs:
                users = np.bincount(block.as_of(as_of, shop.history).seen().indices, minlength=len(shop.catalogue))
                sales = np.flatnonzero(users)
                columns = [np.full(len(sales), as_of), sales.astype(np.int32), users[sales]]
                yield pa.RecordBatch.from_arrays([pa.array(each) for each in columns], schema=schema)

    counts = histories.mapInArrow(count, KNOWN_USERS.schema)
    return counts.groupBy("as_of", "sale").agg(f.sum("users").alias("users"))


def candidates_and_relevant(
    block: Block, shop: Shop, as_of: int, new_only: bool = False
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Tell which sales of the horizon are ranked on each user's page, and which of them he bought on that day.

    Args:
        block: Users who bought on the day from the instant.
        shop: The shop.
        as_of: The instant, microseconds.
        new_only: Leave out what the user had bought before the instant, however long ago.

    Returns:
        Two arrays of shape (n_users, n_horizon).
    """
    horizon = shop.horizon(as_of)
    candidates = open_at(shop, horizon.sales, first_purchases(block, as_of))
    if new_only:
        users, events = block.purchases_between(np.iinfo(np.int64).min, as_of)
        columns = horizon.columns(block.sales[events])
        candidates[users[columns >= 0], columns[columns >= 0]] = False
    return candidates, bought_in_day(block, as_of, len(shop.catalogue))[:, horizon.sales] & candidates


def first_purchases(block: Block, as_of: int) -> NDArray[np.int64]:
    """Return the moment of each user's first purchase of the day from an instant, shape (n_users,)."""
    users, events = block.purchases_between(as_of, as_of + DAY)
    _, first = np.unique(users, return_index=True)
    return block.occurred_at[events[first]]


def _policies(
    scorer: Scorer, block: Block, shop: Shop, meta_models: Mapping[str, MetaModel]
) -> dict[str, NDArray[np.float32]]:
    histories = block.as_of(scorer.horizon.as_of, shop.history)
    shape = (len(block), len(scorer.horizon))
    features = dict(zip(scorer.names, scorer.features(histories), strict=True))
    again = bought_before(histories, scorer.horizon)
    policies = {
        policy: model.log_odds([features[name] for name in model.features], shape, again)
        for policy, model in meta_models.items()
    }
    policies.update({name: scorer.score(name, histories) for name in scorer.names})
    return policies
