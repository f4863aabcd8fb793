"""user_histories, fitted_recommenders, a meta-model → rankings: the best sales of the horizon for every user."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame

from recsys.config.pipeline import RankingSettings
from recsys.instants import SECOND
from recsys.meta_model import MetaModel
from recsys.pipeline.shop import Shop
from recsys.ranking.ranker import Ranker
from recsys.shop.histories import Histories, blocks
from recsys.tables.spark_parts import PartTasks

PAGE_CELLS = 60_000
"""Number of users times number of sales that are scored together: few enough for the features (80 bytes per cell) to
stay near the processor, and enough for the calls of compiled loops to cost little."""

_RANKING = {
    "sales": ("int", pa.int32()),
    "scores": ("float", pa.float32()),
    "reasons": ("smallint", pa.int16()),
    "covers": ("smallint", pa.int16()),
}
_HISTORY = {"sales": ("int", pa.int32()), "ages": ("int", pa.int32()), "purchases": ("boolean", pa.bool_())}


def rankings(
    histories: DataFrame | PartTasks,
    shop: Shop,
    as_of: int,
    meta_model: MetaModel | None,
    settings: RankingSettings,
    other_versions: Mapping[str, MetaModel] = MappingProxyType({}),
) -> DataFrame:
    """Rank the sales of the horizon for every user with an event in the history window.

    Args:
        histories: Table `user_histories`.
        shop: The shop, with recommenders fitted as of the instant.
        as_of: The instant, microseconds UTC.
        meta_model: The model that policy `meta` ranks by; None if the settings do not have this policy.
        settings: Policies and lengths of the lists; policies may include other versions of the meta-model.
        other_versions: The other versions, by their policy.

    Returns:
        One row per user. For each policy the lists `<policy>_sales` (positions in the horizon), `<policy>_scores`
        (log-odds for `meta`), `<policy>_reasons` (indices into `Scorer.reasons`) and `<policy>_covers` (number of the
        photo to show), best first, ties by sale. The user's latest events, latest last, as `history_sales` (positions
        in the catalogue), `history_ages` (seconds before as_of, rounded up) and `history_purchases`.
    """
    columns = [(f"{policy}_{name}", *kinds) for policy in settings.policies for name, kinds in _RANKING.items()]
    columns += [(f"history_{name}", *kinds) for name, kinds in _HISTORY.items()]
    ddl = "user_id string, " + ", ".join(f"`{name}` array<{kind}>" for name, kind, _ in columns)
    schema = pa.schema([("user_id", pa.string()), *[(name, pa.list_(kind)) for name, _, kind in columns]])
    versions = dict(other_versions)
    page_users = max(16, PAGE_CELLS // len(shop.horizon(as_of)))

    def rank(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        ranker = shop.ranker(as_of, meta_model, versions)
        for block in blocks(batches, len(shop.catalogue), page_users):
            known = block.as_of(as_of, shop.history)
            users = np.flatnonzero(np.diff(known.offsets))
            if len(users) < len(block):
                block = block.take(users)
                known = block.as_of(as_of, shop.history)
            if len(block):
                lists = [*ranked_lists(ranker, known, settings), *history_lists(known, settings.history_events)]
                yield pa.RecordBatch.from_arrays([block.user_ids, *lists], schema=schema)

    return histories.mapInArrow(rank, ddl)


def ranked_lists(ranker: Ranker, histories: Histories, settings: RankingSettings) -> Iterator[pa.ListArray]:
    """Yield four arrays per policy: the lists of sales, scores, reasons and photos to show, one list per user."""
    scored = ranker.scored(histories)
    for policy in settings.policies:
        best, scores = scored.best(policy, settings.top_k)
        yield _rows_to_lists(best.astype(np.int32))
        yield _rows_to_lists(scores)
        yield _rows_to_lists(scored.reasons(policy, best))
        yield _rows_to_lists(scored.covers(best))


def history_lists(histories: Histories, most: int) -> Iterator[pa.ListArray]:
    """Yield the sales, the ages (seconds) and whether they are purchases of each user's latest events, at most
    `most`."""
    lengths = np.diff(histories.offsets)
    from_last = np.repeat(histories.offsets[1:], lengths) - np.arange(len(histories.sales))
    is_recent = from_last <= most
    offsets = np.concatenate(([0], np.cumsum(np.minimum(lengths, most)))).astype(np.int32)
    # Rounded up: with age 0, an event less than a second before as_of would look like one of a running session.
    ages = -((histories.occurred_at[is_recent] - histories.as_of) // SECOND).astype(np.int32)
    for values in (histories.sales[is_recent], ages, histories.purchases[is_recent]):
        yield pa.ListArray.from_arrays(offsets, pa.array(values))


def _rows_to_lists(values: NDArray) -> pa.ListArray:
    offsets = np.arange(0, values.size + 1, values.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(offsets, np.ascontiguousarray(values).ravel())
