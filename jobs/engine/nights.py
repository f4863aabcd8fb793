"""The run of a night, and the command line of a single step of it."""

import argparse
import json
import logging
import sys
from datetime import UTC, datetime
from pathlib import Path

from jobs.engine.run import Run, Step, with_inputs
from jobs.registry.retraining import training_is_due
from recsys.config.settings import Settings, load_settings
from recsys.console import print_error, show_progress
from recsys.errors import ConfigurationError, RecsysError
from recsys.instants import DAY, compact, parse_instant, to_micros, to_micros_in_range
from recsys.storage.outputs import Outputs
from recsys.storage.places import Place

_log = logging.getLogger(__name__)

PLAN = "plan.json"
"""File in a night's folder that records whether the night trains; written by its first step."""


def night(
    settings: Settings,
    as_of: int | None = None,
    today: int | None = None,
    trains: bool = True,
    is_hourly: bool = False,
    publishes: bool = True,
    rebuilds: bool = False,
) -> Run:
    """Return the run of a night, or of an hour between two nights.

    Args:
        settings: The shop.
        as_of: The instant, microseconds UTC; by default the configured one, otherwise `today`.
        today: Today's midnight UTC, microseconds, by the caller's clock.
        trains: Whether the meta-model is trained, on the days before as_of.
        is_hourly: Whether it is an hour between two nights; it trains nothing. Its features are measured on the last
            whole day of a night, since those of another time of day differ from the model's training.
        publishes: Whether its snapshot becomes the current one, unless a later one is.
        rebuilds: Whether nothing is carried on from earlier nights.

    Raises:
        ConfigurationError: If there is no instant: neither configured nor given as an argument.
    """
    as_of = instant_of(settings, as_of, today)
    days = settings.meta_model.days if trains and not is_hourly else 1
    time_of_night = to_micros_in_range(settings.as_of) % DAY if settings.as_of else 0
    last = as_of - (as_of - time_of_night) % DAY if is_hourly else as_of
    return Run(
        settings=settings,
        folder=_folder_of_night(settings, as_of),
        as_of=as_of,
        training_days=[last - day * DAY for day in range(days, 0, -1)],
        days=[as_of],
        trains=trains and not is_hourly,
        is_hourly=is_hourly,
        publishes=publishes,
        rebuilds=rebuilds,
    )


def planned_night(settings: Settings, as_of: int | None = None, today: int | None = None) -> Run:
    """Return the run of a night that trains if its plan says so; see `night`.

    Without a plan it trains if training is due, as the night itself would. So a single step, or a report over a night's
    tables, uses the same training days as the night.
    """
    as_of = instant_of(settings, as_of, today)
    folder = _folder_of_night(settings, as_of)
    planned = _read_plan(folder) or {"trains": training_is_due(settings, as_of)}
    return night(settings, as_of, trains=planned["trains"], is_hourly=is_planned_hourly(folder))


def is_planned_hourly(folder: Place) -> bool:
    """Return whether the plan in a night's folder is of an hour between two nights."""
    return _read_plan(folder).get("is_hourly", False)


def instant_of(settings: Settings, as_of: int | None = None, today: int | None = None) -> int:
    """Return the instant of a night; see `night`.

    Raises:
        ConfigurationError: If there is no instant, neither configured nor given as an argument, or it is out of range.
    """
    if as_of is None:
        as_of = to_micros_in_range(settings.as_of) if settings.as_of else today
    if as_of is None:
        raise ConfigurationError("no as_of: give --as-of or 'as_of' in the configuration")
    return as_of


def today() -> int:
    """Return the last midnight UTC, microseconds: the instant of a night if the configuration has none."""
    return to_micros(datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0))


def main(step: Step, only_if_trains: bool = False) -> None:
    """Run one step of the night given on the command line, after the steps before it that are due.

    Args:
        step: The step.
        only_if_trains: Whether it belongs to nights that train; on others, it says so and does nothing.
    """
    parser = argparse.ArgumentParser(
        description=f"{step.name}: run this step of the night, after the steps before it that are due."
    )
    parser.add_argument("--conf", type=Path, required=True, help="configuration file, such as conf/demo.yaml")
    parser.add_argument(
        "--as-of", help="instant of the night, such as 2026-03-01T00:00:00Z; the configured one by default"
    )
    arguments = parser.parse_args()
    show_progress()
    try:
        as_of = parse_instant(arguments.as_of) if arguments.as_of else None
        run = planned_night(load_settings(arguments.conf), as_of)
        if only_if_trains and not run.trains:
            _log.info(f"{step.name} is not run: this night trains no new version, 'recsys nightly --train' does")
        else:
            run.do(with_inputs(step))
    except RecsysError as error:
        print_error(error)
        sys.exit(1)


def _read_plan(folder: Place) -> dict[str, bool]:
    """Return the plan in a night's folder; empty without one."""
    plan = Outputs.of(folder) / PLAN
    return json.loads(plan.read_text()) if plan.exists() else {}


def _folder_of_night(settings: Settings, as_of: int) -> Place:
    return settings.place / "nights" / compact(as_of)
