"""exposures_compacted, recorded_events_compacted, snapshots → the off-policy evaluation of a policy."""

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.night.compact_exposures import compact_exposures
from recsys.config.settings import Settings
from recsys.errors import InputError, SnapshotError
from recsys.experiments.off_policy.estimators import Evaluation, evaluate
from recsys.experiments.off_policy.logged_pages import logged_pages, ranked_pages
from recsys.experiments.settings import Experiment
from recsys.instants import dates, from_micros, to_micros
from recsys.logs.records import ASSIGNED
from recsys.snapshot.format import Snapshot
from recsys.storage.places import Place
from recsys.tables.logs import COMPACTED_EVENTS, COMPACTED_EXPOSURES, DAY
from recsys.tables.parts import has_begun


def evaluate_policy(settings: Settings, experiment: Experiment, policy: str, reward: str, as_of: int) -> Evaluation:
    """Estimate the value of a policy on the pages that an experiment's variants with exploration drew.

    Only pages of snapshots that still exist are used, and only those without a running session: the order in which a
    policy would have ranked sales during a session is not stored.

    Args:
        settings: The settings of the shop.
        experiment: The experiment, in its current phase.
        policy: A policy of the snapshots.
        reward: The reward of a sale on a page, by the attribution tokens of recorded events: `visits`, `purchases` or
            `revenue`.
        as_of: Pages and events at or after this instant are ignored; microseconds since 1970 UTC.

    Raises:
        InputError: If no page was drawn, or the drawn pages do not suffice for an estimate.
    """
    compact_exposures(settings)
    pages = _drawn_pages(settings.place, experiment, as_of)
    snapshots = _snapshots_with_policy(settings, pages, policy)
    pages = pages.filter(pc.is_in(pages["snapshot"], pa.array(snapshots, pa.string())))
    if not len(pages):
        raise InputError(
            f"0 drawn pages of experiment '{experiment.key}' are of a snapshot that still exists and has policy "
            f"'{policy}', must be 1 or more: keep more snapshots by 'snapshots.keep', or name another policy"
        )
    rewards = _read_rewards(settings.place, experiment, reward, as_of)
    logged = logged_pages(pages, rewards)
    return evaluate(logged, ranked_pages(logged, _ranking_of(pages, snapshots, policy)))


def _drawn_pages(folder: Place, experiment: Experiment, as_of: int) -> pa.Table:
    """Read the experiment's pages that have propensities and no running session."""
    path = folder / COMPACTED_EXPOSURES.name
    if not has_begun(path):
        raise InputError(f"{path} does not exist: no page was logged, see serving.exposures in the configuration")
    wanted = (
        pc.field(DAY).isin(dates(to_micros(experiment.start), as_of))
        & (pc.field("experiment") == experiment.key)
        & (pc.field("phase") == experiment.phase)
        & (pc.field("reason") == ASSIGNED)
        & (pc.field("exposed_at") < from_micros(as_of))
    )
    names = ["request_id", "user_id", "exposed_at", "snapshot", "session_sale_ids", "sale_ids", "propensities"]
    drawn = COMPACTED_EXPOSURES.dataset(folder).to_table(names, wanted & pc.field("propensities").is_valid())
    if not len(drawn):
        raise InputError(
            f"experiment '{experiment.key}', phase {experiment.phase}, logged no propensities: only a variant with "
            "'exploration' draws pages at random, and another policy can be evaluated only on such pages"
        )
    return drawn.filter(pc.equal(pc.list_value_length(drawn["session_sale_ids"]), 0))


def _read_rewards(folder: Place, experiment: Experiment, reward: str, as_of: int) -> pa.Table:
    """Read the rewards of recorded events: columns request_id, sale_id, reward; request_id is the token or null."""
    path = folder / COMPACTED_EVENTS.name
    if not has_begun(path):
        raise InputError(f"{path} does not exist: no event was recorded by the service; call RecordEvents with tokens")
    kind = "visit" if reward == "visits" else "purchase"
    latest = to_micros(experiment.end + experiment.attribution)
    wanted = (
        (pc.field("kind") == kind)
        & (pc.field("recorded_at") < from_micros(as_of))
        & (pc.field("occurred_at") < from_micros(latest))
    )
    events = COMPACTED_EVENTS.dataset(folder).to_table(["attribution_token", "sale_id", "revenue"], wanted)
    earned = events["revenue"].fill_null(0.0) if reward == "revenue" else pa.array(np.ones(len(events)))
    columns = [events["attribution_token"], events["sale_id"], earned]
    return pa.Table.from_arrays(columns, ["request_id", "sale_id", "reward"])


def _snapshots_with_policy(settings: Settings, pages: pa.Table, policy: str) -> dict[str, Snapshot]:
    """Open the pages' snapshots that still exist and have a policy; by name."""
    found = {}
    for name in pages["snapshot"].unique().to_pylist():
        try:
            settings.publisher.fetch(name)
            snapshot = Snapshot.open(settings.snapshots_folder / name)
        except SnapshotError:
            continue
        if policy in snapshot.all_policies:
            found[name] = snapshot
    return found


def _ranking_of(pages: pa.Table, snapshots: dict[str, Snapshot], policy: str) -> Callable[[str], Sequence[str]]:
    """Return a function from a request_id to the policy's ranking of the sales that were open for that page."""
    shown_at = pages["exposed_at"].cast(pa.timestamp("us")).cast(pa.int64()).to_pylist()
    names = (pages[name].to_pylist() for name in ("request_id", "user_id", "snapshot"))
    page_of_request = {request_id: page for request_id, *page in zip(*names, shown_at, strict=True)}
    sale_ids = {name: np.array([sale.sale_id for sale in found.sales], object) for name, found in snapshots.items()}

    def ranking_of(request_id: str) -> Sequence[str]:
        user_id, name, shown_at = page_of_request[request_id]
        snapshot = snapshots[name]
        ranking = snapshot.ranking(policy, user_id)
        if ranking is None:
            return []
        is_open = (snapshot.opens_at <= shown_at) & (snapshot.closes_at > shown_at)
        return sale_ids[name][ranking.sales[is_open[ranking.sales]]]

    return ranking_of
