"""The tables of the night, each declared once: columns, key, grain, units; checked on each read and write."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
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
from recsys.storage.outputs import Outputs
from recsys.storage.places import Place, arrow
from recsys.tables.parts import first_schema, parts_of, write_table
from recsys.tables.spark_parts import PartTasks, read_spark, write_parts

STRING, TIMESTAMP, DOUBLE, BOOLEAN = StringType(), TimestampType(), DoubleType(), BooleanType()
INTEGER, LONG, FLOAT, BINARY = IntegerType(), LongType(), FloatType(), BinaryType()
ATTRIBUTES = MapType(STRING, STRING)
_SPARK_SCHEMA = b"org.apache.spark.sql.parquet.row.metadata"


class Column(NamedTuple):
    """A column's type, and what its values mean, for people: unit, range, and when it is null."""

    kind: DataType
    meaning: str


@dataclass(frozen=True)
class Table:
    """A table's name, grain and columns.

    Columns in `optional` may be missing from a source and are null then. `further` says which further columns a table
    has whose columns depend on the configuration, such as one per feature; other tables have none.
    """

    name: str
    grain: str
    described: dict[str, Column]
    optional: tuple[str, ...] = ()
    partitioned_by: tuple[str, ...] = ()
    further: str = ""

    @property
    def columns(self) -> dict[str, DataType]:
        """The type of each column."""
        return {name: column.kind for name, column in self.described.items()}

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
        self._check_columns(frame.schema, where)
        return frame

    def _check_columns(self, schema: StructType, where: str) -> None:
        found = {column.name: column.dataType for column in schema}
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
        if not self.further:
            problems += [f"column {name} is unknown: remove or rename it" for name in found if name not in self.columns]
        if problems:
            location = f" ({where})" if where else ""
            raise SchemaError(f"table {self.name}{location}: " + "; ".join(problems))

    def read(self, spark: SparkSession, folder: Place | Outputs, only: Sequence[str] | None = None) -> DataFrame:
        """Read the table from a folder, or from the outputs of a run.

        Args:
            spark: The session.
            folder: The folder, or the outputs.
            only: Names of the parts to read; all by default.

        Raises:
            InputError: If there is no such table, or a part of it is not as it was written.
            SchemaError: If its columns are not those declared.
        """
        table = folder / self.name
        if only is not None and not only:
            return self.empty(spark)
        return self.check(read_spark(spark, table, self._read_schema(table), only), str(table))

    def in_parts(self, spark: SparkSession, folder: Place | Outputs) -> PartTasks:
        """Return the table's parts for a function of Arrow's batches, as tasks that read them by themselves.

        Raises:
            InputError: If there is no such table, or a part of it is not as it was written.
            SchemaError: If its columns are not those declared.
        """
        table = folder / self.name
        self._check_columns(self._read_schema(table), str(table))
        return PartTasks(spark, table)

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

    def dataset(self, folder: Place) -> ds.Dataset:
        """Return the table in a folder to be read in part, with the declared columns whichever version wrote its files.

        Files of versions before parts were listed hold instants without a zone; all are read as UTC.
        """
        schema, table = to_arrow_schema(self.schema, timezone="UTC"), folder / self.name
        if isinstance(table, Path):
            return ds.dataset(table, schema, format="parquet", partitioning="hive")
        system, root = arrow(table)
        paths = [f"{root}/{part.name}" for part in parts_of(table)]
        return ds.dataset(paths, schema, format="parquet", partitioning="hive", filesystem=system)

    def write(self, frame: DataFrame, folder: Place) -> None:
        """Write the table into a folder.

        Raises:
            SchemaError: If the frame's columns are not those declared.
        """
        write_parts(self.check(frame), folder / self.name, self.partitioned_by)


SALES = Table(
    "sales",
    "one row per sale, and in a source one per window of a sale",
    {
        "sale_id": Column(STRING, "Id of the sale, 1 to 256 bytes."),
        "opens_at": Column(TIMESTAMP, "Instant from which the sale is open, included."),
        "closes_at": Column(TIMESTAMP, "Instant at which it closes, excluded; from 2200 on it never closes."),
        "title": Column(STRING, "Title, as the page shows it."),
        "description": Column(STRING, "Text whose words describe the sale beside those of the title."),
        "price": Column(DOUBLE, "Price in the shop's currency, at least 0; null if it is not known."),
        "attributes": Column(ATTRIBUTES, "Attributes by name, such as country and category."),
    },
    optional=("description", "price", "attributes"),
)

