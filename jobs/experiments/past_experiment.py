"""events → the user-days of a hypothetical past experiment in which every session was one page."""

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
from jobs.experiments.user_attributes import attribute_names, user_attributes
from recsys.config.settings import Settings
from recsys.errors import EmptyInputError
from recsys.experiments.analysis.outcomes import Quantities, caps, daily_sums
from recsys.experiments.inclusion import share_taken_in
from recsys.experiments.phase_summary import ALL, ALL_USERS, Sums
from recsys.experiments.settings import Experiment, ExperimentFile
from recsys.instants import DAY, HOUR, from_micros, to_micros
from recsys.pipeline import outcomes
from recsys.wording import plural


@dataclass(frozen=True)
class PastUsers:
    """The users of some past days and their outcomes, each user from their first visit of these days on."""

    experiment: Experiment
    """The experiment moved to that time, without layer and segments; its coverage is `share_taken_in`."""
    user_days: pa.Table
    """Their outcomes, as `recsys.experiments.analysis.outcomes.daily_sums` expects them."""
    new_users: Sequence[int]
    """The number of users who came for the first time on each day."""
    share_taken_in: float
    """Share of these users whom the experiment would take in: beside holdouts and the experiments before it in the
    file, by its layer and coverage."""
    all_users: int
    """Number of users who came on these days, including those whom targeting excludes."""
    knows_attributes: bool
    """Whether attributes of users are known; without any, targeting is ignored."""

    @property
    def sums(self) -> Sums:
        """The sums over all users, as of the last day."""
        quantities = Quantities.of(self.experiment)
        found = daily_sums(self.user_days, quantities, caps(self.user_days, quantities))
        return Sums.total(sums for group, sums in found.items() if group[:2] == (ALL, ALL_USERS))


def past_users(settings: Settings, file: ExperimentFile, key: str, days: int, as_of: int) -> PastUsers:
    """Return the targeted users of the latest days whose attribution windows are over at `as_of`.

    Args:
        settings: The settings of the shop.
        file: The experiment file.
        key: The experiment's key.
        days: Number of days in which the users came.
        as_of: Events from this instant on are ignored; microseconds since 1970 UTC.

    Raises:
        EmptyInputError: If no user came whom the experiment would take in.
    """
    experiment = file.experiment(key)
    end = from_micros(as_of) - experiment.attribution
    analysis = experiment.analysis.model_copy(update={"segments": ()})
    changes = {"type": "aa", "start": end - timedelta(days=days), "end": end, "layer": None}
    past = experiment.model_copy(update={**changes, "analysis": analysis})
    events = read_events(spark_session(settings), settings, past, as_of)
    pages = visits_as_pages(events, past).localCheckpoint()  # Spark does not reuse a cached frame inside SQL
    users = outcomes.first_pages(pages).localCheckpoint()
    rows = outcomes.user_days(pages, users, events, past).toArrow()
    first_days = users.select("user_id", f.expr(f"int(first_shown_at div {DAY})").alias("day")).toArrow()
    if not rows.num_rows:
        raise EmptyInputError(
            f"0 users came from {past.start:%Y-%m-%d} to {past.end:%Y-%m-%d}, must be 1 or more: give another --as-of"
        )
    ids = first_days["user_id"].to_pylist()
    known, are_known = user_attributes(settings, ids), bool(attribute_names(settings))
    targeting = experiment.targeting
    targeted = [user for user in ids if not (are_known and targeting) or targeting.holds(known.get(user, {}))]
    share = share_taken_in(file, key, [known.get(user, {}) for user in targeted]) if targeted else 0.0
    if not are_known:  # targeting would exclude all
        untargeted = [each.model_copy(update={"targeting": None}) for each in file.experiments]
        share = share_taken_in(file.model_copy(update={"experiments": tuple(untargeted)}), key, [{}])
    if share == 0.0:
        raise EmptyInputError(
            f"experiment '{key}' would take in none of {plural(len(ids), 'user')}: check targeting, layer, coverage, "
            "and the experiments before it in the file"
        )
    first_days, rows = (
        table.filter(pc.is_in(table["user_id"], pa.array(targeted, pa.string()))) for table in (first_days, rows)
    )
    day_numbers = first_days["day"].to_numpy() - to_micros(past.start) // DAY
    new_users = np.bincount(day_numbers, minlength=days).tolist()
    past = past.model_copy(update={"coverage": min(1.0, share)})
    return PastUsers(past, _sort_by_user_and_day(rows), new_users, share, len(ids), are_known)


def visits_as_pages(events: DataFrame, experiment: Experiment) -> DataFrame:
    """Return one page per user and hour with a visit in the experiment's period, in the form of `outcomes.pages`."""
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


def _sort_by_user_and_day(rows: pa.Table) -> pa.Table:
    return rows.take(pc.sort_indices(rows, sort_keys=[("user_id", "ascending"), ("day", "ascending")]))
