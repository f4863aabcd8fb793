"""The tables of the night, each declared once: columns, key, grain, units; checked on each read and write."""

import json
from dataclasses import dataclass, field

import pandas as pd
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema
from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    BooleanType,
    DataType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    MapType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

from recsys.errors import SchemaError
from recsys.storage.places import Place
from recsys.tables.outputs import Outputs
from recsys.tables.parts import first_schema, parts_of, write_table
from recsys.tables.spark_parts import read_spark, write_parts

STRING, TIMESTAMP, DOUBLE, BOOLEAN = StringType(), TimestampType(), DoubleType(), BooleanType()
INTEGER, LONG, FLOAT, BINARY = IntegerType(), LongType(), FloatType(), BinaryType()
ATTRIBUTES = MapType(STRING, STRING)
_SPARK_SCHEMA = b"org.apache.spark.sql.parquet.row.metadata"


@dataclass(frozen=True)
class Table:
    """A table's name, grain and columns.

    Columns in `optional` may be missing from a source and are null then. `open_ended` tables have further columns
    that depend on the configuration, such as one per feature.
    """

    name: str
    grain: str
    columns: dict[str, DataType]
    optional: tuple[str, ...] = ()
    partitioned_by: tuple[str, ...] = field(default=())
    open_ended: bool = False

    @property
    def schema(self) -> StructType:
        """The declared columns as a Spark schema."""
        return StructType([StructField(name, kind) for name, kind in self.columns.items()])

    def empty(self, spark: SparkSession) -> DataFrame:
        """Return the table without rows; made of Arrow, since Spark starts Python workers to read a list."""
        return spark.createDataFrame(to_arrow_schema(self.schema, timezone="UTC").empty_table(), self.schema)

    def write_rows(self, rows: pd.DataFrame, folder: Place) -> None:
        """Write the table's columns of a pandas frame into a folder, without Spark."""
        plain = rows[list(self.columns)].astype(object)
        schema = to_arrow_schema(self.schema, timezone="UTC")
        write_table(pa.Table.from_pandas(plain, schema, preserve_index=False), folder / self.name)

    def check(self, frame: DataFrame, where: str = "") -> DataFrame:
        """Return the frame if its columns are the table's.

        Raises:
            SchemaError: Naming every missing, unknown and wrongly typed column.
        """
        found = {column.name: column.dataType for column in frame.schema}
        problems = [
            f"column {name} is missing, must be {kind.simpleString()}"
            for name, kind in self.columns.items()
            if name not in found and name not in self.optional
        ]
        problems += [
            f"column {name} is {found[name].simpleString()}, must be {kind.simpleString()}{_advice(found[name], kind)}"
            for name, kind in self.columns.items()
            if name in found and not _is_same_type(found[name], kind)
        ]
        if not self.open_ended:
            problems += [f"column {name} is unknown: remove or rename it" for name in found if name not in self.columns]
        if problems:
            location = f" ({where})" if where else ""
            raise SchemaError(f"table {self.name}{location}: " + "; ".join(problems))
        return frame

    def read(self, spark: SparkSession, folder: Place | Outputs) -> DataFrame:
        """Read the table from a folder, or from the outputs of a run.

        Raises:
            InputError: If there is no such table, or a part of it is not as it was written.
            SchemaError: If its columns are not those declared.
        """
        table = folder / self.name
        return self.check(read_spark(spark, table, self._read_schema(table)), str(table))

    def _read_schema(self, table: Place) -> StructType:
        """Return the columns that one of the table's files has; Spark would start a job to infer them."""
        schema = first_schema(table)
        by_spark = (schema.metadata or {}).get(_SPARK_SCHEMA)
        inside = StructType.fromJson(json.loads(by_spark)) if by_spark else from_arrow_schema(schema)
        named_by_folders = [StructField(name, self.columns[name]) for name in self.partitioned_by]
        return StructType([*inside, *named_by_folders])

    def rows(self, folder: Place | Outputs) -> int:
        """Return the number of rows of the table in a folder, or in the outputs of a run; no file is opened for it.

        Raises:
            InputError: If there is no such table.
        """
        return sum(part.rows for part in parts_of(folder / self.name))

    def write(self, frame: DataFrame, folder: Place) -> None:
        """Write the table into a folder.

        Raises:
            SchemaError: If the frame's columns are not those declared.
        """
        write_parts(self.check(frame), folder / self.name, self.partitioned_by)


