"""Pages of a phase → counts that may tell that something is wrong."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as f

from recsys.experiments.phase_summary import Health

Assign = Callable[[pa.Array], NDArray[np.str_]]
"""Returns each user's variant by the configuration, empty where it is none."""


def health(pages: DataFrame, users: DataFrame, assign: Assign) -> Health:
    """Count.

    Args:
        pages: From `recsys.pipeline.outcomes.pages`.
        users: From `recsys.pipeline.outcomes.first_pages`.
        assign: Called by Spark's workers.
    """
    counted = pages.groupBy("variant", "reason", "is_analysed", "fell_back", "configuration_sha", "model_version")
    rows = counted.count().collect()
    mismatches = users.select("user_id", "variant").mapInArrow(_compared_by(assign), "variant string, differs boolean")
    by_variant = mismatches.groupBy("variant").agg(f.count("*").alias("users"), f.count_if("differs").alias("differ"))
    assigned = by_variant.collect()
    return Health(
        pages=_tally(rows, lambda row: (row["variant"] or "", row["reason"] or "")),
        fallbacks=_tally((row for row in rows if row["is_analysed"] and row["fell_back"]), lambda row: row["variant"]),
        users={row["variant"]: row["users"] for row in assigned},
        jumpers=users.where("jumped").count(),
        configuration_shas=_tally(rows, lambda row: row["configuration_sha"] or ""),
        model_versions=_tally(rows, lambda row: (row["variant"] or "", row["model_version"] or "")),
        recomputed=sum(row["users"] for row in assigned),
        mismatches=sum(row["differ"] for row in assigned),
    )


def _compared_by(assign: Assign) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def compare(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            served = batch["variant"].to_numpy(zero_copy_only=False).astype(str)
            differs = assign(batch["user_id"]) != served
            yield pa.RecordBatch.from_arrays([batch["variant"], pa.array(differs)], names=["variant", "differs"])

    return compare


def _tally(rows: Iterable[Row], key: Callable[[Row], str | tuple[str, str]]) -> dict:
    tally: Counter = Counter()
    for row in rows:
        tally[key(row)] += row["count"]
    return dict(tally)
