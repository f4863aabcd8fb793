"""The features of some users and all sales of a horizon, as a frame."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from pyspark.sql import functions as f

from jobs.engine.run import Run
from recsys.meta_model import Features
from recsys.shop.histories import Block, Histories
from recsys.tables.night import USER_HISTORIES


def features_of(run: Run, users: Sequence[str]) -> pd.DataFrame:
    """Return one row per user and sale of the horizon as of a run's instant, and one column per feature.

    Args:
        run: With recommenders fitted as of its instant.
        users: Ids; those without a history have the features of an unknown user.
    """
    catalogue, scorer = run.shop.catalogue, run.shop.scorer(run.as_of)
    table = USER_HISTORIES.read(run.spark, run.outputs).where(f.col("user_id").isin(list(users))).toArrow()
    found: dict[str, Features] = {}
    for batch in table.combine_chunks().to_batches():
        block = Block.from_batch(batch, len(catalogue))
        features = scorer.features(block.as_of(run.as_of, run.settings.history))
        found |= {user: features[:, row] for row, user in enumerate(block.user_ids.to_pylist())}
    unknown = scorer.features(Histories.of_unknown_user(run.as_of, len(catalogue)))[:, 0]
    rows = np.concatenate([found.get(user, unknown).T for user in users]) if users else unknown.T[:0]
    sale_ids = [catalogue.sale_ids[sale] for sale in scorer.horizon.sales.tolist()]
    keys = pd.MultiIndex.from_product([users, sale_ids], names=["user_id", "sale_id"])
    return pd.DataFrame(rows, keys, scorer.names).reset_index()
