"""The tables of an experiment's users and sums; see `recsys/experiments/analysis/outcomes.py`."""

from pyspark.sql.types import DateType

from recsys.experiments.analysis.outcomes import ATTRIBUTED, COUNTED, PAST
from recsys.tables.night import ATTRIBUTES, BOOLEAN, DOUBLE, STRING, TIMESTAMP, Column, Table

_OF_A_PAGE = "The same of events whose token names a page of the experiment."
_BEFORE = "The same in the lookback days of `cuped` before the first page."
_OUTCOMES = {
    "exposures": "Number of pages.",
    "fallbacks": "Number of pages that were made from a fallback.",
    "visits": "Number of visits.",
    "purchases": "Number of purchases.",
    "revenue": "Sum of the revenue of the purchases.",
    **dict.fromkeys(ATTRIBUTED, _OF_A_PAGE),
    **dict.fromkeys(PAST, _BEFORE),
}

EXPERIMENT_USERS = Table(
    "experiment_users",
    "one row per user of the experiment: the outcomes within the attribution window from the first page on",
    {
        "user_id": Column(STRING, "Id of the user."),
        "variant": Column(STRING, "Variant of the user's first page."),
        "first_exposed_at": Column(TIMESTAMP, "When the first page was served."),
        "jumped": Column(BOOLEAN, "Whether the user saw pages of more than one variant."),
        "attributes": Column(ATTRIBUTES, "Attributes of the request for the first page."),
        "triggered": Column(BOOLEAN, "Whether the variants' pages differed at least once."),
        **{name: Column(DOUBLE, _OUTCOMES[name]) for name in (*COUNTED, *ATTRIBUTED, *PAST)},
    },
    further="Of an interleaving experiment, `credit_VARIANT` for each variant, double: number of purchases of sales "
    "that it contributed.",
)

EXPERIMENT_SUMS = Table(
    "experiment_sums",
    "one row per population, segment, day, variant and quantity: its growth on the day, summed over users",
    {
        "population": Column(STRING, "`all` users, or those `triggered`: for whom the pages of the variants differed."),
        "segment": Column(STRING, "Segment of the users, such as `country=DE`; empty for all."),
        "day": Column(DateType(), "The day, UTC."),
        "variant": Column(STRING, "The variant."),
        "a": Column(STRING, "Column of `experiment_users`; null: the quantity is the number of users."),
        "b": Column(STRING, "Null: the quantity is column `a`, else the product of `a` and `b`."),
        "c": Column(STRING, "Not null: the quantity is the product of `a`, `b` and `c`."),
        "value": Column(DOUBLE, "The growth of the quantity on the day."),
    },
)
