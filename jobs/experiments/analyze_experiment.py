"""exposures_compacted, events, recorded_events_compacted → what is known of an experiment, and its tables."""

import argparse
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession

from jobs.engine.session import spark_session
from jobs.night.compact_exposures import compact_exposures, read_exposures
from recsys.config.settings import Settings, load_settings
from recsys.errors import EmptyInputError, RecsysError
from recsys.experiments.analysis.outcomes import Quantities
from recsys.experiments.assignment import assign_all, side_names
from recsys.experiments.evidence import Evidence
from recsys.experiments.files import load_experiments
from recsys.experiments.settings import Experiment, ExperimentFile, Layer
from recsys.instants import dates, from_micros, parse_instant, to_micros
from recsys.logs.records import RECORDED_EVENTS
from recsys.pipeline import outcomes, sources, validation
from recsys.pipeline.experiment_health import health
from recsys.pipeline.outcome_sums import caps, experiment_sums, sums_of
from recsys.storage.local import held, put_in_place, remove_folder, scratch_folder
from recsys.tables.experiments import EXPERIMENT_SUMS, EXPERIMENT_USERS
from recsys.tables.night import EVENTS, SALES

EXPERIMENTS = "experiments"
"""The folder of a shop that keeps the tables of its experiments, a folder a phase."""


def gather_evidence(settings: Settings, file: ExperimentFile, key: str, as_of: int) -> Evidence:
    """Compact the logs, and sum up what the users of an experiment's present phase did.

    Tables `experiment_users` and `experiment_sums` are written to the folder of the phase.

    Args:
        settings: The shop.
        file: The experiment file; assignment is computed again from it.
        key: The experiment.
        as_of: Pages and events from this instant on are not known, nor events recorded then; microseconds.

    Raises:
        ConfigurationError: If the file has no such experiment.
        InputError: If no page was ever logged.
        EmptyInputError: If the experiment took no user in before `as_of`.
        BusyError: If another process analyses the same phase, or compacts the logs.
    """
    experiment = file.experiment(key)
    compact_exposures(settings)
    spark, folder = spark_session(settings), phase_folder(settings, experiment)
    with held(folder, wait=False), scratch_folder(folder) as scratch:
        days = dates(to_micros(experiment.start), as_of)
        pages = outcomes.pages(read_exposures(spark, Path(settings.folder), days), experiment, as_of)
        events = read_events(spark, settings, experiment, as_of)
        evidence = _evidence(pages, events, experiment, file.layers, scratch)
        if evidence is None:
            raise EmptyInputError(
                f"experiment '{key}', phase {experiment.phase}, took no user in from {experiment.start:%Y-%m-%d %H:%M} "
                f"until {from_micros(as_of):%Y-%m-%d %H:%M} UTC: check its status, targeting and coverage, and the time"
            )
        for table in (EXPERIMENT_USERS, EXPERIMENT_SUMS):
            remove_folder(folder / table.name)
            put_in_place(scratch / table.name, folder / table.name)
    return evidence


def phase_folder(settings: Settings, experiment: Experiment) -> Path:
    """Return the folder of an experiment's present phase."""
    return Path(settings.folder) / EXPERIMENTS / f"{experiment.key}-{experiment.phase}"


def read_events(spark: SparkSession, settings: Settings, experiment: Experiment, as_of: int) -> DataFrame:
    """Select the shop's valid events, as the night does, with the tokens that the service was told."""
    raw = sources.read_raw_tables(spark, settings.source, Path(settings.folder))
    sales, events = (sources.select_table(spark, table, settings.source, raw) for table in (SALES, EVENTS))
    valid_sales = validation.usable(validation.flag_sales(sales), validation.SALE_RULES)
    flagged = validation.flag_events(events, valid_sales, as_of)
    valid = validation.usable(flagged, validation.EVENT_RULES).select(*EVENTS.columns)
    return outcomes.events(valid, raw[RECORDED_EVENTS], experiment, as_of)


def _evidence(
    pages: DataFrame, events: DataFrame, experiment: Experiment, layers: Mapping[str, Layer], folder: Path
) -> Evidence | None:
    """Write both tables, and return what they say with the counts of what may be wrong; None without a user.

    What is read several times is computed once. Spark does not find cached frames again in SQL over them: with
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
    sums = sums_of(pq.read_table(folder / EXPERIMENT_SUMS.name))
    return Evidence(sums, health(pages, users, partial(_variants, experiment, layers)))


def _variants(experiment: Experiment, layers: Mapping[str, Layer], user_ids: pa.Array) -> NDArray[np.str_]:
    names = np.array([*side_names(experiment), ""])  # -1, in no variant, is the last
    return names[assign_all(experiment, user_ids, layers)]


def main() -> None:
    """Gather the evidence of the experiment that the command line names; `recsys experiment analyze` judges it too."""
    parser = argparse.ArgumentParser(description="analyze_experiment: what is known of an experiment, as tables.")
    parser.add_argument("--conf", type=Path, required=True, help="configuration file, such as conf/my_shop.yaml")
    parser.add_argument("--file", type=Path, required=True, help="experiment file, such as conf/experiments/home.yaml")
    parser.add_argument("--experiment", required=True, help="the experiment's key")
    parser.add_argument("--as-of", required=True, help="up to when, such as 2026-03-01T00:00:00Z")
    given = parser.parse_args()
    try:
        file = load_experiments(given.file)
        evidence = gather_evidence(load_settings(given.conf), file, given.experiment, parse_instant(given.as_of))
        print(", ".join(f"{users:,} users of {variant}" for variant, users in evidence.health.users.items()))
    except RecsysError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
