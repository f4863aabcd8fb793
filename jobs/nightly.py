"""The night: every step that is due, in order, for one instant."""

from pathlib import Path

from jobs.compact_exposures import compact_exposures
from jobs.publish_snapshot import PUBLISH_SNAPSHOT, SNAPSHOT
from jobs.run import Run, with_inputs
from jobs.train_meta_model import TRAIN_META_MODEL
from recsys.config import Settings
from recsys.errors import ConfigurationError
from recsys.instants import DAY, compact, from_micros, to_micros


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
    as_of = instant_of(settings, as_of, today)
    days = settings.meta_model.days if train else 1
    return Run(
        settings=settings,
        folder=Path(settings.folder) / "nights" / compact(as_of),
        as_of=as_of,
        training_days=[as_of - day * DAY for day in range(days, 0, -1)],
        days=[as_of],
    )


def instant_of(settings: Settings, as_of: int | None = None, today: int | None = None) -> int:
    """Return the instant of a night; see `night`.

    Raises:
        ConfigurationError: If no instant is given anywhere.
    """
    if as_of is None:
        as_of = to_micros(settings.as_of) if settings.as_of else today
    if as_of is None:
        raise ConfigurationError("no as_of: give --as-of or 'as_of' in the configuration")
    return as_of
