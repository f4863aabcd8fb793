"""The tables that an experiment's exposures and outcomes become; see `recsys/experiments/analysis/outcomes.py`."""

from pyspark.sql.types import DataType, DateType

from recsys.experiments.analysis.outcomes import COLUMNS
from recsys.tables.night import ATTRIBUTES, BOOLEAN, DOUBLE, STRING, TIMESTAMP, Table

_OUTCOMES: dict[str, DataType] = dict.fromkeys(COLUMNS, DOUBLE)

EXPERIMENT_USERS = Table(
    "experiment_users",
    "one row a user whom the experiment took in: what he did within the attribution window from his first page on",
    {
        "user_id": STRING,
        "variant": STRING,  # of his first page
        "first_exposed_at": TIMESTAMP,
        "jumped": BOOLEAN,  # pages of several variants
        "attributes": ATTRIBUTES,  # of the request of his first page
        "triggered": BOOLEAN,  # another variant's page would have been another one
        **_OUTCOMES,
    },
    open_ended=True,  # a column credit_<variant> a variant where policies are interleaved
)

EXPERIMENT_SUMS = Table(
    "experiment_sums",
    "one row a population, segment, day, variant and quantity; what it grew by on the day, summed over users",
    {
        "population": STRING,
        "segment": STRING,
        "day": DateType(),
        "variant": STRING,
        "a": STRING,  # null: the quantity is the number of users
        "b": STRING,  # null: the quantity is column a, else the product of a and b
        "value": DOUBLE,
    },
)
