"""user_histories, fitted_recommenders, exposures_compacted → training_examples."""

from datetime import date
from pathlib import Path

from pyspark.sql import DataFrame
from pyspark.sql import functions as f

from jobs.engine.nights import main
from jobs.engine.run import Run, Step
from jobs.night.compact_exposures import read_exposures
from jobs.night.fit_recommenders import FIT_RECOMMENDERS
from recsys.instants import DAY as A_DAY
from recsys.instants import dates
from recsys.pipeline.examples import BUCKETS, bucket_of_user, buckets_within, most_examples, training_examples
from recsys.pipeline.impressions import with_impressions
from recsys.storage.places import Place, sizes_below
from recsys.tables.event_parts import parts_of_days
from recsys.tables.logs import COMPACTED_EXPOSURES, DAY
from recsys.tables.night import EVENTS, TRAINING_EXAMPLES, USER_HISTORIES
from recsys.tables.parts import last_list
from recsys.tables.spark_parts import PartTasks
from recsys.wording import plural


def build_training_set(run: Run, out: Place) -> str:
    """Write examples of the purchases of the training days, including sales shown and not bought if pages were
    logged."""
    TRAINING_EXAMPLES.write(examples(run, run.open_training_days), out)
    conditions = ("bought", "not bought", "not bought and position > 0")
    written = TRAINING_EXAMPLES.read(run.spark, out).agg(*(f.count_if(f.expr(each)) for each in conditions))
    purchases, not_bought, shown = written.collect()[0]
    summary = f"{plural(purchases, 'purchase')}, {plural(not_bought, 'sale')} not bought"
    return summary + (f", {shown:,} of them shown" if shown else "")


def examples(run: Run, as_ofs: list[int]) -> DataFrame:
    """Return examples of the purchases of the 24 hours from each of the instants on."""
    exposures = read_exposures(run.spark, run.settings.place, _dates_touched(as_ofs)) if _logged_pages(run) else None
    histories = sampled_histories(run, as_ofs, exposures)
    return training_examples(histories, run.shop, as_ofs, run.settings.meta_model)


def sampled_histories(run: Run, as_ofs: list[int], exposures: DataFrame | None = None) -> DataFrame | PartTasks:
    """Return the histories of the users whose examples are within `meta_model.max_examples`: of all, or of a sample.

    Args:
        run: The night, or a backtest.
        as_ofs: Instants of the days of the examples, microseconds UTC.
        exposures: The pages of those days, which the histories are to have; None if no page is logged.
    """
    settings, everyone = run.settings.meta_model, USER_HISTORIES.in_parts(run.spark, run.outputs)
    if exposures is None and EVENTS.rows(run.outputs) * (1 + settings.negatives) <= settings.max_examples:
        return everyone  # even if all events were purchases
    days = parts_of_days(run.outputs / EVENTS.name, as_ofs)
    most = most_examples(EVENTS.read(run.spark, run.outputs, days), as_ofs, settings, exposures)
    buckets = buckets_within(most, settings.max_examples)
    if exposures is None and buckets == BUCKETS:
        return everyone
    histories = USER_HISTORIES.read(run.spark, run.outputs)
    if buckets < BUCKETS:
        histories = histories.where(bucket_of_user(settings.seed) < buckets)
    return histories if exposures is None else with_impressions(histories, exposures)


def _logged_pages(run: Run) -> list[tuple[str, int]]:
    """Return the names and sizes of the files with pages of the training days; a file never changes once it exists."""
    folder = run.settings.place / COMPACTED_EXPOSURES.name
    days = [f"{DAY}={day}" for day in _dates_touched(run.training_days)]
    if not isinstance(folder, Path):
        return [(part.name, part.bytes) for part in last_list(folder)[1] if part.name.split("/")[0] in days]
    return [file for day in days for file in sorted(sizes_below(folder / day).items())]


def _dates_touched(as_ofs: list[int]) -> list[date]:
    """Return the UTC dates that the 24 hours from each instant touch: two per instant, one if it is a midnight."""
    return sorted({day for as_of in as_ofs for day in dates(as_of, as_of + A_DAY)})


BUILD_TRAINING_SET = Step(
    "build_training_set",
    build_training_set,
    ("training_examples",),
    inputs=(FIT_RECOMMENDERS,),
    depends_on=lambda run: [run.settings.meta_model, _logged_pages(run)],
)

if __name__ == "__main__":
    main(BUILD_TRAINING_SET, only_if_trains=True)
