"""The night: all steps up to the published snapshot, for one instant."""

import logging
from contextlib import suppress
from pathlib import Path

from jobs.engine.run import Run, with_inputs
from jobs.night.compact_exposures import compact_exposures
from jobs.night.plan_night import PLAN_NIGHT
from jobs.night.publish_snapshot import CLOSED_SHOP, PUBLISH_CLOSED_SHOP, PUBLISH_SNAPSHOT, SNAPSHOT
from jobs.night.train_meta_model import TRAIN_META_MODEL
from jobs.night.validate_tables import VALIDATE_TABLES
from recsys.errors import BusyError
from recsys.instants import compact, from_micros, to_micros
from recsys.pipeline.night_values import read_night_values
from recsys.storage.journal import discard

_log = logging.getLogger(__name__)


def nightly(run: Run) -> str:
    """Run the steps of a night that are due, in order, and return the name of the night's snapshot.

    If nothing has changed since an earlier run, that run has published it.

    If no sale is open in the horizon, the snapshot has none, and its pages are empty. If the run trains, a new version
    of the meta-model is trained first; the night ranks by the champion in any case.

    Args:
        run: From `night`.
    """
    for name, compacted in compact_exposures(run.settings).items():
        if compacted.files:
            _log.info(f"  {name}: {compacted}")
    _log.info(f"Night as of {from_micros(run.as_of):%Y-%m-%d %H:%M} UTC in {run.folder}")
    first = (PLAN_NIGHT, VALIDATE_TABLES)
    run.do(first)
    if not run.shop.with_open_sales([run.as_of]):
        run.do((PUBLISH_CLOSED_SHOP,))
        return (run.outputs / CLOSED_SHOP / "name").read_text()
    trained = with_inputs(TRAIN_META_MODEL) if run.trains else ()
    run.do(tuple(step for step in dict.fromkeys((*trained, *with_inputs(PUBLISH_SNAPSHOT))) if step not in first))
    if run.is_hourly:
        _remove_tables_of_earlier_hours(run)
    return (run.outputs / SNAPSHOT / "name").read_text()


def _remove_tables_of_earlier_hours(run: Run) -> None:
    """Remove the tables of hourly runs before this one, which are as large as those of a night."""
    for values in read_night_values(Path(run.settings.folder), run.as_of):
        folder = run.folder.parent / compact(to_micros(values.as_of))
        if values.is_hourly and folder.exists():
            with suppress(BusyError):
                discard(folder)
