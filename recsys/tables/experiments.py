"""The tables of an experiment's users and sums; see `recsys/experiments/analysis/outcomes.py`."""

from pyspark.sql.types import DataType, DateType

from recsys.experiments.analysis.outcomes import COLUMNS
from recsys.tables.night import ATTRIBUTES, BOOLEAN, DOUBLE, STRING, TIMESTAMP, Table

_OUTCOMES: dict[str, DataType] = dict.fromkeys(COLUMNS, DOUBLE)

EXPERIMENT_USERS = Table(
    "experiment_users",
    "one row per user of the experiment: the outcomes within the attribution window from the first page on",
    {
        "user_id": STRING,
        "variant": STRING,  # of the user's first page
        "first_exposed_at": TIMESTAMP,
        "jumped": BOOLEAN,  # the user saw pages of more than one variant
        "attributes": ATTRIBUTES,  # of the request for the first page
        "triggered": BOOLEAN,  # the variants' pages differed at least once
        **_OUTCOMES,
    },
    open_ended=True,  # an interleaving experiment also has a column credit_<variant> per variant
)

EXPERIMENT_SUMS = Table(
    "experiment_sums",
    "one row per population, segment, day, variant and quantity: its growth on the day, summed over users",
    {
        "population": STRING,
        "segment": STRING,
        "day": DateType(),
        "variant": STRING,
        "a": STRING,  # null: the quantity is the number of users
        "b": STRING,  # null: the quantity is column a, else the product of a and b
        "c": STRING,  # not null: the quantity is the product of a, b and c
        "value": DOUBLE,
    },
)
