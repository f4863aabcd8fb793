"""Small snapshots for tests: five sales, three users, two policies."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from recsys.snapshot.format import SnapshotContents, SnapshotSale
from recsys.snapshot.writer import write_snapshot

AS_OF = datetime(2026, 3, 1, tzinfo=UTC)
REASONS = ("own_visits", "collaborative", "popularity")
PHOTOS = ("s3a://a/0.jpg", "a/1.jpg")
SALES = [
    SnapshotSale("a", "Alps", AS_OF, AS_OF + timedelta(days=2), 99.5, {"country": "FR"}, PHOTOS, "pool · é «x»"),
    SnapshotSale("b", "Börse «B»", AS_OF + timedelta(microseconds=1), AS_OF + timedelta(days=1)),
    SnapshotSale("c", "Crete", AS_OF - timedelta(days=3), AS_OF + timedelta(hours=1), 0.0, images=("ü b.jpg",)),
    SnapshotSale("d", "", AS_OF + timedelta(hours=7), AS_OF + timedelta(hours=9)),
    SnapshotSale("e", "Elba", AS_OF, AS_OF + timedelta(days=5), 10.0),
]
SHARED = (
    np.array([4, 2, 0, 1, 3], np.int32),
    np.array([9, 7, 5, 3, 1], np.float32),
    np.full(5, 2, np.uint8),
)
CONTENTS = SnapshotContents(
    as_of=AS_OF,
    horizon_end=AS_OF + timedelta(hours=36),
    sales=SALES,
    policies=("meta", "collaborative"),
    shared_rankings={"popularity": SHARED},
    reasons=REASONS,
    versions={"home_ranker": "3"},
    fingerprint="1a2b3c4d5e6f",
)
NAME = "20260301T000000Z-1a2b3c4d"
ANN = ("ann", [3, 1], [0.5, 0.25], [0, 1])
BOB = ("bob", [0, 4], [0.125, 0.0625], [2, 2])
EVE = ("eve", [2, 3], [1.0, 0.0], [1, 0])
HISTORIES = {  # ann has three events, bob none
    "sales": [[7, 70_000, 7], []],
    "ages": [[3_600, 60, 1], []],
    "purchases": [[False, True, False], []],
}


def batch(*rows: tuple) -> pa.RecordBatch:
    """Return rankings by `meta`; those by `collaborative` have the reverse order."""
    users, sales, scores, reasons = ([row[i] for row in rows] for i in range(4))
    columns = {"user_id": pa.array(users, pa.string())}
    for policy, step in (("meta", 1), ("collaborative", -1)):
        columns |= {
            f"{policy}_sales": pa.array([row[::step] for row in sales], pa.list_(pa.int32())),
            f"{policy}_scores": pa.array([row[::step] for row in scores], pa.list_(pa.float32())),
            f"{policy}_reasons": pa.array([row[::step] for row in reasons], pa.list_(pa.uint8())),
        }
    return pa.record_batch(columns)


def with_covers(rankings: pa.RecordBatch, **covers: list[list[int]]) -> pa.RecordBatch:
    """Return rankings with the covers that some policies show."""
    for policy, values in covers.items():
        rankings = rankings.append_column(f"{policy}_covers", pa.array(values, pa.list_(pa.int16())))
    return rankings


def with_histories(rankings: pa.RecordBatch, **changes: list) -> pa.RecordBatch:
    """Return rankings with the users' histories."""
    kinds = {"sales": pa.int32(), "ages": pa.int32(), "purchases": pa.bool_()}
    for name, values in {**HISTORIES, **changes}.items():
        rankings = rankings.append_column(f"history_{name}", pa.array(values, pa.list_(kinds[name])))
    return rankings


def write(root: Path, *batches: pa.RecordBatch, **changes: object) -> Path:
    batches = batches or (with_histories(batch(ANN, BOB)), batch(EVE))
    return root / write_snapshot(root, replace(CONTENTS, **changes), batches)


def change(column: str, values: object, *, kind: pa.DataType | None = None) -> pa.RecordBatch:
    rankings = batch(ANN, BOB)
    return rankings.set_column(rankings.schema.names.index(column), column, pa.array(values, kind))
