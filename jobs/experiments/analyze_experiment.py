"""exposures_compacted, events, recorded_events_compacted → the summary of an experiment's phase, and its tables."""

import argparse
import secrets
import sys
from collections.abc import Mapping
from datetime import UTC
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession

from jobs.engine.session import spark_session
from jobs.night.compact_exposures import compact_exposures, read_exposures
from recsys.config.settings import Settings, load_settings
from recsys.console import print_error, wide_console
from recsys.errors import EmptyInputError, RecsysError
from recsys.experiments.analysis.outcomes import Quantities
from recsys.experiments.assignment import assign_all, side_names
from recsys.experiments.files import load_experiments
from recsys.experiments.holdouts import as_experiment, earlier_holdouts, holdout_of
from recsys.experiments.phase_summary import PhaseSummary
from recsys.experiments.settings import Experiment, ExperimentFile, Layer
from recsys.instants import dates, from_micros, parse_instant, to_micros
from recsys.logs.records import HOLDOUT, RECORDED_EVENTS
from recsys.pipeline import outcomes, sources, validation
from recsys.pipeline.experiment_health import health
from recsys.pipeline.outcome_sums import caps, experiment_sums, sums_of
from recsys.pipeline.row_rules import EVENT_RULES
from recsys.storage.journal import leased
from recsys.storage.outputs import DATA
from recsys.storage.places import Place, remove
from recsys.tables.experiments import EXPERIMENT_SUMS, EXPERIMENT_USERS
from recsys.tables.logs import COMPACTED_EXPOSURES
from recsys.tables.night import EVENTS, SALES
from recsys.tables.parts import has_begun, read_arrow
from recsys.wording import plural

EXPERIMENTS = "experiments"
_STEP = "summarise"
"""The folder of a shop with the tables of its experiments, one folder per phase."""


def comparison(settings: Settings, file: ExperimentFile, key: str, as_of: int) -> Experiment:
    """Return an experiment, or the comparison of a holdout with all other users as one.

    Args:
        settings: The settings of the shop, whose log tells when a holdout without `start` began.
        file: The experiment file.
        key: The key of the experiment or holdout.
        as_of: The time of the analysis, the end of a holdout that has none; microseconds since 1970 UTC.

    Raises:
        ConfigurationError: If the file has neither.
        EmptyInputError: If no page of the holdout was logged.
    """
    holdout = holdout_of(file, key)
    if holdout is None:
        return file.experiment(key)
    start, end = holdout.start, holdout.end or from_micros(as_of)
    if start is None:
        compact_exposures(settings)
        path = settings.place / COMPACTED_EXPOSURES.name
        logged = (ds.field("experiment") == key) & (ds.field("reason") == HOLDOUT)
        pages = COMPACTED_EXPOSURES.dataset(settings.place) if has_begun(path) else None
        shown = pages.to_table(columns=["exposed_at"], filter=logged)["exposed_at"] if pages else ()
        if not len(shown):
            raise EmptyInputError(f"holdout '{key}' has 0 logged pages, must have 1 or more: check its share, and wait")
        start = pc.min(shown).as_py().replace(tzinfo=UTC)
    return as_experiment(file, holdout, start, end)


def summarise_phase(
    settings: Settings, file: ExperimentFile, key: str, as_of: int, surface: str = "home"
) -> PhaseSummary:
    """Compact the logs, and summarise the outcomes of the users of an experiment's current phase, or of a holdout.

    Tables `experiment_users` and `experiment_sums` are written to the folder of the phase.

    Args:
        settings: The settings of the shop.
        file: The experiment file; each user's variant is recomputed from it, as a check.
        key: The key of the experiment, or of a holdout.
        as_of: Pages and events at or after this instant are ignored, and events recorded at or after it; microseconds
            since 1970 UTC.
        surface: The surface of the file, whose pages are those of a holdout's comparison.

    Raises:
        ConfigurationError: If the file has no such experiment or holdout.
        InputError: If no page was ever logged.
        EmptyInputError: If the experiment included no user before `as_of`.
        BusyError: If another process analyses the same phase, or compacts the logs.
    """
    experiment = comparison(settings, file, key, as_of)
    compact_exposures(settings)
    spark, folder = spark_session(settings), phase_folder(settings, experiment)
    with leased(folder) as lease:
        out = folder / DATA / f"{_STEP}-{secrets.token_hex(4)}"
        days = dates(to_micros(experiment.start), as_of)
        exposures = read_exposures(spark, settings.place, days)
        if (holdout := holdout_of(file, key)) is None:
            pages = outcomes.pages(exposures, experiment, as_of)
        else:
            earlier = earlier_holdouts(file, holdout)
            pages = outcomes.holdout_pages(exposures, surface, experiment, earlier, as_of)
        events = read_events(spark, settings, experiment, as_of)
        summary = _summarise(pages, events, experiment, file.layers, out)
        if summary is None:
            raise EmptyInputError(
                f"experiment '{key}', phase {experiment.phase}, included 0 users from "
                f"{experiment.start:%Y-%m-%d %H:%M} until {from_micros(as_of):%Y-%m-%d %H:%M} UTC, must be 1 or more: "
                "check its status, targeting and coverage, and the time"
            )
        lease.add(
            {"step": _STEP, "data": f"{DATA}/{out.name}", "outputs": [EXPERIMENT_USERS.name, EXPERIMENT_SUMS.name]}
        )
        for other in (folder / DATA).iterdir():  # of the last analysis, and of killed ones
            if other.name != out.name:
                remove(other)
    return summary


