"""rankings, segment_rankings, sales, the meta-model, a night that passed its checks → a published snapshot."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from jobs.engine.nights import main
from jobs.engine.run import Run, Step, with_inputs
from jobs.night.check_night import CHECK_NIGHT
from jobs.night.prepare_experiments import EXPERIMENTS, missing_policies, other_versions, ranking_settings
from jobs.night.rank_segments import RANK_SEGMENTS
from jobs.night.train_meta_model import TRAIN_META_MODEL, read_model
from jobs.night.validate_tables import VALIDATE_TABLES
from recsys.errors import EmptyInputError
from recsys.experiments.model_pins import PINS
from recsys.instants import HOUR, compact, from_micros, to_micros
from recsys.pipeline.night_values import read_night_values
from recsys.pipeline.segments import segment_rankings
from recsys.ranking.ranker import Ranker, youngest_first
from recsys.ranking.ranker_files import RANKER, write_ranker
from recsys.shop.catalogue import Catalogue, Horizon
from recsys.snapshot import store as snapshot_store
from recsys.snapshot.format import OPEN, POPULARITY, LeftOut, Ranking, Snapshot, SnapshotContents, SnapshotSale
from recsys.snapshot.writer import write_snapshot
from recsys.storage.places import Place
from recsys.tables.night import RANKINGS
from recsys.tables.parts import read_batches
from recsys.wording import plural

SNAPSHOT = "snapshot"
CLOSED_SHOP = "closed_shop"


def publish_snapshot(run: Run, out: Place) -> str:
    """Write the night's snapshot, and publish it if it is to be, see `publish_if_latest`."""
    root = run.settings.snapshots_folder
    with TemporaryDirectory() as folder:
        contents = _snapshot_contents(run, Path(folder))
        name = write_snapshot(root, contents, read_batches(run.outputs / RANKINGS.name))
    publish_if_latest(run, name)
    _write_name(name, out / SNAPSHOT)
    return f"{name} with policies {', '.join([*contents.policies, *contents.shared_rankings])}"


def _write_name(name: str, out: Place) -> None:
    out.mkdir()
    (out / "name").write_text(name)


def publish_if_latest(run: Run, name: str) -> None:
    """Make a night's snapshot the current one; not if the run publishes nothing, or the current one is of a later time.

    So nights of the past can be run again beside a service, which would otherwise answer as of long ago. Their
    snapshots are kept as `snapshots.keep` says, and `recsys snapshots activate` publishes one.
    """
    publisher = run.settings.publisher
    before, as_of = publisher.in_use()
    if run.publishes and (as_of is None or to_micros(as_of) <= run.as_of):
        make_current(run, name, instead_of=before)
    else:
        publisher.keep(name)


def make_current(run: Run, name: str, instead_of: str | None = None) -> None:
    """Make a snapshot the current one, and remove the oldest beyond `snapshots.keep`.

    Raises:
        BusyError: If the current one is not that which the snapshot is to take the place of, if given.
    """
    publisher, keep = run.settings.publisher, run.settings.snapshots
    publisher.publish(name, datetime.now(UTC), instead_of)
    values = read_night_values(run.settings.place)
    hourly = {compact(to_micros(each.as_of)) for each in values if each.is_hourly}
    publisher.prune(keep.keep, keep.keep_hourly, hourly, datetime.now(UTC))


def _snapshot_contents(run: Run, folder: Path) -> SnapshotContents:
    model, version = read_model(run)
    ranker, catalogue = run.shop.ranker(run.as_of, model, other_versions(run)), run.shop.catalogue
    scorer = ranker.scorer
    pins, of_ranker = folder / PINS, folder / RANKER
    pins.write_bytes((run.outputs / EXPERIMENTS / PINS).read_bytes())
    of_ranker.mkdir()
    write_ranker(of_ranker, ranker, catalogue, run.settings.recommenders)
    return SnapshotContents(
        as_of=from_micros(run.as_of),
        horizon_end=from_micros(scorer.horizon.until),
        sales=list(snapshot_sales(catalogue, scorer.horizon)),
        policies=ranking_settings(run).policies,
        shared_rankings={POPULARITY: popular_ranking(ranker, catalogue, RANKINGS.rows(run.outputs))},
        reasons=scorer.reasons,
        versions={run.settings.mlflow.model_name: version} if version else {},
        fingerprint=run.fingerprint(PUBLISH_SNAPSHOT),
        files={RANKER: of_ranker, PINS: pins},
        segments=segment_rankings(run.outputs),
        missing_policies=missing_policies(run),
        left_out=_left_out(run),
    )


