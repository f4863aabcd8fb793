"""The night: all steps up to the published snapshot, for one instant."""

import logging
from contextlib import suppress

from jobs.engine.nights import is_planned_hourly
from jobs.engine.run import Run, Step, with_inputs
from jobs.night.compact_exposures import compact_exposures
from jobs.night.plan_night import PLAN_NIGHT
from jobs.night.publish_snapshot import (
    CLOSED_SHOP,
    PUBLISH_CLOSED_SHOP,
    PUBLISH_SNAPSHOT,
    SNAPSHOT,
    publish_if_latest,
)
from jobs.night.train_meta_model import TRAIN_META_MODEL
from jobs.night.validate_tables import VALIDATE_TABLES
from recsys.errors import BusyError
from recsys.instants import from_micros
from recsys.snapshot import store as snapshot_store
from recsys.storage.journal import discard

_FIRST = (PLAN_NIGHT, VALIDATE_TABLES)
_log = logging.getLogger(__name__)


def nightly(run: Run) -> str:
    """Run the steps of a night that are due, in order, and return the name of the night's snapshot.

    If nothing has changed since an earlier run, that run has published it, unless it was not to publish. A night of the
    past is not published where a later one is in use, see `publish_if_latest`. When a night has been published, the
    tables of old ones are removed, see `nights.keep`.

    If no sale is open in the horizon, the snapshot has none, and its pages are empty. If the run trains, a new version
    of the meta-model is trained first; the night ranks by the champion in any case. A run that rebuilds does all steps
    anew, and carries nothing on from earlier nights.

    Args:
        run: From `night`.
    """
    run.settings.publisher.pull_if_whole()
    for name, compacted in compact_exposures(run.settings).items():
        if compacted.files:
            _log.info(f"  {name}: {compacted}")
    _log.info(f"Night as of {from_micros(run.as_of):%Y-%m-%d %H:%M} UTC in {run.folder}")
    if run.rebuilds and run.folder.exists():
        discard(run.folder)
    with run.lineage.of_run():
        run.do(_FIRST)
        if not run.shop.with_open_sales([run.as_of]):
            run.do((PUBLISH_CLOSED_SHOP,))
            return _publish_kept(run, (run.outputs / CLOSED_SHOP / "name").read_text())
        run.do(steps_of_night(run.trains)[len(_FIRST) :])
        return _publish_kept(run, (run.outputs / SNAPSHOT / "name").read_text())


def steps_of_night(trains: bool) -> tuple[Step, ...]:
    """Return the steps of a night with an open sale, in order.

    Args:
        trains: Whether it trains a new version of the meta-model.
    """
    trained = with_inputs(TRAIN_META_MODEL) if trains else ()
    return tuple(dict.fromkeys((*_FIRST, *trained, *with_inputs(PUBLISH_SNAPSHOT))))


def _publish_kept(run: Run, name: str) -> str:
    """Publish a snapshot that an earlier run wrote without publishing it, and remove the tables of old nights."""
    root = run.settings.snapshots_folder
    if run.settings.publisher.has(name) and name not in {each.name for each in snapshot_store.publications(root)}:
        publish_if_latest(run, name)
    if snapshot_store.current(root) == name:
        _remove_tables_of_old_nights(run)
    return name


def _remove_tables_of_old_nights(run: Run) -> None:
    """Remove the tables of earlier nights beyond `nights.keep`, and of all earlier hours between nights.

    Those of the snapshot that a rollback returns to stay: a refresh after it reads them.
    """
    needed = {
        name.partition("-")[0] for name in snapshot_store.published_before_current(run.settings.snapshots_folder)[:1]
    }
    earlier = sorted(folder for folder in run.folder.parent.glob("[0-9]*") if folder.name < run.folder.name)
    nights = [folder for folder in earlier if not is_planned_hourly(folder)]
    kept = nights[max(0, len(nights) - run.settings.nights.keep + 1) :]
    for folder in earlier:
        if folder not in kept and folder.name not in needed:
            with suppress(BusyError):
                discard(folder)
                _log.info(f"  removed the tables in {folder}, see 'nights.keep'")