def phase_folder(settings: Settings, experiment: Experiment) -> Place:
    """Return the folder of an experiment's current phase; `Outputs.of` tells where in it the tables are."""
    return settings.place / EXPERIMENTS / f"{experiment.key}-{experiment.phase}"


def read_events(spark: SparkSession, settings: Settings, experiment: Experiment, as_of: int) -> DataFrame:
    """Select the shop's valid events like the night does, with the attribution tokens recorded by the service."""
    raw = sources.read_raw_tables(spark, settings.source, settings.place)
    sales, events = (sources.select_table(spark, table, settings.source, raw) for table in (SALES, EVENTS))
    windows = validation.sale_windows(validation.flag_sales(sales, as_of))
    flagged = validation.flag_events(events, windows, as_of, present=as_of)  # later ones are not known, broken or not
    valid = validation.usable(flagged, EVENT_RULES).select(*EVENTS.columns)
    return outcomes.events(valid, raw[RECORDED_EVENTS], experiment, as_of)


def _summarise(
    pages: DataFrame, events: DataFrame, experiment: Experiment, layers: Mapping[str, Layer], folder: Place
) -> PhaseSummary | None:
    """Write both tables to a folder, and return the sums with the health counts; None without users.

    Frames that are read several times are checkpointed. Spark does not reuse cached frames in SQL over them: with
    `cache` it read the pages five times, and took twice as long.
    """
    quantities = Quantities.of(experiment)
    pages = pages.localCheckpoint()
    first_pages = outcomes.first_pages(pages).localCheckpoint()
    if first_pages.isEmpty():
        return None
    users = outcomes.with_segments(first_pages, quantities.segments).localCheckpoint()
    days = outcomes.user_days(pages, users, events, experiment).localCheckpoint()
    EXPERIMENT_USERS.write(outcomes.experiment_users(days, users, experiment), folder)
    limits = caps(EXPERIMENT_USERS.read(pages.sparkSession, folder), quantities)
    EXPERIMENT_SUMS.write(experiment_sums(days, quantities, limits).coalesce(1), folder)
    sums = sums_of(read_arrow(folder / EXPERIMENT_SUMS.name))
    return PhaseSummary(sums, health(pages, users, partial(_variant_names, experiment, layers)))


def _variant_names(experiment: Experiment, layers: Mapping[str, Layer], user_ids: pa.Array) -> NDArray[np.str_]:
    names = np.array([*side_names(experiment), ""])  # index -1, NO_VARIANT, is the empty name
    return names[assign_all(experiment, user_ids, layers)]


def main() -> None:
    """Summarise an experiment's phase; `recsys experiment analyze` also judges it and writes the report."""
    parser = argparse.ArgumentParser(description="analyze_experiment: the outcomes of an experiment, as tables.")
    parser.add_argument("--conf", type=Path, required=True, help="configuration file, such as conf/my_shop.yaml")
    parser.add_argument("--file", type=Path, required=True, help="experiment file, such as conf/experiments/home.yaml")
    parser.add_argument("--experiment", required=True, help="the experiment's key")
    parser.add_argument("--as-of", required=True, help="data before this instant, such as 2026-03-01T00:00:00Z")
    given = parser.parse_args()
    try:
        file = load_experiments(given.file)
        summary = summarise_phase(load_settings(given.conf), file, given.experiment, parse_instant(given.as_of))
        users = summary.health.users
        wide_console().print(", ".join(f"{variant}: {plural(count, 'user')}" for variant, count in users.items()))
    except RecsysError as error:
        print_error(error)
        sys.exit(1)


if __name__ == "__main__":
    main()
