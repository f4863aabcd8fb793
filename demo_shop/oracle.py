"""The oracle of a generated shop: metrics of ranking by the users' true tastes, which no model and no feature sees."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from pyspark.sql import DataFrame

from demo_shop.truth import USER_TASTES, true_utilities
from recsys.backtest.pages import Pages, estimated
from recsys.meta_model import META
from recsys.metrics import NDCG, bootstrap_ratio
from recsys.pipeline.evaluation import ranked_pages
from recsys.pipeline.shop import Shop
from recsys.shop.histories import Block
from recsys.tables.paths import load

ORACLE = "oracle"


def oracle_pages(
    histories: DataFrame,
    shop: Shop,
    as_ofs: list[int],
    folder: Path,
    users_sampled: float = 1.0,
    seed: int = 0,
    new_only: bool = False,
) -> DataFrame:
    """Return the metrics of ranking by the true utilities, as `page_metrics` does for other policies.

    Args:
        histories: Table `user_histories`; users without true tastes, who came to the service only, are left out.
        shop: Its sales.
        as_ofs: Instants, microseconds since 1970 UTC.
        folder: The folder of the generated shop.
        users_sampled: As for `ranked_pages`.
        seed: As for `ranked_pages`.
        new_only: As for `ranked_pages`.
    """

    def score(block: Block, as_of: int) -> Mapping[str, NDArray]:
        sale_ids = [shop.catalogue.sale_ids[sale] for sale in shop.horizon(as_of).sales]
        return {ORACLE: true_utilities(folder, block.user_ids.to_pylist(), sale_ids)}

    tastes = load(histories.sparkSession.read, [folder / "truth" / f"{USER_TASTES}.parquet"])
    known = histories.join(tastes.select("user_id"), on="user_id", how="left_semi")
    return ranked_pages(known, shop, as_ofs, score, users_sampled, seed, new_only)


def oracle(pages: Pages, best: Pages, seed: int) -> dict[str, Any] | None:
    """Return the oracle's ndcg@10, and the share of it that the meta-model reaches on the same pages.

    Args:
        pages: The pages.
        best: Of `oracle_pages`.
        seed: Of the bootstrap intervals, both over users.

    Returns:
        None if the oracle has no page, or its ndcg@10 is 0 on all.
    """
    if ORACLE not in best.by_policy:
        return None
    of_meta, of_oracle = (each[["as_of", "user_id", NDCG]] for each in (pages.by_policy[META], best.by_policy[ORACLE]))
    both = of_meta.merge(of_oracle, on=["as_of", "user_id"], suffixes=("", "_true"))
    values, possible, users = (both[name].to_numpy() for name in (NDCG, f"{NDCG}_true", "user_id"))
    if not possible.any():
        return None
    share = bootstrap_ratio(values, possible, users, seed)
    return estimated({NDCG: possible}, users, seed) | {"share": share._asdict()}
