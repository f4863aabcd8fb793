"""exposures_compacted, recorded_events_compacted, snapshots → what another policy would have earned on drawn pages."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pyarrow.compute as pc
import pyarrow.dataset as ds

from jobs.night.compact_exposures import compact_exposures
from recsys.config.settings import Settings
from recsys.errors import InputError, SnapshotError
from recsys.experiments.off_policy.estimators import Evaluation, evaluate
from recsys.experiments.off_policy.logged_pages import logged_pages, ranked_pages
from recsys.experiments.settings import Experiment
from recsys.instants import from_micros, to_micros
from recsys.logs.records import ASSIGNED
from recsys.snapshot.format import Snapshot
from recsys.tables.logs import COMPACTED_EVENTS, COMPACTED_EXPOSURES


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
    pages = pages[pages["snapshot"].isin(snapshots.keys())]
    if pages.empty:
        raise InputError(
            f"no explored page of experiment '{experiment.key}' is of a snapshot that is still there and has policy "
            f"'{policy}': keep more of them by 'snapshots.keep', or name another policy"
        )
    rewards = _rewards(Path(settings.folder), experiment, reward, as_of)
    logged = logged_pages(pages, rewards)
    return evaluate(logged, ranked_pages(logged, _ranking_of(pages, snapshots, policy)))


def _pages(folder: Path, experiment: Experiment, as_of: int) -> pd.DataFrame:
    path = folder / COMPACTED_EXPOSURES.name
    if not path.exists():
        raise InputError(f"{path} does not exist: no page was logged, see serving.exposures in the configuration")
    wanted = (
        (pc.field("experiment") == experiment.key)
        & (pc.field("phase") == experiment.phase)
        & (pc.field("reason") == ASSIGNED)
        & (pc.field("exposed_at") < _instant(as_of))
    )
    names = ["request_id", "user_id", "exposed_at", "snapshot", "session_sale_ids", "sale_ids", "propensities"]
    table = ds.dataset(path, format="parquet", partitioning="hive").to_table(columns=names, filter=wanted)
    drawn = table.filter(pc.is_valid(table["propensities"])).to_pandas()
    if drawn.empty:
        raise InputError(
            f"experiment '{experiment.key}', phase {experiment.phase}, logged no propensities: only a variant with "
            "'exploration' draws pages at random, and without chance nothing tells what another policy would have "
            "earned"
        )
    return drawn[drawn["session_sale_ids"].map(len) == 0]


def _rewards(folder: Path, experiment: Experiment, reward: str, as_of: int) -> pd.DataFrame:
    path = folder / COMPACTED_EVENTS.name
    if not path.exists():
        raise InputError(f"{path} does not exist: the service was told of no event, and none has a page's token")
    kind = "visit" if reward == "visits" else "purchase"
    known = (pc.field("kind") == kind) & (pc.field("recorded_at") < _instant(as_of))
    names = ["attribution_token", "sale_id", "occurred_at", "revenue"]
    events = ds.dataset(path, format="parquet", partitioning="hive").to_table(columns=names, filter=known).to_pandas()
    latest = to_micros(experiment.end + experiment.attribution)
    events = events[events["occurred_at"] < _instant(latest)]
    earned = events["revenue"].fillna(0.0) if reward == "revenue" else 1.0
    return events.rename(columns={"attribution_token": "request_id"}).assign(reward=earned)


def _instant(micros: int) -> datetime:
    """Return an instant as Spark's Parquet files have it: UTC, and without saying so."""
    return from_micros(micros).replace(tzinfo=None)


def _snapshots(settings: Settings, pages: pd.DataFrame, policy: str) -> dict[str, Snapshot]:
    found = {}
    for name in pages["snapshot"].unique():
        try:
            snapshot = Snapshot.open(settings.snapshots_folder / name)
        except SnapshotError:
            continue
        if policy in snapshot.all_policies:
            found[name] = snapshot
    return found


def _ranking_of(pages: pd.DataFrame, snapshots: dict[str, Snapshot], policy: str) -> Callable[[str], Sequence[str]]:
    """Return what ranks the sales that were open when a page was drawn, by its request."""
    rows = zip(pages["request_id"], pages["user_id"], pages["exposed_at"], pages["snapshot"], strict=True)
    about = {request_id: (user, shown_at, snapshots[name]) for request_id, user, shown_at, name in rows}

    def ranking_of(request_id: str) -> Sequence[str]:
        user, exposed_at, snapshot = about[request_id]
        shown_at = exposed_at.replace(tzinfo=UTC)
        ranking = snapshot.shared_rankings.get(policy)
        if ranking is None:
            found = snapshot.users.find(user)
            if found is None:
                return []
            ranking = found.ranking(policy)
        sales = (snapshot.sales[position] for position in ranking.sales.tolist())
        return [sale.sale_id for sale in sales if sale.opens_at <= shown_at < sale.closes_at]

    return ranking_of
