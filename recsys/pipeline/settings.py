"""What the pipeline's steps depend on; importing it starts no Spark."""

from typing import Literal

from pydantic import Field, model_validator

from recsys.settings import StepSettings

META = "meta"
"""The policy that ranks by the meta-model; every other policy is the name of a recommender."""


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


class RankingSettings(StepSettings):
    """What the night keeps for each user."""

    kept: int = Field(30, ge=10, le=255)
    """Sales kept for each user and policy: some close, some are not open yet."""
    policies: tuple[str, ...] = Field((META,), strict=False)
    """Policies of a user's own: 'meta' or the name of a recommender."""
