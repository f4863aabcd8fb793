"""Pages of a phase → counts that show whether the experiment ran as configured."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as f

from recsys.experiments.phase_summary import Health

Assign = Callable[[pa.Array], NDArray[np.str_]]
"""Returns each user's variant by the configuration, empty for none."""


def health(pages: DataFrame, users: DataFrame, assign: Assign) -> Health:
    """Return the health counts of a phase.

    Args:
        pages: From `recsys.pipeline.outcomes.pages`.
        users: From `recsys.pipeline.outcomes.first_pages`.
        assign: Recomputes the variants; it is called by Spark's workers.
    """
    columns = ("variant", "reason", "is_analysed", "fell_back", "configuration_sha", "model_version")
    rows = pages.groupBy(*columns).count().collect()
    recomputed = users.select("user_id", "variant").mapInArrow(_compare_with(assign), "variant string, differs boolean")
    by_variant = recomputed.groupBy("variant").agg(f.count("*").alias("users"), f.count_if("differs").alias("differ"))
    assigned = by_variant.collect()
    return Health(
        pages=_sum_counts(rows, lambda row: (row["variant"] or "", row["reason"] or "")),
        fallbacks=_sum_counts(
            (row for row in rows if row["is_analysed"] and row["fell_back"]), lambda row: row["variant"]
        ),
        users={row["variant"]: row["users"] for row in assigned},
        jumpers=users.where("jumped").count(),
        configuration_shas=_sum_counts(rows, lambda row: row["configuration_sha"] or ""),
        model_versions=_sum_counts(rows, lambda row: (row["variant"] or "", row["model_version"] or "")),
        recomputed=sum(row["users"] for row in assigned),
        mismatches=sum(row["differ"] for row in assigned),
    )


def _compare_with(assign: Assign) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Return a function for `mapInArrow` that compares each served variant with the recomputed one."""

    def compare(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            served = batch["variant"].to_numpy(zero_copy_only=False).astype(str)
            differs = assign(batch["user_id"]) != served
            yield pa.RecordBatch.from_arrays([batch["variant"], pa.array(differs)], names=["variant", "differs"])

    return compare


def _sum_counts(rows: Iterable[Row], key: Callable[[Row], str | tuple[str, str]]) -> dict:
    counts: Counter = Counter()
    for row in rows:
        counts[key(row)] += row["count"]
    return dict(counts)
