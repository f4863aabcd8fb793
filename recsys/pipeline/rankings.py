"""user_histories, fitted_recommenders, a meta-model → rankings: every user against every sale of the horizon."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame

from recsys.histories import Histories, blocks
from recsys.images.covers import Covers
from recsys.meta_model import MetaModel, probability
from recsys.pipeline.settings import META, RankingSettings
from recsys.pipeline.shop import Shop
from recsys.recommenders.content import IMAGES, ContentModel
from recsys.scorer import Scorer
from recsys.snapshot import Ranking

PAGE_CELLS = 200_000
"""Users times sales scored together: the arrays of a page stay in the processor's cache."""


def rankings(
    histories: DataFrame, shop: Shop, as_of: int, meta_model: MetaModel, settings: RankingSettings
) -> DataFrame:
    """Rank the sales of the horizon for every user with an event in the history window.

    Returns:
        One row a user; for each policy lists `<policy>_sales` (positions in the horizon), `<policy>_scores`,
        `<policy>_reasons` (numbers in `Scorer.reasons`) and `<policy>_covers` (which of the sale's photos to show),
        best first, ties by sale.
    """
    lists = {
        "sales": ("int", pa.int32()),
        "scores": ("float", pa.float32()),
        "reasons": ("smallint", pa.int16()),
        "covers": ("smallint", pa.int16()),
    }
    columns = [(f"{policy}_{name}", *kinds) for policy in settings.policies for name, kinds in lists.items()]
    ddl = "user_id string, " + ", ".join(f"{name} array<{kind}>" for name, kind, _ in columns)
    schema = pa.schema([("user_id", pa.string()), *[(name, pa.list_(kind)) for name, _, kind in columns]])
    page_users = max(16, PAGE_CELLS // len(shop.horizon(as_of)))

    def rank(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        scorer = shop.scorer(as_of)
        covers = shop.covers(as_of)
        rank_page = partial(ranked_lists, scorer=scorer, meta_model=meta_model, settings=settings, covers=covers)
        for block in blocks(batches, len(shop.catalogue), page_users):
            known = block.as_of(as_of, shop.history)
            users = np.flatnonzero(np.diff(known.offsets))
            if len(users) < len(block):
                block = block.take(users)
                known = block.as_of(as_of, shop.history)
            if len(block):
                yield pa.RecordBatch.from_arrays([block.user_ids, *rank_page(known)], schema=schema)

    return histories.mapInArrow(rank, ddl)


def ranked_lists(
    histories: Histories, scorer: Scorer, meta_model: MetaModel, settings: RankingSettings, covers: Covers | None = None
) -> Iterator[pa.ListArray]:
    """Yield for each policy the lists of sales, scores, reasons and photos to show."""
    features = scorer.features(histories) if META in settings.policies else []
    shape = (len(histories), len(scorer.horizon))
    for policy in settings.policies:
        is_meta = policy == META
        scores = meta_model.log_odds(features, shape) if is_meta else scorer.score(policy, histories)
        best = top(scores, settings.kept)
        best_scores = np.take_along_axis(scores, best, axis=1)
        yield _lists(best.astype(np.int32))
        yield _lists(probability(best_scores) if is_meta else best_scores)
        why = reasons(features, meta_model, best) if is_meta else _always(scorer.names.index(policy), best)
        scorer.with_details(why, histories, best)
        yield _lists(why)
        yield _lists(chosen_photos(scorer, histories, covers, best))


def chosen_photos(
    scorer: Scorer, histories: Histories, covers: Covers | None, best: NDArray[np.int64]
) -> NDArray[np.int16]:
    """Return which photo of each of the best sales suits the user's themes, shape (n_users, k); else 0, the cover."""
    if covers is None or IMAGES not in scorer.names:
        return _always(0, best)
    model = scorer.models[scorer.names.index(IMAGES)]
    assert isinstance(model, ContentModel)
    return covers.choose(model.user_profiles(histories).toarray(), best).astype(np.int16)


def _always(code: int, best: NDArray[np.int64]) -> NDArray[np.int16]:
    return np.full(best.shape, code, np.int16)


def top(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Return the columns of the k best scores of each row, best first, ties by column.

    Score and column are packed into one integer, so that no two are equal and any partition gives the same answer.

    Args:
        scores: Shape (n_users, n_sales), without nan.
        k: Columns kept, all where there are fewer.
    """
    k = min(k, scores.shape[1])
    bits = (np.ascontiguousarray(scores) + np.float32(0)).view(np.int32)  # + 0 turns -0 into 0
    ordered = bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))  # floats as integers of the same order
    keys = (ordered.astype(np.int64) << 32) | np.arange(scores.shape[1] - 1, -1, -1)
    best = np.partition(keys, scores.shape[1] - k, axis=1)[:, scores.shape[1] - k :]
    best.sort(axis=1)
    return scores.shape[1] - 1 - (best[:, ::-1] & 0xFFFFFFFF)


def reasons(features: list[NDArray[np.float32]], meta_model: MetaModel, best: NDArray[np.int64]) -> NDArray[np.int16]:
    """Return the feature that adds most to the log-odds of each of the best sales, shape (n_users, k)."""
    shape = (len(best), max(feature.shape[1] for feature in features))
    most = np.full(best.shape, -np.inf, np.float32)
    reason = np.zeros(best.shape, np.int16)
    for number, feature in enumerate(features):
        slope = np.float32(meta_model.coefficients[number] / meta_model.scales[number])
        added = np.take_along_axis(np.broadcast_to(feature, shape), best, axis=1) - np.float32(meta_model.means[number])
        added *= slope
        better = added > most
        np.copyto(reason, np.int16(number), where=better)
        np.copyto(most, added, where=better)
    return reason


def _lists(values: NDArray) -> pa.ListArray:
    offsets = np.arange(0, values.size + 1, values.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(offsets, np.ascontiguousarray(values).ravel())


def shared_ranking(scorer: Scorer, policy: str, n_sales: int) -> Ranking:
    """Rank all sales of the horizon by a recommender whose scores are the same for every user."""
    nobody = Histories.of_nobody_known(scorer.horizon.as_of, n_sales)
    scores = scorer.score(policy, nobody)
    best = top(scores, scores.shape[1])
    code = scorer.names.index(policy)
    return Ranking(best[0].astype(np.int32), scores[0][best[0]], np.full(best.shape[1], code, np.uint8))
