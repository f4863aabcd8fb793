"""What changes with the rows of a raw table, found without reading them: a night of unchanged rows is not redone."""

import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

from pyspark.sql import SparkSession

from recsys.config.pipeline import RawTable
from recsys.errors import ConfigurationError, InputError
from recsys.raw_tables.delta import LOG
from recsys.raw_tables.files import is_url, local_files, reader_of
from recsys.raw_tables.iceberg import metadata_file, open_iceberg
from recsys.raw_tables.listing import listed_files
from recsys.raw_tables.spark_reach import lacks_file_system, spellings
from recsys.spark_errors import SPARK_ERRORS, first_line

_COMMIT = re.compile(r"\d{20}\.json")

Session = Callable[[], SparkSession]


def stamps(name: str, raw: RawTable, session: Session | None = None) -> list[str]:
    """Return texts of which one changes when the rows of a raw table do.

    Of files these are names, sizes and what their store tells of their content (ETag, otherwise the time of the last
    write); of Delta and Iceberg the newest version; of a pinned version nothing, since its rows never change.

    Args:
        name: The raw table's name.
        raw: Where it is.
        session: Starts Spark; without it tables of a catalogue, and URLs that fsspec does not know, have no stamp.

    Raises:
        InputError: If it cannot be listed.
    """
    if raw.version is not None:
        return []
    if raw.table:
        return _of_catalogue(name, raw, session()) if session else []
    if raw.format == "delta":
        commits = _listed(name, raw.model_copy(update={"path": f"{(raw.path or '').rstrip('/')}/{LOG}"}), session)
        return sorted(each for each in commits if _COMMIT.fullmatch(each.partition("|")[0].rpartition("/")[2]))[-1:]
    if raw.format == "iceberg":
        file = metadata_file(name, raw)
        return [file, *_listed(name, raw.model_copy(update={"path": file}), session)]
    return _listed(name, raw, session)


def _listed(name: str, raw: RawTable, session: Session | None) -> list[str]:
    location = raw.path or raw.pattern or ""
    if not is_url(location):
        return [stamp_of(path) for path in local_files(raw)]
    try:
        return [f"{file.location}|{file.size}|{file.stamp}" for file in listed_files(name, raw)]
    except FileNotFoundError:
        return []
    except ConfigurationError:  # hdfs:// and others that Spark alone may know
        return _listed_by_spark(name, raw, session()) if session else []


def stamp_of(path: Path) -> str:
    """Return name, size and time of the last write of a local file."""
    status = path.stat()
    return f"{path}|{status.st_size}|{status.st_mtime_ns}"


def _listed_by_spark(name: str, raw: RawTable, spark: SparkSession) -> list[str]:
    location = raw.path or raw.pattern or ""
    options = {"recursiveFileLookup": "true"} | {k: v for k, v in raw.options.items() if k == "pathGlobFilter"}
    for spelling in spellings(location):
        reader = reader_of(spark, RawTable(path=location, options=options), {}).format("binaryFile")
        try:
            rows = reader.load(spelling).select("path", "length", "modificationTime").collect()
        except SPARK_ERRORS as error:
            if lacks_file_system(error):
                continue
            raise InputError(f"raw table '{name}': {location} cannot be listed: {first_line(error)}") from error
        return sorted(f"{row['path']}|{row['length']}|{row['modificationTime']}" for row in rows)
    scheme = location.partition(":")[0]
    raise InputError(
        f"raw table '{name}': neither Spark nor this project's extras know {scheme}:// of {location}: add the Hadoop "
        "file system for it to spark.conf (spark.jars.packages), or correct the URL"
    )


def _of_catalogue(name: str, raw: RawTable, spark: SparkSession) -> list[str]:
    """Return the version of a table that has one, otherwise the files that it consists of."""
    table = raw.table or ""
    try:
        files = spark.table(table).inputFiles()
    except SPARK_ERRORS:
        if raw.format == "iceberg":
            return [open_iceberg(name, raw).metadata_location]
        return []  # reading it will say what is wrong
    versions = (
        _value(spark, f"describe history {table} limit 1", "version"),
        _value(spark, f"select snapshot_id from {table}.snapshots order by committed_at desc limit 1", "snapshot_id"),
    )
    if version := next((each for each in versions if each), ""):
        return [f"{table}|{version}"]
    return sorted(map(_stamp_of_file, files))


def _value(spark: SparkSession, query: str, column: str) -> str:
    try:
        rows = spark.sql(query)
        return str(rows.first()[column]) if column in rows.columns else ""  # type: ignore[index]
    except (*SPARK_ERRORS, TypeError):  # no table of this kind, or one without a row
        return ""


def _stamp_of_file(file: str) -> str:
    """Return the stamp of a file by Spark's URI of it; one elsewhere has a name that no other content will have."""
    path = Path(unquote(file.removeprefix("file://").removeprefix("file:")))
    return stamp_of(path) if not is_url(file) and path.exists() else file