SALES = Table(
    "sales",
    "one row per sale",
    {
        "sale_id": STRING,
        "opens_at": TIMESTAMP,
        "closes_at": TIMESTAMP,
        "title": STRING,
        "description": STRING,
        "price": DOUBLE,
        "attributes": ATTRIBUTES,
    },
    optional=("description", "price", "attributes"),
)

EVENTS = Table(
    "events",
    "one row per event: a visit or a purchase of a sale by a user at an instant",
    {
        "user_id": STRING,
        "sale_id": STRING,
        "kind": STRING,
        "occurred_at": TIMESTAMP,
        "recorded_at": TIMESTAMP,
        "revenue": DOUBLE,
    },
    optional=("recorded_at", "revenue"),
)

USERS = Table("users", "one row per user", {"user_id": STRING, "attributes": ATTRIBUTES})

SALE_IMAGES = Table(
    "sale_images",
    "one row per photo of a sale",
    {
        "sale_id": STRING,
        "image_uri": STRING,  # a path, relative to images.root, or an fsspec URL
        "position": INTEGER,  # 0 is the cover
    },
)

REJECTED_ROWS = Table(
    "rejected_rows",
    "one row per source row that breaks a rule",
    {"table": STRING, "rule": STRING, "row": STRING},
)

IMAGE_TAGS = Table(
    "image_tags",
    "one row per photo of a sale that could be tagged; the lists hold its best tags, most probable first",
    {
        "sale_id": STRING,
        "position": INTEGER,
        "image_uri": STRING,
        "image_hash": STRING,  # of the content: photos with the same hash are the same
        "tags": ArrayType(STRING),
        "probabilities": ArrayType(FLOAT),
        "weights": ArrayType(FLOAT),  # in themes: the tags of each tagger have the same sum
    },
)

SALE_PHOTO_LABELS = Table(
    "sale_photo_labels",
    "one row per sale and single-label taxonomy: the label that most of its photos show, of those that are sure",
    {"sale_id": STRING, "taxonomy": STRING, "label": STRING},
)

REJECTED_IMAGES = Table(
    "rejected_images",
    "one row per photo of a sale that could not be tagged",
    {"sale_id": STRING, "position": INTEGER, "image_uri": STRING, "reason": STRING, "detail": STRING},
)

IMAGE_THEMES = Table(
    "image_themes",
    "one row per photo of a sale; weights of the themes in the order of the theme model, null where it was not tagged",
    {"sale_id": STRING, "position": INTEGER, "image_uri": STRING, "weights": ArrayType(FLOAT)},
)

SALE_THEMES = Table(
    "sale_themes",
    "one row per sale and theme of its photos; each theme's weights have the same mean square over all photos",
    {"sale_id": STRING, "theme": STRING, "weight": FLOAT},
)

USER_HISTORIES = Table(
    "user_histories",
    "one row per user; the lists hold the user's events in order of time, instants in microseconds since 1970 UTC",
    {
        "user_id": STRING,
        "sales": ArrayType(INTEGER),  # position of the sale in ascending order of sale_id
        "purchases": ArrayType(BOOLEAN),
        "occurred_at": ArrayType(LONG),
        "recorded_at": ArrayType(LONG),
    },
)

FITTED_RECOMMENDERS = Table(
    "fitted_recommenders",
    "one row per recommender and as_of (microseconds); the model's arrays, and the statistics by "
    "sale that it was fitted to, as an npz file without Python objects",
    {"as_of": LONG, "recommender": STRING, "arrays": BINARY},
    partitioned_by=("as_of",),
)