EVENTS = Table(
    "events",
    "one row per event: a visit or a purchase of a sale by a user at an instant",
    {
        "user_id": Column(STRING, "Id of the user, 1 to 256 bytes."),
        "sale_id": Column(STRING, "The sale that was visited or bought in."),
        "kind": Column(STRING, "`visit` or `purchase`."),
        "occurred_at": Column(TIMESTAMP, "When it occurred."),
        "recorded_at": Column(TIMESTAMP, "When the shop learnt of it; `occurred_at` by default."),
        "revenue": Column(DOUBLE, "Revenue of a purchase in the shop's currency; null if it is not known."),
    },
    optional=("recorded_at", "revenue"),
)

USERS = Table(
    "users",
    "one row per user",
    {
        "user_id": Column(STRING, "Id of the user, 1 to 256 bytes."),
        "attributes": Column(ATTRIBUTES, "Attributes by name, such as market and channel."),
    },
)

SALE_IMAGES = Table(
    "sale_images",
    "one row per photo of a sale",
    {
        "sale_id": Column(STRING, "The sale."),
        "image_uri": Column(STRING, "A path relative to `images.root`, or the whole address of a photo below it."),
        "position": Column(INTEGER, "Position among the photos of the sale; 0 is the cover."),
    },
)

REJECTED_ROWS = Table(
    "rejected_rows",
    "one row per source row that was set aside",
    {
        "table": Column(STRING, "The table that the row is of; `recorded_events` for what the service recorded."),
        "rule": Column(STRING, "Name of the first rule that it breaks."),
        "row": Column(STRING, "The row as JSON."),
    },
)

IMAGE_TAGS = Table(
    "image_tags",
    "one row per photo of a sale that could be tagged; the lists hold its best tags, most probable first",
    {
        "sale_id": Column(STRING, "The sale."),
        "position": Column(INTEGER, "Position of the photo in the sale; 0 is the cover."),
        "image_uri": Column(STRING, "Address of the photo."),
        "image_hash": Column(STRING, "Hash of the content: photos with the same hash are the same."),
        "tags": Column(ArrayType(STRING), "The tags, of each tagger the most probable ones."),
        "probabilities": Column(ArrayType(FLOAT), "Probability of each tag by its tagger, in [0, 1]."),
        "weights": Column(ArrayType(FLOAT), "Weight of each tag in themes: the tags of each tagger have the same sum."),
    },
)

SALE_PHOTO_LABELS = Table(
    "sale_photo_labels",
    "one row per sale and single-label taxonomy",
    {
        "sale_id": Column(STRING, "The sale."),
        "taxonomy": Column(STRING, "Name of the taxonomy."),
        "label": Column(STRING, "Id of the label that most of the sale's photos show, of those that are sure."),
    },
)

REJECTED_IMAGES = Table(
    "rejected_images",
    "one row per photo of a sale that could not be tagged",
    {
        "sale_id": Column(STRING, "The sale."),
        "position": Column(INTEGER, "Position of the photo in the sale; 0 is the cover."),
        "image_uri": Column(STRING, "Address of the photo."),
        "reason": Column(STRING, "Why, as one word such as `missing`, `refused`, `not_an_image` or `truncated`."),
        "detail": Column(STRING, "The message of the error."),
    },
)

IMAGE_THEMES = Table(
    "image_themes",
    "one row per photo of a sale",
    {
        "sale_id": Column(STRING, "The sale."),
        "position": Column(INTEGER, "Position of the photo in the sale; 0 is the cover."),
        "image_uri": Column(STRING, "Address of the photo."),
        "weights": Column(
            ArrayType(FLOAT), "Weight of each theme, in the order of `theme_model.json`; null if it was not tagged."
        ),
    },
)

SALE_THEMES = Table(
    "sale_themes",
    "one row per sale and theme of its photos",
    {
        "sale_id": Column(STRING, "The sale."),
        "theme": Column(STRING, "Name of the theme, such as `pool · palm trees`."),
        "weight": Column(
            FLOAT, "Weight of the theme in the sale; each theme's weights have the same mean square over all photos."
        ),
    },
)

USER_HISTORIES = Table(
    "user_histories",
    "one row per user; the lists hold the user's events in order of time",
    {
        "user_id": Column(STRING, "Id of the user."),
        "sales": Column(ArrayType(INTEGER), "Position of each event's sale in ascending order of `sale_id`, from 0."),
        "purchases": Column(ArrayType(BOOLEAN), "Whether each event is a purchase."),
        "occurred_at": Column(ArrayType(LONG), "When each event occurred, microseconds since 1970 UTC."),
        "recorded_at": Column(ArrayType(LONG), "When the shop learnt of each event, microseconds since 1970 UTC."),
    },
)

FITTED_RECOMMENDERS = Table(
    "fitted_recommenders",
    "one row per recommender and as_of",
    {
        "as_of": Column(LONG, "Instant up to which events are known, microseconds since 1970 UTC."),
        "recommender": Column(STRING, "Name of the recommender."),
        "arrays": Column(
            BINARY,
            "The fitted arrays, and the statistics by sale that they were fitted to, as an npz file without Python "
            "objects.",
        ),
    },
    partitioned_by=("as_of",),
)

