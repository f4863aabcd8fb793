"""A shop's raw tables → our tables, by the shop's SQL files: the only place that knows names of raw columns."""

import hashlib
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession

from recsys.config.pipeline import RawTable, SourceSettings
from recsys.errors import ConfigurationError, InputError
from recsys.logs.records import RECORDED_EVENTS
from recsys.raw_tables.opening import open_raw_table
from recsys.raw_tables.stamps import stamps
from recsys.settings import digest
from recsys.spark_errors import SPARK_ERRORS, first_line
from recsys.storage.places import Place, sizes_below
from recsys.tables.logs import COMPACTED_EVENTS
from recsys.tables.night import Table
from recsys.tables.parts import has_begun, last_list
from recsys.tables.paths import load


def read_raw_tables(
    spark: SparkSession, settings: SourceSettings, folder: Place, only: Collection[Path] | None = None
) -> dict[str, DataFrame]:
    """Open every raw table, and `recorded_events`: the events that the service recorded, empty if there are none.

    Args:
        spark: The session.
        settings: Settings of the source.
        folder: The shop's folder.
        only: If given, rows of these files alone, with the columns of all, see `raw_days`.

    Raises:
        InputError: If a table cannot be read.
    """
    raw = {name: _read_raw(spark, name, raw, only) for name, raw in settings.raw.items()}
    return {RECORDED_EVENTS: _read_recorded_events(spark, folder, only), **raw}


def with_tables(settings: SourceSettings, tables: Iterable[Table]) -> SourceSettings:
    """Return the settings of a source with only those raw tables that the SQL files of some tables name.

    Raises:
        ConfigurationError: If the folder of SQL files is missing.
    """
    check_settings(settings)
    paths = [Path(settings.sql) / f"{table.name}.sql" for table in tables if has_table(table, settings)]
    text = "".join(path.read_text("utf-8-sig") for path in paths)
    return settings.model_copy(
        update={"raw": {name: raw for name, raw in settings.raw.items() if f"{{{name}}}" in text}}
    )


def has_recorded_events(folder: Place) -> bool:
    """Return whether the service of the shop in a folder has recorded events that were compacted."""
    return has_begun(folder / COMPACTED_EVENTS.name)


def _read_recorded_events(spark: SparkSession, folder: Place, only: Collection[Path] | None = None) -> DataFrame:
    if not has_recorded_events(folder):
        return COMPACTED_EVENTS.empty(spark)
    root = folder / COMPACTED_EVENTS.name
    if only is None or not isinstance(root, Path):
        return COMPACTED_EVENTS.read(spark, folder)
    some = [file for file in only if file.is_relative_to(root)]
    reader = spark.read.schema(COMPACTED_EVENTS.schema).option("basePath", str(root))
    return load(reader, some) if some else COMPACTED_EVENTS.empty(spark)


def select_table(spark: SparkSession, table: Table, settings: SourceSettings, raw: dict[str, DataFrame]) -> DataFrame:
    """Return a table, selected from the raw tables by its SQL file; optional columns that it leaves out become null.

    Raises:
        InputError: If the file is missing or Spark refuses it.
        SchemaError: If its columns are not the table's.
    """
    path = Path(settings.sql) / f"{table.name}.sql"
    if not path.exists():
        raise InputError(f"{path} is missing: it must select the columns {', '.join(table.columns)}")
    known = f"raw tables are {', '.join(sorted(raw))}"
    try:
        selected = spark.sql(path.read_text("utf-8-sig"), None, **raw)
        selected.schema  # noqa: B018  Spark analyses the query only now
    except SPARK_ERRORS as error:
        raise InputError(f"{path}: {first_line(error)}; {known}") from error
    except KeyError as error:
        raise InputError(f"{path}: {{{error.args[0]}}} is no raw table; {known}") from error
    except (ValueError, IndexError) as error:  # of Python's formatter, about other braces
        raise InputError(f"{path}: {error}; {known}: braces name one, others are written {{{{ and }}}}") from error
    table.check(selected, str(path))
    for name in table.optional:
        if name not in selected.columns:
            selected = selected.selectExpr("*", f"cast(null as {table.columns[name].simpleString()}) as {name}")
    return selected.select(*table.columns)


def has_table(table: Table, settings: SourceSettings) -> bool:
    """Return whether the source has an optional table: an SQL file of its name."""
    return (Path(settings.sql) / f"{table.name}.sql").exists()


def fingerprint(settings: SourceSettings, folder: Place, session: Callable[[], SparkSession] | None = None) -> str:
    """Return a digest of the settings, the SQL files, and what changes with the rows of the raw tables; see `stamps`.

    The files of recorded events are included if the SQL selects from them.

    Args:
        settings: Settings of the source.
        folder: The shop's folder.
        session: Starts Spark, which knows tables of catalogues.

    Raises:
        InputError: If a raw table behind a URL cannot be listed.
    """
    found = hashlib.sha256(digest(settings).encode())
    for path in sorted(Path(settings.sql).glob("*.sql")):
        text = path.read_bytes()
        found.update(path.name.encode() + text)
        if f"{{{RECORDED_EVENTS}}}".encode() in text:
            found.update(_recorded_events(folder / COMPACTED_EVENTS.name).encode())
    for name, raw in sorted(settings.raw.items()):
        _add(found, stamps(name, raw, session))
    return found.hexdigest()


def _recorded_events(table: Place) -> str:
    """Return the names and sizes of the parts of the recorded events; in an object store, of those that count."""
    on_disk = isinstance(table, Path)
    sizes = sizes_below(table) if on_disk else {part.name: part.bytes for part in last_list(table)[1]}
    return "".join(f"{name}|{size}\n" for name, size in sorted(sizes.items()))


def _add(digest: "hashlib._Hash", stamps: Iterable[str]) -> None:
    for stamp in stamps:
        digest.update(f"{stamp}\n".encode())


def _read_raw(spark: SparkSession, name: str, raw: RawTable, only: Collection[Path] | None) -> DataFrame:
    try:
        return open_raw_table(spark, name, raw, only)
    except SPARK_ERRORS as error:
        location, cause = raw.table or raw.path or raw.pattern, first_line(error)
        if "TIMESTAMP(NANOS" in cause:  # behind a URL, where Spark alone reads the files
            cause += ": write these instants in microseconds, as pandas does with coerce_timestamps='us'"
        raise InputError(f"raw table '{name}' at {location}: {cause}") from error


def check_settings(settings: SourceSettings) -> None:
    """Check that the folder of SQL files exists, without Spark.

    Raises:
        ConfigurationError: If the folder of SQL files is missing.
    """
    if not Path(settings.sql).is_dir():
        raise ConfigurationError(f"source.sql == '{settings.sql}', must be a folder of SQL files: see conf/sources/")
