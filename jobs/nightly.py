"""The night: every step that is due, in order, for one instant."""

from pathlib import Path

from jobs.compact_exposures import compact_exposures
from jobs.publish_snapshot import PUBLISH_SNAPSHOT, PUBLISH_SNAPSHOT_OF_CHAMPION, SNAPSHOT
from jobs.run import Run, with_inputs
from recsys.config import Settings
from recsys.errors import ConfigurationError
from recsys.instants import DAY, compact, from_micros, to_micros


def nightly(run: Run, train: bool = True) -> str:
    """Do the night, and return the name of the published snapshot.

    Args:
        run: From `night`.
        train: False takes the champion instead of training the meta-model.
    """
    for name, compacted in compact_exposures(run.settings).items():
        if compacted.files:
            run.console.print(f"  {name}: {compacted}")
    run.console.print(f"Night as of {from_micros(run.as_of):%Y-%m-%d %H:%M} UTC in {run.folder}")
    last = PUBLISH_SNAPSHOT if train else PUBLISH_SNAPSHOT_OF_CHAMPION
    run.do(with_inputs(last))
    return (run.folder / SNAPSHOT / "name").read_text()


def night(settings: Settings, as_of: int | None = None, today: int | None = None, train: bool = True) -> Run:
    """Return the run of a night.

    Args:
        settings: The shop.
        as_of: The instant; by default the configured one, else `today`.
        today: Today's midnight UTC, by the clock of whoever asks.
        train: Whether the meta-model will be trained, on the days before as_of.

    Raises:
        ConfigurationError: If no instant is given anywhere.
    """
    if as_of is None:
        as_of = to_micros(settings.as_of) if settings.as_of else today
    if as_of is None:
        raise ConfigurationError("no as_of: give --as-of or 'as_of' in the configuration")
    days = settings.meta_model.days if train else 0
    return Run(
        settings=settings,
        folder=Path(settings.folder) / "nights" / compact(as_of),
        as_of=as_of,
        training_days=[as_of - day * DAY for day in range(days, 0, -1)],
        days=[as_of],
    )
