"""user_histories → fitted_recommenders: statistics summed over users, for many instants in one pass."""

from collections.abc import Collection, Iterable, Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame

from recsys.pipeline.shop import Shop
from recsys.ranking.refreshed import kept_statistics
from recsys.ranking.scorer import pack
from recsys.recommenders import Statistics
from recsys.recommenders.popularity import Popularity
from recsys.shop.histories import Histories, blocks
from recsys.tables.night import FITTED_RECOMMENDERS
from recsys.tables.spark_parts import PartTasks

BLOCK_USERS = 20_000
"""Number of users that are counted together: each count of pairs of sales is cleared and added up once per block."""
PART_BYTES = 4 << 20
"""Size in bytes, before compression, of the parts in which statistics are exchanged: Spark holds and sorts whole
rows."""
STATISTICS_BYTES = 512 << 20
"""Memory in bytes for the statistics in one worker; it limits the number of instants per pass."""

_PARTS = pa.schema(
    [
        ("as_of", pa.int64()),
        ("recommender", pa.string()),
        ("statistic", pa.string()),
        ("shape", pa.list_(pa.int64())),
        ("start", pa.int64()),  # first element of the part
        ("data", pa.binary()),
    ]
)
_PARTS_DDL = "as_of long, recommender string, statistic string, shape array<long>, start long, data binary"
_MODELS = pa.schema([("as_of", pa.int64()), ("recommender", pa.string()), ("arrays", pa.binary())])
_CODEC = "lz4"  # counts are mostly zeros: a tenth of the bytes, in a tenth of the time that sending them takes

Sums = dict[tuple[int, str], Statistics]


def fitted_recommenders(
    histories: DataFrame | PartTasks, shop: Shop, as_ofs: list[int], past: Collection[int] = ()
) -> DataFrame:
    """Return every recommender fitted as of each instant, as table `fitted_recommenders`.

    Each worker sums the statistics of its users; the sums are exchanged in compressed parts, and for each instant and
    kind of statistics one worker adds them up and fits the recommenders.

    Args:
        histories: Table `user_histories`.
        shop: The shop.
        as_ofs: Instants, microseconds UTC.
        past: Those of past days, whose pages are ranked as of their moments: popularity is also counted through the 24
            hours after each.
    """
    frames = [_fit_group(histories, shop, some, past) for some in in_memory_groups(shop, as_ofs)]
    result = frames[0]
    for frame in frames[1:]:
        result = result.unionByName(frame)
    return FITTED_RECOMMENDERS.check(result)


def in_memory_groups(shop: Shop, as_ofs: list[int]) -> list[list[int]]:
    """Split instants into groups of at least one, such that the statistics of a group fit into a worker's memory."""
    groups: list[list[int]] = []
    size = 0
    for as_of in as_ofs:
        needed = 4 * len(shop.catalogue) * (len(shop.horizon(as_of)) + 4)
        if not groups or size + needed > STATISTICS_BYTES:
            groups.append([])
            size = 0
        groups[-1].append(as_of)
        size += needed
    return groups


def _fit_group(histories: DataFrame | PartTasks, shop: Shop, as_ofs: list[int], past: Collection[int]) -> DataFrame:
    def count(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield from _cut_into_parts(_count_statistics(batches, shop, as_ofs, past))

    def fit(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield _fit_from_parts(batches, shop)

    counted = histories.mapInArrow(count, _PARTS_DDL)
    return counted.groupBy("as_of", "recommender").applyInArrow(fit, "as_of long, recommender string, arrays binary")


def _count_statistics(
    batches: Iterable[pa.RecordBatch], shop: Shop, as_ofs: list[int], past: Collection[int] = ()
) -> Sums:
    horizons = [shop.horizon(as_of) for as_of in as_ofs]
    counting = {each.counted_by: each for each in shop.recommenders}
    sums: Sums = {(as_of, name): {} for as_of in as_ofs for name in counting}
    for block in blocks(batches, len(shop.catalogue), BLOCK_USERS):
        for horizon in horizons:
            histories = block.as_of(horizon.as_of, shop.history)
            for name, recommender in counting.items():
                total = sums[horizon.as_of, name]
                _add_statistics(total, recommender.count(histories, horizon))
                if horizon.as_of in past and isinstance(recommender, Popularity):
                    _add_statistics(total, recommender.count_later(block, horizon))
    return sums


def _add_statistics(total: Statistics, more: Statistics) -> None:
    for name, values in more.items():
        if name in total:
            total[name] += values
        else:
            total[name] = values


def _cut_into_parts(sums: Sums) -> Iterator[pa.RecordBatch]:
    """Yield statistics in parts; a recommender without statistics gets one empty part, so that it is fitted too."""
    step = PART_BYTES // 4
    for (as_of, recommender), statistics in sums.items():
        for statistic, values in (statistics or {"": np.zeros(0, np.float32)}).items():
            flat = np.ascontiguousarray(values, np.float32).ravel()
            for start in range(0, max(len(flat), 1), step):
                data = pa.compress(flat[start : start + step], _CODEC, asbytes=True) if len(flat) else b""
                row = [as_of, recommender, statistic, list(values.shape), start, data]
                yield pa.RecordBatch.from_arrays(
                    [pa.array([value], kind.type) for value, kind in zip(row, _PARTS, strict=True)], schema=_PARTS
                )


def _fit_from_parts(batches: Iterable[pa.RecordBatch], shop: Shop) -> pa.RecordBatch:
    as_of, name = 0, ""
    statistics: dict[str, NDArray[np.float64]] = {}
    for row in (row for batch in batches for row in batch.to_pylist()):
        as_of, name = row["as_of"], row["recommender"]
        if row["statistic"]:
            _add_part(statistics, row)
    horizon = shop.horizon(as_of)
    sums = {statistic: values.astype(np.float32) for statistic, values in statistics.items()}
    if not sums:  # nobody has a history yet, or the recommender counts nothing
        counting = next(each for each in shop.recommenders if each.counted_by == name)
        sums = counting.count(Histories.of_unknown_user(as_of, len(shop.catalogue)), horizon)
    kept = kept_statistics(sums)
    fitted = {
        each.name: pack({**each.fit(sums, horizon).arrays(), **kept})
        for each in shop.recommenders
        if each.counted_by == name
    }
    return pa.RecordBatch.from_pydict(
        {"as_of": [as_of] * len(fitted), "recommender": list(fitted), "arrays": list(fitted.values())}, schema=_MODELS
    )


def _add_part(statistics: dict[str, NDArray[np.float64]], row: dict) -> None:
    # Parts arrive in any order; the float64 sum, rounded to float32, does not depend on it.
    total = statistics.setdefault(row["statistic"], np.zeros(row["shape"])).reshape(-1)
    length = min(PART_BYTES // 4, len(total) - row["start"])
    part = pa.decompress(row["data"], 4 * length, _CODEC)
    total[row["start"] : row["start"] + length] += np.frombuffer(part, np.float32)
