"""The night: every step that is due, in order, for one instant."""

from jobs.engine.run import Run, with_inputs
from jobs.night.compact_exposures import compact_exposures
from jobs.night.publish_snapshot import PUBLISH_SNAPSHOT, SNAPSHOT
from jobs.night.train_meta_model import TRAIN_META_MODEL
from recsys.instants import from_micros


def nightly(run: Run, train: bool = True) -> str:
    """Do the night, and return the name of the published snapshot.

    Args:
        run: From `night`.
        train: Whether to train a new version first; the champion is what the night ranks by in any case.
    """
    for name, compacted in compact_exposures(run.settings).items():
        if compacted.files:
            run.console.print(f"  {name}: {compacted}")
    run.console.print(f"Night as of {from_micros(run.as_of):%Y-%m-%d %H:%M} UTC in {run.folder}")
    trained = with_inputs(TRAIN_META_MODEL) if train else ()
    run.do(tuple(dict.fromkeys((*trained, *with_inputs(PUBLISH_SNAPSHOT)))))
    return (run.folder / SNAPSHOT / "name").read_text()
