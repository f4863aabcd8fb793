"""user_histories, users → segment_rankings: popularity among the users with a given value of an attribute."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as f

from recsys.config.pipeline import SegmentSettings
from recsys.pipeline.shop import Shop
from recsys.ranking.ranker import top
from recsys.recommenders import Recommender
from recsys.shop.histories import Block, Histories
from recsys.snapshot.format import POPULARITY, Ranking
from recsys.storage.outputs import Outputs
from recsys.tables.night import SEGMENT_RANKINGS
from recsys.tables.parts import read_arrow

_SUMS = pa.schema(
    [("attribute", pa.string()), ("value", pa.string()), ("events", pa.int64()), ("weights", pa.binary())]
)
_SUMS_DDL = "attribute string, value string, events long, weights binary"

Values = Mapping[str, list[str]]
"""The values of each attribute that define segments."""


class Segment(NamedTuple):
    """The users with a given value of an attribute."""

    attribute: str
    value: str


EVERYONE = Segment("", "")
"""All users of the shop, including those without attributes."""


@dataclass
class _Sum:
    """Number of events of a group of users, and the sum of their decayed weights per sale."""

    events: int = 0
    weights: NDArray[np.float64] = field(
        default_factory=lambda: np.zeros(1)
    )  # shape (n_sales,) after the first addition

    def add(self, events: int, weights: NDArray[np.floating[Any]]) -> None:
        self.events += events
        self.weights = self.weights + weights


_Sums = defaultdict[Segment, _Sum]


def ranked_segments(
    histories: DataFrame, users: DataFrame, shop: Shop, as_of: int, settings: SegmentSettings
) -> pd.DataFrame:
    """Rank the sales of the horizon for each segment by their popularity among its users.

    The events of a segment are shrunk towards those of the shop before rates are computed; sale j gets
    events(j) + prior_events * shop_events(j) / sum of shop_events, each event decayed as in `Popularity`.

    Args:
        histories: Table `user_histories`.
        users: Table `users`; it has no times, so attributes are taken as known at any instant.
        shop: The run's tables.
        as_of: The instant, microseconds UTC; only events known before it are used.
        settings: The segments, the prior and the length of the rankings.

    Returns:
        Rows of table `segment_rankings`: attributes in the order of the settings, values with the most users first.

    Source:
        Zhai & Lafferty 2004, sec. 2, Dirichlet prior; the segment is the document, the shop the collection. Unlike
        there, the shrunk counts are turned into rates per day open, which are smoothed towards those of the sales'
        attributes.
    """
    values = frequent_values(users, settings)
    sums = _sum_events(histories, users, values, shop, as_of) if values else _Sums(_Sum)
    rows = [
        {**segment._asdict(), "events": sums[segment].events, **ranking._asdict()}
        for segment, ranking in _rank_segments(values, sums, shop, as_of, settings)
    ]
    return pd.DataFrame(rows, columns=list(SEGMENT_RANKINGS.columns))


def segment_rankings(outputs: Outputs) -> dict[str, dict[str, Ranking]]:
    """Return table `segment_rankings` of a run as rankings by attribute and value.

    Returns:
        For each attribute with a ranking, in the configured order, the ranking of each value; sales by their position
        in the horizon.
    """
    found: dict[str, dict[str, Ranking]] = {}
    for row in read_arrow(outputs / SEGMENT_RANKINGS.name).to_pylist():
        sales, scores = np.array(row["sales"], np.int32), np.array(row["scores"], np.float32)
        ranking = Ranking(sales, scores, np.array(row["reasons"], np.uint8))
        found.setdefault(row["attribute"], {})[row["value"]] = ranking
    return found


def frequent_values(users: DataFrame, settings: SegmentSettings) -> dict[str, list[str]]:
    """Return each attribute's values with the most users, at most `max_values`, most first, ties by value.

    Empty values are ignored; attributes without values are left out.
    """
    if not settings.attributes:
        return {}
    exploded = users.select(f.explode("attributes").alias("attribute", "value"))
    wanted = exploded.where(f.col("attribute").isin(*settings.attributes) & (f.col("value") != ""))
    number = f.row_number().over(Window.partitionBy("attribute").orderBy(f.desc("count"), "value"))
    counted = wanted.groupBy("attribute", "value").count().withColumn("number", number)
    rows = sorted(counted.where(f.col("number") <= settings.max_values).collect(), key=itemgetter("number"))
    values = {name: [row["value"] for row in rows if row["attribute"] == name] for name in settings.attributes}
    return {name: some for name, some in values.items() if some}


def _sum_events(histories: DataFrame, users: DataFrame, values: Values, shop: Shop, as_of: int) -> _Sums:
    def count(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield _sums_to_batch(_count_batches(batches, values, shop, as_of))

    def add(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield _sums_to_batch(_add_sums(row for batch in batches for row in batch.to_pylist()))

    columns = [f.try_element_at("attributes", f.lit(name)).alias(f"value_{n}") for n, name in enumerate(values)]
    joined = histories.join(users.select("user_id", *columns), on="user_id", how="left")
    parts = joined.mapInArrow(count, _SUMS_DDL)
    whole = parts.groupBy("attribute", "value").applyInArrow(add, _SUMS_DDL)
    return _add_sums(row.asDict() for row in whole.collect())


def _count_batches(batches: Iterable[pa.RecordBatch], values: Values, shop: Shop, as_of: int) -> _Sums:
    popularity, horizon = _popularity_recommender(shop), shop.horizon(as_of)
    sums = _Sums(_Sum)
    for batch in (each for each in batches if each.num_rows):
        block = Block.from_batch(batch, len(shop.catalogue))
        for segment, rows in _rows_by_segment(batch, values):
            known = block.take(rows).as_of(as_of, shop.history)
            sums[segment].add(len(known.sales), popularity.count(known, horizon)["events"])
    return sums


def _rows_by_segment(batch: pa.RecordBatch, values: Values) -> Iterator[tuple[Segment, NDArray[np.int64]]]:
    """Yield each segment with users in a batch, and the rows of these users."""
    yield EVERYONE, np.arange(batch.num_rows)
    for number, (attribute, known) in enumerate(values.items()):
        column = batch.column(f"value_{number}")
        codes = pc.index_in(column, pa.array(known, column.type)).fill_null(-1).to_numpy(zero_copy_only=False)
        for code in np.unique(codes[codes >= 0]):
            yield Segment(attribute, known[code]), np.flatnonzero(codes == code)


def _sums_to_batch(sums: _Sums) -> pa.RecordBatch:
    rows = [
        {**segment._asdict(), "events": each.events, "weights": each.weights.tobytes()}
        for segment, each in sums.items()
    ]
    return pa.RecordBatch.from_pylist(rows, _SUMS)


def _add_sums(rows: Iterable[Mapping[str, Any]]) -> _Sums:
    sums = _Sums(_Sum)
    for row in rows:
        sums[Segment(row["attribute"], row["value"])].add(row["events"], np.frombuffer(row["weights"]))
    return sums


def _rank_segments(
    values: Values, sums: _Sums, shop: Shop, as_of: int, settings: SegmentSettings
) -> Iterator[tuple[Segment, Ranking]]:
    popularity, horizon = _popularity_recommender(shop), shop.horizon(as_of)
    code = [each.name for each in shop.recommenders].index(POPULARITY)
    nobody = Histories.of_unknown_user(as_of, len(shop.catalogue))
    in_shop = sums[EVERYONE].weights
    prior = settings.prior_events * in_shop / max(in_shop.sum(), np.finfo(float).tiny)
    for segment in (Segment(attribute, value) for attribute, some in values.items() for value in some):
        if sums[segment].events < settings.min_events:
            continue
        weights = (sums[segment].weights + prior).astype(np.float32)
        scores = popularity.fit({"events": weights}, horizon).score(nobody)
        best = top(scores, settings.top_k)[0]
        yield segment, Ranking(best.astype(np.int32), scores[0][best], np.full(len(best), code, np.uint8))


def _popularity_recommender(shop: Shop) -> Recommender:
    return next(each for each in shop.recommenders if each.name == POPULARITY)
