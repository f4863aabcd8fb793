"""Spark's options for a shop of few rows, whose queries take longer to compile than to run."""

from recsys.config.pipeline import RawTable, SourceSettings
from recsys.raw_tables.files import files_to_read, is_url

SMALL_BYTES = 2 << 20
"""Bytes of raw files up to which a shop is small: some 10,000 users. With 5,000 a night
takes a tenth less time so, with 70,000 a third more."""
JAVA_OPTIONS = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
"""No optimising compiler, and a collector without threads of its own."""
OPTIONS = {"spark.sql.codegen.wholeStage": "false", "spark.sql.codegen.factoryMode": "NO_CODEGEN"}


def is_small(source: SourceSettings) -> bool:
    """Return whether all raw tables are files of this machine, and few bytes: otherwise nobody has counted them yet."""
    tables = list(source.raw.values())
    return all(_is_local(raw) for raw in tables) and _bytes_of(tables) <= SMALL_BYTES


def _is_local(raw: RawTable) -> bool:
    location = raw.path or raw.pattern
    return location is not None and not is_url(location)


def _bytes_of(tables: list[RawTable]) -> int:
    return sum(file.stat().st_size for raw in tables for file in files_to_read(raw))
