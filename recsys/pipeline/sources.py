"""A shop's raw tables → our tables: SQL files at the edge, the only place that knows raw names."""

import hashlib
from pathlib import Path

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException, PythonException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructField, StructType

from recsys.config.pipeline import RawTable, SourceSettings
from recsys.errors import ConfigurationError, InputError
from recsys.logs.records import RECORDED_EVENTS
from recsys.settings import digest
from recsys.tables.logs import COMPACTED_EVENTS
from recsys.tables.night import Table

SPARK_ERRORS = (PySparkException, Py4JJavaError)
"""What Spark raises; the latter, such as of a damaged file, have no class of their own in Python."""


def read_raw_tables(spark: SparkSession, settings: SourceSettings, folder: Path) -> dict[str, DataFrame]:
    """Open every raw table, and `recorded_events`: what the service was told of, empty where it was of nothing.

    Args:
        spark: The session.
        settings: Of the source.
        folder: The shop's.

    Raises:
        InputError: If one cannot be read.
    """
    raw = {name: _read_raw(spark, name, raw) for name, raw in settings.raw.items()}
    return {RECORDED_EVENTS: _recorded_events(spark, folder), **raw}


def _recorded_events(spark: SparkSession, folder: Path) -> DataFrame:
    if (folder / COMPACTED_EVENTS.name).exists():
        return COMPACTED_EVENTS.read(spark, folder)
    columns = [StructField(name, kind) for name, kind in COMPACTED_EVENTS.columns.items()]
    return spark.createDataFrame([], StructType(columns))


def select_table(spark: SparkSession, table: Table, settings: SourceSettings, raw: dict[str, DataFrame]) -> DataFrame:
    """Run a table's SQL file over the raw tables; optional columns that it leaves out become null.

    Raises:
        InputError: If the file is missing or Spark refuses it.
        SchemaError: If its columns are not the table's.
    """
    path = Path(settings.sql) / f"{table.name}.sql"
    if not path.exists():
        raise InputError(f"{path} is missing: it must select the columns {', '.join(table.columns)}")
    known = f"raw tables are {', '.join(sorted(raw))}"
    try:
        selected = spark.sql(path.read_text(), None, **raw)
        selected.schema  # noqa: B018  Spark looks at the query only now
    except SPARK_ERRORS as error:
        raise InputError(f"{path}: {first_line(error)}; {known}") from error
    except KeyError as error:
        raise InputError(f"{path}: {{{error.args[0]}}} is no raw table; {known}") from error
    except (ValueError, IndexError) as error:  # what Python's formatter says of other braces
        raise InputError(f"{path}: {error}; {known}: braces name one, others are written {{{{ and }}}}") from error
    table.check(selected, str(path))
    for name in table.optional:
        if name not in selected.columns:
            selected = selected.selectExpr("*", f"cast(null as {table.columns[name].simpleString()}) as {name}")
    return selected.select(*table.columns)


def has_table(table: Table, settings: SourceSettings) -> bool:
    """Tell whether the source has an optional table."""
    return (Path(settings.sql) / f"{table.name}.sql").exists()


def fingerprint(settings: SourceSettings, folder: Path) -> str:
    """Return a digest of the SQL files and of the raw files' names, sizes and times.

    A catalogue table or a URL is named but not looked into: its settings stand for it. Recorded events count where the
    SQL selects from them.
    """
    found = hashlib.sha256(digest(settings).encode())
    for path in sorted(Path(settings.sql).glob("*.sql")):
        text = path.read_bytes()
        found.update(path.name.encode() + text)
        if f"{{{RECORDED_EVENTS}}}".encode() in text:
            _add_files(found, sorted((folder / COMPACTED_EVENTS.name).rglob("*.parquet")))
    for _, raw in sorted(settings.raw.items()):
        _add_files(found, _files(raw))
    return found.hexdigest()


def _add_files(digest: "hashlib._Hash", paths: list[Path]) -> None:
    for path in paths:
        status = path.stat()
        digest.update(f"{path}|{status.st_size}|{status.st_mtime_ns}\n".encode())


def first_line(error: Exception) -> str:
    """Return the line of an error of Spark that says what is wrong; plans and traces are beside it."""
    lines = str(error).strip().splitlines()
    if isinstance(error, PythonException):  # of a worker: the last line of its trace
        return lines[-1]
    return lines[1].removeprefix(": ") if isinstance(error, Py4JJavaError) and len(lines) > 1 else lines[0]


def _files(raw: RawTable) -> list[Path]:
    if raw.path is None or "://" in raw.path:
        return []
    root = Path(raw.path)
    if root.is_dir():
        return sorted(path for path in root.rglob("*") if path.is_file())
    return [root] if root.exists() else []


def _read_raw(spark: SparkSession, name: str, raw: RawTable) -> DataFrame:
    place = raw.table or raw.path
    if raw.path and "://" not in raw.path and not Path(raw.path).exists():
        raise InputError(f"raw table '{name}': {raw.path} does not exist: correct source.raw.{name}.path")
    try:
        return (
            spark.table(raw.table) if raw.table else spark.read.format(raw.format).options(**raw.options).load(raw.path)
        )
    except SPARK_ERRORS as error:
        raise InputError(f"raw table '{name}' at {place}: {first_line(error)}") from error


def check_settings(settings: SourceSettings) -> None:
    """Check what can be checked without Spark.

    Raises:
        ConfigurationError: If the folder of SQL files is missing.
    """
    if not Path(settings.sql).is_dir():
        raise ConfigurationError(f"source.sql == '{settings.sql}', must be a folder of SQL files: see conf/sources/")
