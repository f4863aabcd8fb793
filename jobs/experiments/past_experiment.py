"""events → what an experiment would have found in the past, had every session been one of its pages."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as f

from jobs.engine.session import spark_session
from jobs.experiments.analyze_experiment import read_events
from recsys.config.settings import Settings
from recsys.errors import EmptyInputError
from recsys.experiments.analysis.outcomes import Quantities, caps, daily_sums
from recsys.experiments.evidence import ALL, EVERYBODY, Sums
from recsys.experiments.settings import Experiment
from recsys.instants import DAY, HOUR, from_micros, to_micros
from recsys.pipeline import outcomes


@dataclass(frozen=True)
class PastUsers:
    """The users who came in some past days, each from his first visit of them on."""

    experiment: Experiment
    """As it would have been then: without layer, coverage and segments."""
    user_days: pa.Table
    """What they did, as `recsys.experiments.outcomes.daily_sums` takes it."""
    new_users: Sequence[int]
    """How many came for the first time on each day."""

    @property
    def sums(self) -> Sums:
        """Return the sums over all of them, as of the last day."""
        quantities = Quantities.of(self.experiment)
        found = daily_sums(self.user_days, quantities, caps(self.user_days, quantities))
        return Sums.total(sums for group, sums in found.items() if group[:2] == (ALL, EVERYBODY))


def past_users(settings: Settings, experiment: Experiment, days: int, as_of: int) -> PastUsers:
    """Look at the users of so many days, which end early enough before as_of for all their outcomes to be known.

    Raises:
        EmptyInputError: If nobody came.
    """
    end = from_micros(as_of) - experiment.attribution
    analysis = experiment.analysis.model_copy(update={"segments": ()})
    changes = {"type": "aa", "start": end - timedelta(days=days), "end": end, "coverage": 1.0, "layer": None}
    past = experiment.model_copy(update={**changes, "analysis": analysis})
    events = read_events(spark_session(settings), settings, past, as_of)
    pages = visits_as_pages(events, past).localCheckpoint()  # a cached frame would be computed again inside SQL
    users = outcomes.first_pages(pages).localCheckpoint()
    rows = outcomes.user_days(pages, users, events, past).toArrow()
    first_days = users.select(f.expr(f"int(first_shown_at div {DAY})").alias("day")).toArrow()["day"]
    if not rows.num_rows:
        raise EmptyInputError(f"nobody came from {past.start:%Y-%m-%d} to {past.end:%Y-%m-%d}: give another --as-of")
    numbers = first_days.to_numpy() - to_micros(past.start) // DAY
    return PastUsers(past, _sorted(rows), np.bincount(numbers, minlength=days).tolist())


def visits_as_pages(events: DataFrame, experiment: Experiment) -> DataFrame:
    """Return the visits of a user within an hour of the experiment's window as one page, as `outcomes.pages` would."""
    start, end = to_micros(experiment.start), to_micros(experiment.end)
    visits = events.where(f"kind = 'visit' and occurred_at >= {start} and occurred_at < {end}")
    hours = visits.groupBy("user_id", f.expr(f"occurred_at div {HOUR}")).agg(f.min("occurred_at").alias("shown_at"))
    return hours.selectExpr(
        "user_id",
        "cast(null as string) as request_id",
        "shown_at",
        "'' as variant",
        "'assigned' as reason",
        "true as is_analysed",
        "false as fell_back",
        "false as differed",
        "'' as configuration_sha",
        "'' as model_version",
        "cast(null as map<string, string>) as attributes",
        "cast(null as array<string>) as sale_ids",
        "cast(null as array<string>) as teams",
    )


def _sorted(rows: pa.Table) -> pa.Table:
    """Return the days of each user in order, as sums of them need."""
    return rows.take(pc.sort_indices(rows, sort_keys=[("user_id", "ascending"), ("day", "ascending")]))
