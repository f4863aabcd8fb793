"""user_histories, fitted_recommenders → training_examples: purchases, and sales that were open but not bought."""

import zlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as f

from recsys.instants import DAY, LATEST
from recsys.meta_model import MetaModelSettings
from recsys.pipeline.impressions import Impressions
from recsys.pipeline.shop import Shop
from recsys.ranking.moments import quarters
from recsys.recommenders.own import bought_before
from recsys.shop.histories import Block, blocks
from recsys.tables.spark_parts import PartTasks

BLOCK_USERS = 8192
PAGE_USERS = 128
"""Number of users that are scored together; few enough for the features of a large shop to stay in the CPU cache."""
BUCKETS = 4096
"""Number of groups of users that examples are sampled by, see `bucket_of_user`."""


def training_examples(
    histories: DataFrame | PartTasks, shop: Shop, as_ofs: list[int], settings: MetaModelSettings
) -> DataFrame:
    """Return examples of the purchases in the 24 hours from each instant on.

    Personal features are as of that instant. The features that are the same for all users are, by `settings.moments`,
    as of it too, or as of the quarter of an hour in which the session of the purchase began: as the service ranks the
    page with which the session began. So nothing of the session itself is in the features, neither the visits that led
    to the purchase nor those of other users in the meantime.

    Positive examples are purchases of open sales. Negative examples are sales that the user did not buy on that day:
    for each purchase at most `negatives` sales, sampled from those open at that moment, and all sales open at that
    moment that a page of the day showed to the user, as a rejected sale says more than one that was not seen. The
    sample depends only on seed, user, instant and sale.

    Args:
        histories: Table `user_histories`; if pages are logged, with at least those of these days, see
            `with_impressions`.
        shop: The shop, with recommenders fitted as of each instant.
        as_ofs: Instants, microseconds UTC.
        settings: The number of negatives, and the seed.
    """
    names = [recommender.name for recommender in shop.recommenders]
    schema = pa.schema(
        [
            ("as_of", pa.int64()),
            ("user_id", pa.string()),
            ("sale_id", pa.string()),
            ("bought", pa.bool_()),
            ("sampling_rate", pa.float64()),
            ("repeat", pa.bool_()),
            ("position", pa.int32()),
            *[(name, pa.float32()) for name in names],
        ]
    )
    features = ", ".join(f"{name} float" for name in names)

    def make_examples(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            shown = Impressions.from_batch(batch, shop.catalogue)
            for block in blocks([batch], len(shop.catalogue), BLOCK_USERS):
                for as_of in as_ofs:
                    for buyers in buyers_of_day(block, as_of):
                        yield _examples_of_block(buyers, shop, as_of, settings, shown, schema)

    ddl = "as_of long, user_id string, sale_id string, bought boolean, sampling_rate double, repeat boolean, "
    ddl += "position int, "
    return histories.mapInArrow(make_examples, ddl + features)


def bucket_of_user(seed: int) -> Column:
    """Return the pseudorandom group of column `user_id`, in [0, BUCKETS), that depends on the id and the seed only."""
    # The constant: towers draw their users by the hash of the seed and the id.
    return f.pmod(f.xxhash64(f.lit("examples"), f.lit(seed), "user_id"), f.lit(BUCKETS))


def most_examples(
    events: DataFrame, as_ofs: Sequence[int], settings: MetaModelSettings, exposures: DataFrame | None = None
) -> dict[int, int]:
    """Return the largest number of examples that each bucket's users can have; see `training_examples`.

    Each purchase has at most `negatives` examples besides its own, and each sale that a page showed to a buyer on the
    day is one. Counting this costs a fraction of the examples.

    Args:
        events: Table `events`, with at least those of the 24 hours from each instant on.
        as_ofs: Instants, microseconds UTC.
        settings: The number of negatives, and the seed.
        exposures: Table `exposures_compacted` with at least the pages of those days; None if no page is logged.

    Returns:
        By bucket; without those of no purchase.
    """
    key = ["as_of", "user_id"]
    purchases = events.where("kind = 'purchase'").withColumn("as_of", day_of("occurred_at", as_ofs))
    most = purchases.where("as_of is not null").groupBy(*key).agg(f.count("*") * (1 + settings.negatives))
    most = most.toDF(*key, "most")
    if exposures is not None:
        pages = exposures.withColumn("as_of", day_of("exposed_at", as_ofs)).where("as_of is not null")
        shown = pages.groupBy(*key).agg(f.size(f.array_distinct(f.flatten(f.collect_list("sale_ids")))))
        most = most.join(shown.toDF(*key, "shown"), on=key, how="left")
        most = most.withColumn("most", f.col("most") + f.coalesce("shown", f.lit(0)))
    bucket = bucket_of_user(settings.seed).alias("bucket")
    return {row["bucket"]: row["most"] for row in most.groupBy(bucket).agg(f.sum("most").alias("most")).collect()}


def buckets_within(most: Mapping[int, int], bound: int) -> int:
    """Return how many buckets, from 0 on, have at most `bound` examples together: BUCKETS if all have."""
    totals = np.cumsum([most.get(bucket, 0) for bucket in range(BUCKETS)])
    return int(np.searchsorted(totals, bound, side="right"))


def day_of(column: str, as_ofs: Sequence[int]) -> Column:
    """Return that of the instants in whose 24 hours a timestamp is; null if there is none."""
    moment = f.unix_micros(column)
    return f.coalesce(*(f.when((moment >= as_of) & (moment < as_of + DAY), f.lit(as_of)) for as_of in as_ofs))


def buyers_of_day(block: Block, as_of: int) -> Iterator[Block]:
    """Yield the users of a block with a purchase in the 24 hours from an instant on, at most PAGE_USERS at a time."""
    users, _ = block.purchases_between(as_of, as_of + DAY)
    buyers = np.unique(users)
    for start in range(0, len(buyers), PAGE_USERS):
        yield block.take(buyers[start : start + PAGE_USERS])


def bought_in_day(block: Block, as_of: int, n_sales: int) -> NDArray[np.bool_]:
    """Return which sales each user bought in the 24 hours from an instant on, shape (n_users, n_sales)."""
    users, events = block.purchases_between(as_of, as_of + DAY)
    bought = np.zeros((len(block), n_sales), bool)
    bought[users, block.sales[events]] = True
    return bought


def _examples_of_block(
    block: Block, shop: Shop, as_of: int, settings: MetaModelSettings, shown: Impressions, schema: pa.Schema
) -> pa.RecordBatch:
    scorer = shop.scorer(as_of)
    position_features = shown.positions(block.user_ids, scorer.horizon)
    bought, drawn, rates, moments = sample_page(block, shop, as_of, settings, position_features > 0)
    users, columns = np.nonzero(bought | drawn)
    labels = bought[users, columns]
    histories = block.as_of(as_of, shop.history)
    repeat = np.zeros(bought.shape, bool)
    repeat[bought_before(histories, scorer.horizon)] = True
    features = scorer.features(histories)[:, users, columns]
    if settings.moments == "session":
        features = shop.moments(as_of).update_cells(features, columns, quarters(moments[users, columns], as_of))
    values = [
        np.full(len(users), as_of),
        block.user_ids.take(pa.array(users)),
        np.asarray(shop.catalogue.sale_ids, object)[scorer.horizon.sales[columns]],
        labels,
        np.where(labels | (position_features > 0)[users, columns], 1.0, rates[users]),
        repeat[users, columns],
        position_features[users, columns],
        *features,
    ]
    arrays = [pa.array(value, kind.type) for value, kind in zip(values, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def sample_page(
    block: Block,
    shop: Shop,
    as_of: int,
    settings: MetaModelSettings,
    shown: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.float64], NDArray[np.int64]]:
    """Sample the examples of each user of a block for the 24 hours from an instant on.

    Args:
        block: Users who bought on the day.
        shop: The shop.
        as_of: The instant, microseconds UTC.
        settings: The number of negatives per purchase, and the seed.
        shown: Which sales of the horizon a page of the day showed to each user, shape (n_users, n_horizon).

    Returns:
        Positive examples, sales bought while open, shape (n_users, n_horizon); negative examples, of the same shape:
        open sales that were shown and not bought, and a sample of those neither shown nor bought; each user's sampling
        rate, the share of the latter that was sampled, shape (n_users,); and for each example when the session of its
        purchase began, the first one of several, or for a sale that was only shown, that of the user's first purchase
        of the day: microseconds, shape (n_users, n_horizon).
    """
    horizon = shop.horizon(as_of)
    users, events = _purchases_while_open(block, shop, as_of)
    columns, sessions = horizon.columns(block.sales[events]), block.session_starts()[events]
    is_open = open_at(shop, horizon.sales, block.occurred_at[events])
    not_bought = is_open & ~bought_in_day(block, as_of, len(shop.catalogue))[:, horizon.sales][users]
    seen = np.zeros((len(block), len(horizon)), bool) if shown is None else shown
    candidates = not_bought & ~seen[users]
    keys = _random_keys(user_seeds(block.user_ids, settings.seed, as_of)[users], columns, horizon.sales)
    keys[~candidates] = np.iinfo(np.uint64).max
    smallest = np.argpartition(keys, min(settings.negatives, len(horizon)) - 1, axis=1)[:, : settings.negatives]

    shape = (len(block), len(horizon))
    bought, drawn, available = np.zeros(shape, bool), np.zeros(shape, bool), np.zeros(shape, bool)
    bought[users, columns] = True
    drawn[users[:, None], smallest] = True
    np.logical_or.at(available, users, candidates)
    drawn &= available
    rates = drawn.sum(axis=1) / np.maximum(available.sum(axis=1), 1)
    np.logical_or.at(drawn, users, not_bought & seen[users])

    moments = np.full(shape, LATEST)
    purchases, places = np.nonzero(np.take_along_axis(candidates, smallest, axis=1))
    np.minimum.at(moments, (users[purchases], smallest[purchases, places]), sessions[purchases])
    np.minimum.at(moments, (users, columns), sessions)
    first = np.full(len(block), LATEST)
    np.minimum.at(first, users, sessions)
    moments = np.where(moments < LATEST, moments, first[:, None])
    return bought, drawn, rates, moments


def open_at(shop: Shop, sales: NDArray[np.int32], moments: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which of the sales are open at each moment (microseconds), shape (n_moments, n_sales)."""
    opens, closes = shop.catalogue.opens_at[sales], shop.catalogue.closes_at[sales]
    return (opens <= moments[:, None]) & (closes > moments[:, None])


def user_seeds(user_ids: pa.StringArray, seed: int, as_of: int) -> NDArray[np.uint64]:
    """Return a pseudorandom number for each user that depends only on their id, the seed and the instant."""
    hashes = np.fromiter((zlib.crc32(user_id.encode()) for user_id in user_ids.to_pylist()), np.uint64, len(user_ids))
    return _splitmix64(hashes ^ _splitmix64(np.array([seed, as_of], np.int64).view(np.uint64))[0] ^ np.uint64(as_of))


def _purchases_while_open(block: Block, shop: Shop, as_of: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the user's row and the number of each purchase of an open sale on the day."""
    users, events = block.purchases_between(as_of, as_of + DAY)
    sales, moments = block.sales[events], block.occurred_at[events]
    is_open = (shop.catalogue.opens_at[sales] <= moments) & (shop.catalogue.closes_at[sales] > moments)
    return users[is_open], events[is_open]


def _random_keys(seeds: NDArray[np.uint64], columns: NDArray[np.int64], sales: NDArray[np.int32]) -> NDArray[np.uint64]:
    """Return a pseudorandom number for each purchase and sale, shape (n_purchases, n_sales)."""
    purchases = _splitmix64(seeds + columns.astype(np.uint64))
    return _splitmix64(purchases[:, None] ^ _splitmix64(sales.astype(np.uint64))[None, :])


def _splitmix64(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Hash 64-bit numbers by splitmix64, Steele et al. 2014."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