def _left_out(run: Run) -> list[LeftOut]:
    """Return what the steps of the night left out, those of the training included if the night trains."""
    trained = with_inputs(TRAIN_META_MODEL) if run.trains else ()
    return run.left_out(dict.fromkeys((*trained, *with_inputs(RANK_SEGMENTS), *with_inputs(CHECK_NIGHT))))


def popular_ranking(ranker: Ranker, catalogue: Catalogue, n_users: int) -> Ranking:
    """Return the sales of the horizon by popularity; the youngest first where no user has a history."""
    if n_users:
        return ranker.shared_ranking(POPULARITY, len(catalogue))
    return youngest_first(ranker.scorer.horizon, catalogue, ranker.scorer.reasons.index(OPEN))


def snapshot_sales(catalogue: Catalogue, horizon: Horizon) -> Iterator[SnapshotSale]:
    """Return the sales of a horizon as a snapshot holds them."""
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
            theme=catalogue.gallery.main_theme(sale) if catalogue.gallery else None,
        )


def publish_closed_shop(run: Run, out: Place) -> str:
    """Publish a snapshot without sales, whose pages are empty and say so, for a night without an open sale.

    Raises:
        EmptyInputError: If the snapshot in use has a sale that is open after as_of: then the source has lost it.
    """
    root, as_of = run.settings.snapshots_folder, from_micros(run.as_of)
    end = from_micros(run.as_of + int(run.settings.horizon_hours * HOUR))
    found = f"no sale is open in [{as_of:%Y-%m-%d %H:%M}, {end:%Y-%m-%d %H:%M}) UTC"
    if run.publishes:
        refuse_lost_sales(snapshot_store.in_use(root), as_of, found)
    line = LeftOut(what="all pages", why=found, until="the first night with an open sale in its horizon")
    contents = SnapshotContents(
        as_of=as_of,
        horizon_end=end,
        sales=[],
        policies=(),
        shared_rankings={POPULARITY: Ranking(np.empty(0, np.int32), np.empty(0, np.float32), np.empty(0, np.uint8))},
        reasons=[OPEN],
        versions={},
        fingerprint=run.fingerprint(PUBLISH_CLOSED_SHOP),
        missing_policies=run.settings.rankings.policies,
        left_out=[line],
    )
    name = write_snapshot(root, contents, [])
    publish_if_latest(run, name)
    _write_name(name, out / CLOSED_SHOP)
    return f"{name} without a sale: {found}"


def refuse_lost_sales(before: Snapshot | None, as_of: datetime, found: str) -> None:
    """Refuse a source without an open sale, where the snapshot in use has one.

    Args:
        before: The snapshot in use; None without one.
        as_of: The instant of the night.
        found: That no sale is open, and from when to when, for the message.

    Raises:
        EmptyInputError: If the snapshot has a sale that is open after as_of: then the source has lost it.
    """
    lost = [sale.sale_id for sale in before.sales if sale.closes_at > as_of] if before is not None else []
    if before is not None and lost:
        raise EmptyInputError(
            f"{found}, but {plural(len(lost), 'sale')} of snapshot {before.name} in use, such as {lost[0]!r}: "
            "check 'opens_at' and 'closes_at' with 'recsys validate', or choose another --as-of"
        )


PUBLISH_CLOSED_SHOP = Step(
    "publish_closed_shop",
    publish_closed_shop,
    (CLOSED_SHOP,),
    inputs=(VALIDATE_TABLES,),
    depends_on=lambda run: [run.settings.horizon_hours, run.settings.rankings.policies],
)

PUBLISH_SNAPSHOT = Step(
    "publish_snapshot",
    publish_snapshot,
    (SNAPSHOT,),
    inputs=(RANK_SEGMENTS, CHECK_NIGHT),
    depends_on=lambda run: [run.settings.mlflow.model_name, [line.model_dump() for line in _left_out(run)]],
)

if __name__ == "__main__":
    main(PUBLISH_SNAPSHOT)
