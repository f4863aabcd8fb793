"""What the start of a file cannot tell: kinds, the first and last event, ids without a user; counted by Spark."""

from collections.abc import Mapping

from pyspark.sql import DataFrame, Row, SparkSession

from recsys.errors import EmptyInputError, InputError
from recsys.instants import DAY, EARLIEST
from recsys.onboarding.plan import EventCounts, Plan
from recsys.onboarding.writing import condition, events_of
from recsys.pipeline.row_rules import is_placeholder
from recsys.spark_errors import SPARK_ERRORS, first_line

_MARGINS = (1, 7, 30, 90)
"""Days after its last event for which a sale without a closing time may stay open."""
_ENOUGH_SALES = 100
_MOST_KINDS = 1000


def count_events(spark: SparkSession, raw: Mapping[str, DataFrame], plan: Plan, present: int) -> EventCounts:
    """Count all rows of the events' files.

    Args:
        spark: The session.
        raw: The raw tables.
        plan: The columns and their forms.
        present: Microseconds UTC.

    Raises:
        InputError: If Spark cannot read the files.
        EmptyInputError: If no row has an instant between 1990 and the present.
    """
    usable = f"occurred_at between timestamp_micros({EARLIEST}) and timestamp_micros({present})"
    kind = "kind" if plan.has_kinds else "cast(null as string)"
    has_quantity = any(plan.column(f"{table}.quantity") for table in plan.event_tables)
    returns = "count_if(quantity <= 0)" if has_quantity else "0"
    query = f"""
        select {kind} as kind, count(*) as n,
            unix_micros(min(occurred_at) filter (where {usable})) as first,
            unix_micros(max(occurred_at) filter (where {usable})) as last,
            max(struct(occurred_at, user_id)) filter (where {usable} and trim(user_id) <> '') as last_event,
            count_if(trim(coalesce(user_id, '')) = '') as without_user,
            count_if(trim(coalesce(sale_id, '')) = '') as without_sale,
            {returns} as returns,
            slice(collect_set(case when {is_placeholder("user_id")} then user_id end), 1, 20) as placeholders
        from ({events_of(plan)})
        group by 1 order by n desc, kind limit {_MOST_KINDS}
        """
    rows = _collect(spark, query, raw)
    dated = [row for row in rows if row["first"]]
    if not dated:
        raise EmptyInputError(
            "no event occurred between 1990 and the present: look at the values, and name another column by --column "
            "events.occurred_at=NAME"
        )
    last_events = [row["last_event"] for row in dated if row["last_event"]]
    return EventCounts(
        rows=sum(row["n"] for row in rows),
        kinds={row["kind"]: row["n"] for row in rows if row["kind"] is not None} if plan.has_kinds else {},
        first=min(row["first"] for row in dated),
        last=max(row["last"] for row in dated),
        without_user=sum(row["without_user"] for row in rows),
        without_sale=sum(row["without_sale"] for row in rows),
        returns=sum(row["returns"] for row in rows),
        placeholders=tuple(sorted({each for row in rows for each in row["placeholders"]})),
        last_user=max(last_events)["user_id"] if last_events else "",
    )


def has_copies(spark: SparkSession, raw: Mapping[str, DataFrame], plan: Plan) -> bool:
    """Return whether a sale's id is in several rows of the sales' files.

    Raises:
        InputError: If Spark cannot read the files.
    """
    sale = plan.sql("sales.sale_id")
    query = f"select count({sale}) > count(distinct {sale}) as has_copies from {{{plan.files['sales']}}}"
    return bool(_collect(spark, query, raw)[0]["has_copies"])


def margin_days(spark: SparkSession, raw: Mapping[str, DataFrame], plan: Plan, last: int) -> int:
    """Return for how many days after its last event a sale is open, so that enough are open on the day after.

    A night ranks the sales that are open from the midnight after the last event on. If events tell days only, a sale
    that closes a day after its last event is closed at that midnight.

    Returns:
        1, 7, 30 or 90: the first with which 100 sales are open at that midnight, or half of them.

    Raises:
        InputError: If Spark cannot read the files.
    """
    midnight = last - last % DAY + DAY
    counts = ", ".join(f"count_if(last > timestamp_micros({midnight - days * DAY})) as d{days}" for days in _MARGINS)
    query = f"""
        select count(*) as sales, {counts}
        from (select sale_id, max(occurred_at) as last from ({events_of(plan)}) {condition(plan)} group by sale_id)
        """
    found = _collect(spark, query, raw)[0]
    enough = min(_ENOUGH_SALES, found["sales"] / 2)
    return next((days for days in _MARGINS if found[f"d{days}"] >= enough), _MARGINS[-1])


def _collect(spark: SparkSession, query: str, raw: Mapping[str, DataFrame]) -> list[Row]:
    try:
        return spark.sql(query, None, **raw).collect()
    except SPARK_ERRORS as error:
        raise InputError(
            f"{first_line(error)}: look at how the files are read, name other columns by --column, or write the "
            "configuration by hand, see docs/raw_tables.md"
        ) from error
