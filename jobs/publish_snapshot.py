"""rankings, sales, the meta-model → a published snapshot."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

from jobs.run import Run, Step, main
from jobs.score_users import SCORE_USERS, SCORE_USERS_WITH_CHAMPION
from jobs.train_meta_model import META_MODEL, read_model
from recsys import snapshot_store
from recsys.catalogue import Catalogue, Horizon
from recsys.instants import from_micros
from recsys.pipeline.rankings import shared_ranking
from recsys.snapshot import POPULARITY, SnapshotContents, SnapshotSale
from recsys.snapshot_writer import write_snapshot

SNAPSHOT = "snapshot"


def publish_snapshot(run: Run, out: Path) -> str:
    """Write the night's snapshot, make it the current one, and remove those too old to go back to."""
    contents = _contents(run)
    root = run.settings.snapshots_folder
    name = write_snapshot(root, contents, _rankings(run.folder / "rankings"))
    snapshot_store.publish(root, name, datetime.now(UTC))
    snapshot_store.prune(root, run.settings.snapshots.keep)
    (out / SNAPSHOT).mkdir()
    (out / SNAPSHOT / "name").write_text(name)
    return f"{name} with policies {', '.join([*contents.policies, *contents.shared_rankings])}"


def _contents(run: Run) -> SnapshotContents:
    scorer = run.shop.scorer(run.as_of)
    _, version = read_model(run)
    return SnapshotContents(
        as_of=from_micros(run.as_of),
        horizon_end=from_micros(scorer.horizon.until),
        sales=list(_sales(run.shop.catalogue, scorer.horizon)),
        policies=run.settings.rankings.policies,
        shared_rankings={POPULARITY: shared_ranking(scorer, POPULARITY, len(run.shop.catalogue))},
        reasons=scorer.reasons,
        versions={run.settings.mlflow.model_name: version},
        fingerprint=run.fingerprint(PUBLISH_SNAPSHOT),
        files={META_MODEL: run.folder / META_MODEL},
    )


def _sales(catalogue: Catalogue, horizon: Horizon) -> Iterator[SnapshotSale]:
    for sale in horizon.sales:
        price = float(catalogue.prices[sale])
        yield SnapshotSale(
            sale_id=catalogue.sale_ids[sale],
            title=catalogue.titles[sale],
            opens_at=from_micros(catalogue.opens_at[sale]),
            closes_at=from_micros(catalogue.closes_at[sale]),
            price=None if np.isnan(price) else price,
            attributes=catalogue.attributes[sale],
            images=catalogue.gallery.photos(sale) if catalogue.gallery else (),
        )


def _rankings(folder: Path) -> Iterator[pa.RecordBatch]:
    return ds.dataset(folder, format="parquet").to_batches(batch_size=20_000)


def _step(score_users: Step) -> Step:
    return Step("publish_snapshot", publish_snapshot, (SNAPSHOT,), inputs=(score_users,))


PUBLISH_SNAPSHOT = _step(SCORE_USERS)
PUBLISH_SNAPSHOT_OF_CHAMPION = _step(SCORE_USERS_WITH_CHAMPION)

if __name__ == "__main__":
    main(PUBLISH_SNAPSHOT)
