"""user_histories → fitted_recommenders: statistics summed over users, for many instants in one pass."""

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame

from recsys.histories import blocks
from recsys.pipeline.shop import Shop
from recsys.scorer import pack
from recsys.tables import FITTED_RECOMMENDERS

BLOCK_USERS = 8192
PART_BYTES = 16 << 20
STATISTICS_BYTES = 512 << 20
"""A worker holds the statistics of as many instants as fit into this."""

_PARTS = pa.schema(
    [
        ("as_of", pa.int64()),
        ("recommender", pa.string()),
        ("statistic", pa.string()),
        ("part", pa.int32()),
        ("columns", pa.int64()),
        ("data", pa.binary()),
    ]
)
_PARTS_DDL = "as_of long, recommender string, statistic string, part int, columns long, data binary"
_MODELS = pa.schema([("as_of", pa.int64()), ("recommender", pa.string()), ("arrays", pa.binary())])


def fitted_recommenders(histories: DataFrame, shop: Shop, as_ofs: list[int]) -> DataFrame:
    """Fit every recommender as of each instant.

    Each worker sums the statistics of its users; the sums travel as rows of binary parts, are added up part by part,
    and one worker an instant and recommender fits the model.
    """
    frames = [_fit(histories, shop, some) for some in in_memory_groups(shop, as_ofs)]
    result = frames[0]
    for frame in frames[1:]:
        result = result.unionByName(frame)
    return FITTED_RECOMMENDERS.check(result)


def in_memory_groups(shop: Shop, as_ofs: list[int]) -> list[list[int]]:
    """Split instants into runs whose statistics fit into a worker's memory together, at least one each."""
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


def _fit(histories: DataFrame, shop: Shop, as_ofs: list[int]) -> DataFrame:
    def count(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield from _parts(_statistics(batches, shop, as_ofs))

    def add(parts: pa.Table) -> pa.Table:
        first = parts.slice(0, 1)
        total = sum(np.frombuffer(data.as_buffer(), np.float32) for data in parts["data"])
        return first.set_column(5, "data", pa.array([np.asarray(total, np.float32).tobytes()], pa.binary()))

    def fit(parts: pa.Table) -> pa.Table:
        return _fit_one(parts, shop)

    counted = histories.mapInArrow(count, _PARTS_DDL)
    added = counted.groupBy("as_of", "recommender", "statistic", "part").applyInArrow(add, _PARTS_DDL)
    return added.groupBy("as_of", "recommender").applyInArrow(fit, "as_of long, recommender string, arrays binary")


Sums = dict[tuple[int, str], dict[str, np.ndarray]]


def _statistics(batches: Iterable[pa.RecordBatch], shop: Shop, as_ofs: list[int]) -> Sums:
    horizons = [shop.horizon(as_of) for as_of in as_ofs]
    sums: Sums = {(as_of, each.name): {} for as_of in as_ofs for each in shop.recommenders}
    for block in blocks(batches, len(shop.catalogue), BLOCK_USERS):
        for horizon in horizons:
            histories = block.as_of(horizon.as_of, shop.history)
            for recommender in shop.recommenders:
                total = sums[horizon.as_of, recommender.name]
                for name, values in recommender.count(histories, horizon).items():
                    if name in total:
                        total[name] += values
                    else:
                        total[name] = values
    return sums


def _parts(sums: Sums) -> Iterator[pa.RecordBatch]:
    """Cut statistics into parts of whole rows; a recommender without statistics gets one empty part, to be fitted."""
    for (as_of, recommender), statistics in sums.items():
        for statistic, values in (statistics or {"": np.zeros(0, np.float32)}).items():
            columns = values.shape[1] if values.ndim == 2 else 0
            rows = max(1, PART_BYTES // (4 * max(columns, 1)))
            for part, start in enumerate(range(0, max(len(values), 1), rows)):
                data = np.ascontiguousarray(values[start : start + rows], np.float32).tobytes()
                row = [as_of, recommender, statistic, part, columns, data]
                yield pa.RecordBatch.from_arrays(
                    [pa.array([value], kind.type) for value, kind in zip(row, _PARTS, strict=True)],
                    schema=_PARTS,
                )


def _fit_one(parts: pa.Table, shop: Shop) -> pa.Table:
    as_of, name = parts["as_of"][0].as_py(), parts["recommender"][0].as_py()
    statistics: dict[str, list[np.ndarray]] = {}
    for row in parts.sort_by([("statistic", "ascending"), ("part", "ascending")]).to_pylist():
        values = np.frombuffer(row["data"], np.float32)
        shaped = values.reshape(-1, row["columns"]) if row["columns"] else values
        statistics.setdefault(row["statistic"], []).append(shaped)
    statistics.pop("", None)
    recommender = next(each for each in shop.recommenders if each.name == name)
    whole = {statistic: np.concatenate(values) for statistic, values in statistics.items()}
    model = recommender.fit(whole, shop.horizon(as_of))
    return pa.table({"as_of": [as_of], "recommender": [name], "arrays": [pack(model.arrays())]}, schema=_MODELS)