TRAINING_EXAMPLES = Table(
    "training_examples",
    "one row per user, sale and as_of (microseconds): bought on the day from as_of, or drawn from the sales not bought",
    {
        "as_of": LONG,
        "user_id": STRING,
        "sale_id": STRING,
        "bought": BOOLEAN,
        "sampling_rate": DOUBLE,  # share of the user's sales of that kind that became examples, in (0, 1]
        "repeat": BOOLEAN,  # repeat purchase: whether the user had bought the sale before, by the history as of as_of
        "position": INTEGER,  # best position on the user's pages of that day, from 1; 0: on no page, -1: no page logged
    },
    open_ended=True,
)

PAGE_METRICS = Table(
    "page_metrics",
    "one row per user, as_of and policy: metrics of the ranking of the sales open at the first purchase",
    {
        "as_of": TIMESTAMP,
        "user_id": STRING,
        "policy": STRING,
        "has_order": BOOLEAN,  # whether the policy's scores of the sales differ; otherwise the order is that of sale_id
        "recall@10": DOUBLE,
        "ndcg@10": DOUBLE,
        "hit_rate@10": DOUBLE,
        "mrr": DOUBLE,
        "known_events": LONG,  # number of events in the user's history as of as_of
        "first_purchase_at": TIMESTAMP,  # the user's first purchase of the day, at which the ranked sales were open
        "shown": ArrayType(STRING),  # sale_id of the first ten sales, best first
        "scores": ArrayType(FLOAT),  # of these sales: log-odds by a meta-model, before calibration, or the policy's own
        "bought": ArrayType(STRING),  # sale_id of the relevant sales, ascending
        "ranks": ArrayType(INTEGER),  # the rank of each sale in `bought`, 1 is the best
        "new_ndcg@10": DOUBLE,  # of the page without repeat purchases; null if the user bought nothing else
        "repeat_ndcg@10": DOUBLE,  # of the page of repeat purchases only; null if the user bought none
        "predicted": DOUBLE,  # purchases predicted of all these sales; null for a policy without probabilities
        "predicted@10": DOUBLE,  # the same of the first ten sales
        "shift": DOUBLE,  # what was added to the user's calibrated log-odds, see Basket
    },
)

KNOWN_USERS = Table(
    "known_users",
    "one row per as_of and sale with at least one user",
    {
        "as_of": TIMESTAMP,
        "sale_id": STRING,
        "users": LONG,  # number of users who had visited or bought it, by their histories as of as_of
    },
)

RANKINGS = Table(
    "rankings",
    "one row per user; for each policy the best sales of the horizon, best first: positions, scores, reason codes",
    {"user_id": STRING},
    open_ended=True,
)

SEGMENT_RANKINGS = Table(
    "segment_rankings",
    "one row per segment, the users who share the value of an attribute; the best sales of the horizon, best first",
    {
        "attribute": STRING,
        "value": STRING,
        "events": LONG,  # number of events in the histories of its users
        "sales": ArrayType(INTEGER),  # positions in the horizon
        "scores": ArrayType(FLOAT),
        "reasons": ArrayType(INTEGER),  # numbers in `Scorer.reasons`
    },
)


def _is_same_type(found: DataType, wanted: DataType) -> bool:
    return found.simpleString() == wanted.simpleString()


def _advice(found: DataType, wanted: DataType) -> str:
    """Return the end of a message about a column's type: how to convert it in SQL."""
    if wanted != TIMESTAMP:
        return f": cast it in the source's SQL, 'cast(… as {wanted.simpleString()})'"
    if found.simpleString() == "timestamp_ntz":
        return ", which has a zone: in the source's SQL write to_utc_timestamp(cast(… as timestamp), 'Europe/Paris')"
    return ": in the source's SQL write to_timestamp(…) on text that ends in a zone such as Z or +01:00"
