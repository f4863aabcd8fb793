"""What the pipeline's steps depend on; importing it starts no Spark."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from recsys.meta_model import META
from recsys.settings import StepSettings


class RawTable(StepSettings):
    """Where one raw table lies: files at `path`, or `table` of a catalogue."""

    path: str | None = None
    """File, folder or URL; relative to the working directory."""
    format: Literal["parquet", "csv", "json", "orc", "avro", "delta", "iceberg"] = "parquet"
    """The format of the files, as Spark names it."""
    options: dict[str, str] = {}
    """Options of Spark's reader, such as header: 'true'."""
    table: str | None = None
    """A table of Spark's catalogue, instead of a path."""

    @model_validator(mode="after")
    def _one_place(self) -> "RawTable":
        if (self.path is None) == (self.table is None):
            raise ValueError("give 'path' or 'table', one of the two")
        return self


class SourceSettings(StepSettings):
    """A shop's raw tables and the SQL that selects our columns from them."""

    sql: str
    """Folder of sales.sql, events.sql and, where there are any, users.sql and sale_images.sql."""
    raw: dict[str, RawTable]
    """The raw tables by the names that the SQL files call them, {name}."""
    max_rejected_share: float = Field(0.01, ge=0, le=1)
    """A run stops where a larger share of a table's rows breaks a rule."""


class SegmentSettings(StepSettings):
    """Rankings for a user of whom nothing is known but an attribute, such as his country or how he came."""

    attributes: tuple[Annotated[str, Field(min_length=1)], ...] = Field((), strict=False)
    """Attributes of table users: each of their values is a segment; none by default."""
    kept: int = Field(100, ge=10)
    """Sales kept for each segment."""
    min_events: int = Field(1000, ge=1)
    """A segment whose users have fewer events gets no ranking: it would be the whole shop's once more."""
    max_values: int = Field(100, ge=1)
    """So many values of an attribute get a ranking: those that most users have."""
    prior_events: float = Field(5000.0, ge=0)
    """The whole shop's popularity weighs as much as so many visits of this instant by the segment's own users."""
    # Of 300 to 30,000, 5,000 put most of the next day's purchases into the top 10 of the demo shop's markets: over 60
    # days 1.5 % more than the whole shop's popularity; 300 put 2.6 % less. Log-loss is flat from 5,000 to 10,000.

    @field_validator("attributes")
    @classmethod
    def _once(cls, attributes: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(attributes)) < len(attributes):
            raise ValueError("must name each attribute once")
        return attributes


class RankingSettings(StepSettings):
    """What the night keeps for each user and each segment of users."""

    kept: int = Field(30, ge=10, le=255)
    """Sales kept for each user and policy: some close, some are not open yet."""
    policies: tuple[str, ...] = Field((META,), strict=False)
    """Policies of a user's own: 'meta' or the name of a recommender."""
    history_events: int = Field(1000, ge=0)
    """A user's latest so many events go along, 8 bytes each: a running session adds to them."""
    segments: SegmentSettings = SegmentSettings()


class NightCheckSettings(StepSettings):
    """What a night must hold to before it publishes; a night that does not publishes nothing."""

    max_rejected_times: float = Field(5.0, ge=1)
    """The share of rows set aside may be so many times the mean of the last nights; source.max_rejected_share holds
    too."""
    max_feature_drift: float = Field(1.0, gt=0)
    """A feature's mean over yesterday's examples may differ by so many of its standard deviations from training."""
    min_sales_covered: float = Field(0.05, ge=0, le=1)
    """Of the sales of the horizon at least this share must be in some user's ranking."""
    min_users_share: float = Field(0.5, ge=0, le=1)
    """Against the night before, at least this share of users must be ranked."""
    min_ndcg_share: float = Field(0.5, ge=0, le=1)
    """Against the mean of the last nights, at least this share of ndcg@10 must be reached on yesterday's pages."""
    nights: int = Field(7, ge=1)
    """So many earlier nights are the last nights."""
    min_cases: int = Field(100, ge=1)
    """A value over fewer purchases, pages or users is kept and shown, and stops no night."""
