"""The tables that the service's logs are compacted into; `recsys/logs/records.py` says what their columns mean."""

from dataclasses import dataclass

from pyspark.sql.types import ArrayType, DataType, DateType

from recsys.logs import records as exposures
from recsys.tables.night import ATTRIBUTES, DOUBLE, FLOAT, INTEGER, STRING, TIMESTAMP, Table

DAY = "day"
DATE, STRINGS = DateType(), ArrayType(STRING)

COMPACTED_EXPOSURES = Table(
    "exposures_compacted",
    "one row per served page (event_id); the lists hold its sales in their order, day is that of exposed_at in UTC",
    {
        "event_id": STRING,
        "exposed_at": TIMESTAMP,
        "request_id": STRING,
        "user_id": STRING,
        "surface": STRING,
        "policy": STRING,
        "model_version": STRING,
        "snapshot": STRING,
        "fallback_level": STRING,
        "n": INTEGER,
        "sale_ids": STRINGS,
        "scores": ArrayType(FLOAT),  # null where a sale fills up the page
        "attributes": ATTRIBUTES,
        "session_sale_ids": STRINGS,
        "rules": STRINGS,
        "experiment": STRING,
        "phase": INTEGER,
        "variant": STRING,
        "bucket": INTEGER,
        "reason": STRING,
        "configuration_sha": STRING,
        "propensities": ArrayType(DOUBLE),
        "overlap_at_10": DOUBLE,
        "teams": STRINGS,  # the variant that contributed each sale, null where nothing is interleaved
        DAY: DATE,
    },
    partitioned_by=(DAY,),
)

COMPACTED_EVENTS = Table(
    "recorded_events_compacted",
    "one row per event that was reported to the service (event_id); day is that of occurred_at in UTC",
    {
        "event_id": STRING,
        "user_id": STRING,
        "sale_id": STRING,
        "kind": STRING,
        "occurred_at": TIMESTAMP,
        "recorded_at": TIMESTAMP,
        "revenue": DOUBLE,
        "attribution_token": STRING,
        DAY: DATE,
    },
    partitioned_by=(DAY,),
)

_REJECTED: dict[str, DataType] = {"file": STRING, "reason": STRING, "line": STRING}


@dataclass(frozen=True)
class RecordKind:
    """One log of the service: the folder of its files, and the tables that they are compacted into."""

    name: str
    compacted: Table
    rejected: Table
    happened_at: str
    """The column that gives the day of a record."""
    delivered_at: str
    """The column that orders the copies of a record: the first copy is kept."""


EXPOSURES = RecordKind(
    exposures.EXPOSURES,
    COMPACTED_EXPOSURES,
    Table("rejected_exposures", "one row per line of a log file that is no exposure", _REJECTED),
    happened_at="exposed_at",
    delivered_at="exposed_at",
)
RECORDED_EVENTS = RecordKind(
    exposures.RECORDED_EVENTS,
    COMPACTED_EVENTS,
    Table("rejected_recorded_events", "one row per line of a log file that is no recorded event", _REJECTED),
    happened_at="occurred_at",
    delivered_at="recorded_at",
)
