"""Settings of the source, the rankings and the checks of a night; importing them does not import Spark."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from recsys.meta_model import META
from recsys.settings import StepSettings


class RawTable(StepSettings):
    """Location of one raw table: files at `path` or of a `pattern`, or `table` of a catalogue."""

    path: str | None = None
    """File, folder or URL of the table, each character taken literally; a relative path starts at the working
    directory."""
    pattern: str | None = None
    """Pattern of the table's files, such as /data/2026-*/*.csv; an alternative to `path`. * and ? match within a name,
    [ab] one of these characters, ** folders of any depth; of a URL it is Spark's own kind of pattern."""
    format: Literal["parquet", "csv", "json", "orc", "avro", "delta", "iceberg"] = "parquet"
    """Format of the files, by Spark's name for it; of `table` alone 'iceberg' has a meaning: a table that Spark's
    catalogues do not know is looked for in pyiceberg's."""
    options: dict[str, str] = {}
    """Options of Spark's reader for this format, such as sep: ';' for CSV; by default CSV is read by RFC 4180 with a
    header, in UTF-8. Of an Iceberg table in a catalogue of pyiceberg, that catalogue's properties, such as uri."""
    table: str | None = None
    """Name of a table in Spark's catalogue; an alternative to `path`."""
    version: int | None = Field(None, ge=0)
    """Version of a Delta table or snapshot of an Iceberg table that is read; the newest one by default. A night of a
    version is the same night when it is run again."""
    types: dict[str, str] = {}
    """Types of columns by Spark's names for them, such as shop: string for a column that is read as something else. A
    value in the name of a folder, shop=007, is read in this type, so that its zeros stay."""

    @model_validator(mode="after")
    def _has_one_location(self) -> "RawTable":
        if [self.path, self.pattern, self.table].count(None) != 2:
            raise ValueError("give 'path', 'pattern' or 'table', one of the three")
        return self

    @model_validator(mode="after")
    def _has_versions(self) -> "RawTable":
        if self.version is not None and self.format not in ("delta", "iceberg"):
            raise ValueError(f"version == {self.version}, but format is '{self.format}', must be 'delta' or 'iceberg'")
        return self

    @field_validator("pattern")
    @classmethod
    def _has_whole_folders(cls, pattern: str | None) -> str | None:
        if pattern and "://" not in pattern and any("**" in part != "**" for part in pattern.split("/")):
            raise ValueError("** stands for folders, between slashes: write /data/**/*.csv, or * within a name")
        return pattern


class SourceSettings(StepSettings):
    """A shop's raw tables and the SQL that selects our columns from them."""

    sql: str
    """Folder of the SQL files: sales.sql and events.sql, optionally users.sql and sale_images.sql."""
    raw: dict[str, RawTable]
    """Raw tables by name; the SQL files select from them as {name}."""
    max_rejected_share: float = Field(0.01, ge=0, le=1)
    """Maximum share of the rows of one of the shop's own tables that may be broken by themselves, in [0, 1]; above it
    the run stops. Copies, consequences of other broken rows and events that the service recorded are not counted."""


class SegmentSettings(StepSettings):
    """Rankings for users without events of whom an attribute is known, such as their country or channel."""

    renamed_keys = {"kept": "top_k"}

    attributes: tuple[Annotated[str, Field(min_length=1)], ...] = Field((), strict=False)
    """Attributes of table users whose values define segments, one segment per value; none by default."""
    top_k: int = Field(100, ge=10)
    """Maximum number of sales in a segment's ranking, at least 10."""
    min_events: int = Field(1000, ge=1)
    """Minimum number of events of a segment's users; with fewer, its ranking would hardly differ from the whole shop's,
    and the segment gets none."""
    max_values: int = Field(100, ge=1)
    """Maximum number of segments per attribute: the values with the most users."""
    prior_events: float = Field(5000.0, ge=0)
    """Weight of the whole shop's popularity as prior for a segment, in visits at as_of by the segment's users; 0 for no
    shrinkage."""
    # Of the values from 300 to 30,000, 5,000 puts the most purchases of the next day into the top 10 of the demo shop's
    # markets: over 60 days 1.5 % more than the whole shop's popularity; 300 puts 2.6 % fewer. Log-loss is flat from
    # 5,000 to 10,000.

    @field_validator("attributes")
    @classmethod
    def _are_distinct(cls, attributes: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(attributes)) < len(attributes):
            raise ValueError("must name each attribute once")
        return attributes


class RankingSettings(StepSettings):
    """Rankings that the night computes for each user and each segment of users."""

    renamed_keys = {"kept": "top_k"}

    top_k: int = Field(30, ge=10, le=255)
    """Maximum number of sales per user and policy, in 10..255; more than a page shows, as some of them will have closed
    or not have opened yet when it is served."""
    policies: tuple[str, ...] = Field((META,), strict=False)
    """Policies that rank for each user: 'meta' or the name of a recommender."""
    history_events: int = Field(1000, ge=0)
    """Maximum number of a user's latest events in the snapshot, 8 bytes each; the service adds those of the running
    session to them. 0 for none."""
    segments: SegmentSettings = SegmentSettings()


class NightCheckSettings(StepSettings):
    """Limits that a night is checked against before it is published; a night that breaks one is not published."""

    max_rejected_times: float = Field(5.0, ge=1)
    """Maximum ratio of the share of rows set aside to its mean over the last nights; source.max_rejected_share applies
    as well."""
    max_feature_drift: float = Field(1.0, gt=0)
    """Maximum difference of a feature's mean over yesterday's examples from its mean in training, in standard
    deviations in training."""
    min_sales_covered: float = Field(0.05, ge=0, le=1)
    """Minimum share of the sales of the horizon that are in at least one user's ranking, in [0, 1]."""
    min_users_share: float = Field(0.5, ge=0, le=1)
    """Minimum number of ranked users as a share of that of the night before, in [0, 1]."""
    min_ndcg_share: float = Field(0.5, ge=0, le=1)
    """Minimum ndcg@10 on yesterday's pages as a share of its mean over the last nights, in [0, 1]."""
    nights: int = Field(7, ge=1)
    """Number of published nights that the means are over, the latest ones."""
    min_cases: int = Field(100, ge=1)
    """Minimum number of purchases, pages or users behind a value for it to be checked; with fewer it is only
    recorded."""
