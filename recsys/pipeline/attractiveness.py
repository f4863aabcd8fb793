"""events, sales, sale_features → one small table, from which attractiveness is a matter of arithmetic."""

from importlib.resources import files

from pyspark.sql import DataFrame

from recsys.errors import EmptyInputError
from recsys.instants import DAY, from_micros


def sale_months(events: DataFrame, sales: DataFrame, sale_features: DataFrame, first: int, until: int) -> DataFrame:
    """Count the visits of each sale with tagged photos, and the days before which it was on sale.

    Args:
        events: Table `events`; visits are looked at.
        sales: Table `sales`, each sale once; attributes `country` and `category` are looked at.
        sale_features: Column `sale_id`: the sales with tagged photos, duplicates counted once. Others count nowhere.
        first: The first day whose visits count, its midnight UTC in microseconds.
        until: The day after the last one, its midnight UTC in microseconds.

    Returns:
        One row a sale and month with a visit or a sale-day: `sale_id`, `month` 'YYYY-MM' in UTC, `country` and
        `category` ('(none)' where missing or empty), `visits` and `sale_days`; see sql/attractiveness_sale_months.sql.

    Raises:
        EmptyInputError: If there is no day from `first` until `until`.
    """
    if until - first < DAY:
        raise EmptyInputError(
            f"attractiveness of {from_micros(first):%Y-%m-%d %H:%M} until {from_micros(until):%Y-%m-%d %H:%M} UTC, "
            "needs at least one day: choose an earlier start or a later end"
        )
    query = (files("recsys.sql") / "attractiveness_sale_months.sql").read_text(encoding="utf-8")
    args = {"first": first, "until": until}
    return events.sparkSession.sql(query, args=args, events=events, sales=sales, sale_features=sale_features)
