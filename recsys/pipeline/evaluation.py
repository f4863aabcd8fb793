"""user_histories, fitted_recommenders, a meta-model → page_metrics: how well each policy ranked each page."""

from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame

from recsys.histories import Block, blocks
from recsys.instants import DAY
from recsys.meta_model import MetaModel
from recsys.metrics import RANKING_METRICS, ranking_metrics, ranks
from recsys.pipeline.examples import BLOCK_USERS, bought_in_day, buyers_of_day, open_at, user_seeds
from recsys.pipeline.shop import Shop
from recsys.recommenders.own import bought_before
from recsys.scorer import Scorer


def page_metrics(
    histories: DataFrame,
    shop: Shop,
    as_ofs: list[int],
    meta_models: Mapping[str, MetaModel],
    users_sampled: float = 1.0,
    seed: int = 0,
    new_only: bool = False,
) -> DataFrame:
    """Measure meta-models and each recommender alone on the purchases of the day from each instant.

    For each user who bought on that day, the sales open at his first purchase are ranked by what was known at the
    instant; relevant are those of them that he bought on that day. A user who bought none of them is left out.

    Args:
        histories: Table `user_histories`.
        shop: Where the recommenders fitted as of each instant are.
        as_ofs: Instants, microseconds.
        meta_models: By the name of their policy; trained on earlier days, on all features or some.
        users_sampled: Share of the users looked at on each day, in (0, 1].
        seed: Seed of that sample.
        new_only: Neither rank nor count as relevant what the user had bought before the instant.
    """
    schema = pa.schema(
        [("as_of", pa.int64()), ("user_id", pa.string()), ("policy", pa.string())]
        + [(name, pa.float64()) for name in RANKING_METRICS]
    )
    metrics = ", ".join(f"`{name}` double" for name in RANKING_METRICS)

    def measure(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for block in blocks(batches, len(shop.catalogue), BLOCK_USERS):
            for as_of in as_ofs:
                for buyers in buyers_of_day(block, as_of):
                    sampled = user_seeds(buyers.user_ids, seed, as_of) < users_sampled * 2.0**64
                    rows = _measure(buyers.take(np.flatnonzero(sampled)), shop, as_of, meta_models, new_only)
                    yield pa.RecordBatch.from_pylist(rows, schema=schema)

    return histories.mapInArrow(measure, f"as_of long, user_id string, policy string, {metrics}")


def _measure(block: Block, shop: Shop, as_of: int, meta_models: Mapping[str, MetaModel], new_only: bool) -> list[dict]:
    if not len(block):
        return []
    scorer = shop.scorer(as_of)
    candidates, relevant = candidates_and_relevant(block, shop, as_of, new_only)
    user_ids = block.user_ids.to_pylist()
    rows = []
    for policy, scores in _policies(scorer, block, shop, meta_models).items():
        ranked = ranks(scores, candidates)
        rows += [
            {
                "as_of": as_of,
                "user_id": user_ids[user],
                "policy": policy,
                **ranking_metrics(ranked[user][relevant[user]]),
            }
            for user in np.flatnonzero(relevant.any(axis=1))
        ]
    return rows


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
