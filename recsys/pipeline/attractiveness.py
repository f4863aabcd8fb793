"""events, sales, sale_features → visits and sale-days per sale and month, the counts that attractiveness is made of."""

from importlib.resources import files

from pyspark.sql import DataFrame

from recsys.errors import EmptyInputError
from recsys.instants import DAY, from_micros


def sale_months(events: DataFrame, sales: DataFrame, sale_features: DataFrame, first: int, until: int) -> DataFrame:
    """Count the visits and sale-days of each sale with tagged photos, per month.

    Args:
        events: Table `events`; only visits are used.
        sales: Table `sales`, one row per sale; attributes `country` and `category` are used.
        sale_features: Column `sale_id`: the sales with tagged photos; duplicates count once, other sales are ignored.
        first: Midnight of the first day whose visits count, microseconds UTC.
        until: Midnight at the end of the last day, microseconds UTC.

    Returns:
        One row per sale and month with a visit or a sale-day: `sale_id`, `month` 'YYYY-MM' in UTC, `country` and
        `category` ('(none)' where missing or empty), `visits` and `sale_days`; see sql/attractiveness_sale_months.sql.

    Raises:
        EmptyInputError: If the window from `first` until `until` is shorter than a day.
    """
    if until - first < DAY:
        raise EmptyInputError(
            f"attractiveness of {from_micros(first):%Y-%m-%d %H:%M} until {from_micros(until):%Y-%m-%d %H:%M} UTC, "
            "needs at least one day: choose an earlier start or a later end"
        )
    query = (files("recsys.sql") / "attractiveness_sale_months.sql").read_text(encoding="utf-8")
    args = {"first": first, "until": until}
    return events.sparkSession.sql(query, args=args, events=events, sales=sales, sale_features=sale_features)
