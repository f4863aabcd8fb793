"""exposures_compacted, recorded_events_compacted, snapshots → what another policy would have earned on drawn pages."""

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from jobs.night.compact_exposures import compact_exposures
from recsys.config.settings import Settings
from recsys.errors import InputError, SnapshotError
from recsys.experiments.off_policy.estimators import Evaluation, evaluate
from recsys.experiments.off_policy.logged_pages import logged_pages, ranked_pages
from recsys.experiments.settings import Experiment
from recsys.instants import dates, from_micros, to_micros
from recsys.logs.records import ASSIGNED
from recsys.snapshot.format import Snapshot
from recsys.tables.logs import COMPACTED_EVENTS, COMPACTED_EXPOSURES, DAY


def evaluate_policy(settings: Settings, experiment: Experiment, policy: str, reward: str, as_of: int) -> Evaluation:
    """Estimate what a policy would have earned on the pages that the experiment's exploring variants drew.

    Only pages of snapshots that are still there can be looked at again, and none with a running session: the order that
    a policy gives then is not kept.

    Args:
        settings: The shop.
        experiment: Of the present phase.
        policy: One of the snapshots'.
        reward: What is earned: `visits`, `purchases` or `revenue`, by the tokens of recorded events.
        as_of: Pages and events from this instant on are not known; microseconds.

    Raises:
        InputError: If nothing was explored, or what was cannot tell.
    """
    compact_exposures(settings)
    pages = _pages(Path(settings.folder), experiment, as_of)
    snapshots = _snapshots(settings, pages, policy)
    pages = pages.filter(pc.is_in(pages["snapshot"], pa.array(snapshots, pa.string())))
    if not len(pages):
        raise InputError(
            f"no explored page of experiment '{experiment.key}' is of a snapshot that is still there and has policy "
            f"'{policy}': keep more of them by 'snapshots.keep', or name another policy"
        )
    rewards = _rewards(Path(settings.folder), experiment, reward, as_of)
    logged = logged_pages(pages, rewards)
    return evaluate(logged, ranked_pages(logged, _ranking_of(pages, snapshots, policy)))


def _pages(folder: Path, experiment: Experiment, as_of: int) -> pa.Table:
    path = folder / COMPACTED_EXPOSURES.name
    if not path.exists():
        raise InputError(f"{path} does not exist: no page was logged, see serving.exposures in the configuration")
    wanted = (
        pc.field(DAY).isin(dates(to_micros(experiment.start), as_of))
        & (pc.field("experiment") == experiment.key)
        & (pc.field("phase") == experiment.phase)
        & (pc.field("reason") == ASSIGNED)
        & (pc.field("exposed_at") < _instant(as_of))
    )
    names = ["request_id", "user_id", "exposed_at", "snapshot", "session_sale_ids", "sale_ids", "propensities"]
    drawn = _read(path, names, wanted & pc.field("propensities").is_valid())
    if not len(drawn):
        raise InputError(
            f"experiment '{experiment.key}', phase {experiment.phase}, logged no propensities: only a variant with "
            "'exploration' draws pages at random, and without chance nothing tells what another policy would have "
            "earned"
        )
    return drawn.filter(pc.equal(pc.list_value_length(drawn["session_sale_ids"]), 0))


def _rewards(folder: Path, experiment: Experiment, reward: str, as_of: int) -> pa.Table:
    path = folder / COMPACTED_EVENTS.name
    if not path.exists():
        raise InputError(f"{path} does not exist: the service was told of no event, and none has a page's token")
    kind = "visit" if reward == "visits" else "purchase"
    latest = to_micros(experiment.end + experiment.attribution)
    wanted = (
        (pc.field("kind") == kind)
        & (pc.field("recorded_at") < _instant(as_of))
        & (pc.field("occurred_at") < _instant(latest))
    )
    events = _read(path, ["attribution_token", "sale_id", "revenue"], wanted)
    earned = events["revenue"].fill_null(0.0) if reward == "revenue" else pa.array(np.ones(len(events)))
    columns = [events["attribution_token"], events["sale_id"], earned]
    return pa.Table.from_arrays(columns, ["request_id", "sale_id", "reward"])


def _read(path: Path, columns: list[str], wanted: pc.Expression) -> pa.Table:
    """Read the wanted rows of a table that is partitioned by day."""
    days = ds.partitioning(pa.schema([(DAY, pa.date32())]), flavor="hive")
    return ds.dataset(path, format="parquet", partitioning=days).to_table(columns=columns, filter=wanted)


def _instant(micros: int) -> datetime:
    """Return an instant as Spark's Parquet files have it: UTC, and without saying so."""
    return from_micros(micros).replace(tzinfo=None)


def _snapshots(settings: Settings, pages: pa.Table, policy: str) -> dict[str, Snapshot]:
    found = {}
    for name in pages["snapshot"].unique().to_pylist():
        try:
            snapshot = Snapshot.open(settings.snapshots_folder / name)
        except SnapshotError:
            continue
        if policy in snapshot.all_policies:
            found[name] = snapshot
    return found


def _ranking_of(pages: pa.Table, snapshots: dict[str, Snapshot], policy: str) -> Callable[[str], Sequence[str]]:
    """Return what ranks the sales that were open when a page was drawn, by its request."""
    shown_at = pages["exposed_at"].cast(pa.timestamp("us")).cast(pa.int64()).to_pylist()
    names = (pages[name].to_pylist() for name in ("request_id", "user_id", "snapshot"))
    about = {request_id: page for request_id, *page in zip(*names, shown_at, strict=True)}
    sale_ids = {name: np.array([sale.sale_id for sale in found.sales], object) for name, found in snapshots.items()}

    def ranking_of(request_id: str) -> Sequence[str]:
        user_id, name, shown_at = about[request_id]
        snapshot = snapshots[name]
        ranking = snapshot.ranking(policy, user_id)
        if ranking is None:
            return []
        is_open = (snapshot.opens_at <= shown_at) & (snapshot.closes_at > shown_at)
        return sale_ids[name][ranking.sales[is_open[ranking.sales]]]

    return ranking_of
