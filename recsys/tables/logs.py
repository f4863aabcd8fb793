"""The tables that the service's logs are compacted into; `recsys/logs/records.py` writes the records."""

from dataclasses import dataclass

from pyspark.sql.types import ArrayType, DateType

from recsys.logs import records as exposures
from recsys.tables.night import ATTRIBUTES, DOUBLE, FLOAT, INTEGER, STRING, TIMESTAMP, Column, Table

DAY = "day"
DATE, STRINGS = DateType(), ArrayType(STRING)

COMPACTED_EXPOSURES = Table(
    "exposures_compacted",
    "one row per served page; the lists hold one value per sale, best first",
    {
        "event_id": Column(STRING, "Key: a digest of experiment, phase, user and request, the same for each delivery."),
        "exposed_at": Column(TIMESTAMP, "When the page was served, by the clock of the service."),
        "request_id": Column(STRING, "Id of the answer; the `attribution_token` of events that it led to."),
        "user_id": Column(STRING, "Id of the user; empty for an anonymous visitor."),
        "surface": Column(STRING, "Page that was asked for, such as `home`, `similar` or `mail`."),
        "policy": Column(STRING, "Policy that ordered the page, after any fallback."),
        "model_version": Column(STRING, "Version of the model `home_ranker`; empty if there was none."),
        "snapshot": Column(STRING, "Name of the snapshot that the page was made from."),
        "fallback_level": Column(STRING, "`none` for the policy's own ranking, else what stood in for it."),
        "n": Column(INTEGER, "Number of sales that the caller asked for."),
        "sale_ids": Column(STRINGS, "The sales of the page."),
        "scores": Column(ArrayType(FLOAT), "Score of each sale by the policy; null where a sale fills up the page."),
        "attributes": Column(ATTRIBUTES, "Attributes of the request, which targeting reads."),
        "session_sale_ids": Column(STRINGS, "Sales of the running session that the page was ordered by."),
        "rules": Column(STRINGS, "Names of the rules that changed the page; not one per sale."),
        "experiment": Column(STRING, "Key of the experiment or holdout; null if the user is in none."),
        "phase": Column(INTEGER, "Phase of the experiment, from 1; 0 for a holdout."),
        "variant": Column(STRING, "Key of the variant that the page was served from."),
        "bucket": Column(INTEGER, "The user's bucket, in 0..9999; null for an override."),
        "reason": Column(STRING, "Why this variant: `assigned`, `override`, `holdout`, `fallback` or `kill`."),
        "configuration_sha": Column(STRING, "Digest of what the experiment's file says of it."),
        "propensities": Column(
            ArrayType(DOUBLE), "Probability that each sale was drawn for its position; null if nothing is drawn."
        ),
        "overlap_at_10": Column(
            DOUBLE,
            "Share of the first ten positions at which another variant's page has the same sale, for the variant that "
            "differs most; 1 if all variants show the same.",
        ),
        "teams": Column(STRINGS, "Variant that contributed each sale of an interleaved page, else null."),
        DAY: Column(DATE, "Day of `exposed_at` in UTC; a folder."),
    },
    partitioned_by=(DAY,),
)

COMPACTED_EVENTS = Table(
    "recorded_events_compacted",
    "one row per event that the website reported to the service",
    {
        "event_id": Column(STRING, "Key: the website's, else a digest of user, sale, kind and instant."),
        "user_id": Column(STRING, "Id of the user."),
        "sale_id": Column(STRING, "The sale that was visited or bought in."),
        "kind": Column(STRING, "`visit` or `purchase`."),
        "occurred_at": Column(TIMESTAMP, "When it occurred."),
        "recorded_at": Column(TIMESTAMP, "When it was reported to the service."),
        "revenue": Column(DOUBLE, "Revenue of a purchase in the shop's currency; null if none was reported."),
        "attribution_token": Column(STRING, "The `request_id` of the page that led to it; empty if none was sent."),
        DAY: Column(DATE, "Day of `occurred_at` in UTC; a folder."),
    },
    partitioned_by=(DAY,),
)

_REJECTED = {
    "file": Column(STRING, "Name of the log file."),
    "reason": Column(STRING, "What is wrong with the line."),
    "line": Column(STRING, "The line."),
}


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