TRAINING_EXAMPLES = Table(
    "training_examples",
    "one row per user, sale and as_of: bought on the day from as_of, or drawn from the sales not bought",
    {
        "as_of": Column(LONG, "Midnight before the day of the example, microseconds since 1970 UTC."),
        "user_id": Column(STRING, "Id of the user."),
        "sale_id": Column(STRING, "The sale."),
        "bought": Column(BOOLEAN, "Whether the user bought it on that day."),
        "sampling_rate": Column(
            DOUBLE, "Share of the user's sales of that kind that became examples, in (0, 1]; 1 for a purchase."
        ),
        "repeat": Column(BOOLEAN, "Whether the user had bought the sale before, by the history as of `as_of`."),
        "position": Column(
            INTEGER, "Best position on the user's pages of that day, from 1; 0 on no page, -1 if no page was logged."
        ),
    },
    further="One column per feature, float: its value, see [Models](models.md#features).",
)

PAGE_METRICS = Table(
    "page_metrics",
    "one row per user, as_of and policy: how the policy ranked the sales that were open at the first purchase",
    {
        "as_of": Column(TIMESTAMP, "Midnight before the day, up to which events are known."),
        "user_id": Column(STRING, "Id of the user."),
        "policy": Column(STRING, "Name of the policy."),
        "has_order": Column(
            BOOLEAN, "Whether the policy's scores of the sales differ; otherwise the order is that of `sale_id`."
        ),
        "recall@10": Column(DOUBLE, "Share of the sales bought that are among the first ten, in [0, 1]."),
        "ndcg@10": Column(DOUBLE, "Normalised discounted cumulative gain of the first ten, in [0, 1]."),
        "hit_rate@10": Column(DOUBLE, "1 if a sale bought is among the first ten, else 0."),
        "mrr": Column(DOUBLE, "1 over the rank of the first sale that was bought, in (0, 1]."),
        "known_events": Column(LONG, "Number of events in the user's history as of `as_of`."),
        "first_purchase_at": Column(
            TIMESTAMP, "The user's first purchase of the day, at which the ranked sales were open."
        ),
        "shown": Column(ArrayType(STRING), "`sale_id` of the first ten sales, best first."),
        "scores": Column(
            ArrayType(FLOAT),
            "Scores of these sales: log-odds by a meta-model, before calibration, or the policy's own.",
        ),
        "bought": Column(ArrayType(STRING), "`sale_id` of the sales bought on the day (relevant), ascending."),
        "ranks": Column(ArrayType(INTEGER), "Rank of each sale in `bought`; 1 is the best."),
        "new_ndcg@10": Column(
            DOUBLE, "`ndcg@10` of the page without repeat purchases; null if the user bought nothing else."
        ),
        "repeat_ndcg@10": Column(
            DOUBLE, "`ndcg@10` of the page of repeat purchases alone; null if the user bought none."
        ),
        "predicted": Column(DOUBLE, "Purchases predicted of all these sales; null for a policy without probabilities."),
        "predicted@10": Column(DOUBLE, "The same of the first ten sales."),
        "shift": Column(
            DOUBLE, "What was added to the user's calibrated log-odds, so that probabilities sum to the basket."
        ),
    },
)

KNOWN_USERS = Table(
    "known_users",
    "one row per as_of and sale with at least one user",
    {
        "as_of": Column(TIMESTAMP, "Midnight before the day."),
        "sale_id": Column(STRING, "The sale."),
        "users": Column(LONG, "Number of users who had visited it or bought in it, by their histories as of `as_of`."),
    },
)

RANKINGS = Table(
    "rankings",
    "one row per user with an event in the history window",
    {"user_id": Column(STRING, "Id of the user.")},
    further="For each policy P the lists `P_sales` (positions in the horizon), `P_scores` (log-odds for `meta`), "
    "`P_reasons` (numbers of reasons) and `P_covers` (photo to show), best first. The user's latest events, oldest "
    "first, as `history_sales` (positions in the catalogue), `history_ages` (seconds before as_of) and "
    "`history_purchases`. People read the same by `shop.recommend(users)`, with ids.",
)

SEGMENT_RANKINGS = Table(
    "segment_rankings",
    "one row per segment, the users who share the value of an attribute; the lists are best first",
    {
        "attribute": Column(STRING, "Name of the attribute of table `users`."),
        "value": Column(STRING, "Its value."),
        "events": Column(LONG, "Number of events in the histories of the segment's users."),
        "sales": Column(ArrayType(INTEGER), "Positions of the sales in the horizon."),
        "scores": Column(ArrayType(FLOAT), "Popularity of each sale within the segment; no unit."),
        "reasons": Column(ArrayType(INTEGER), "Number of each sale's reason."),
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
