"""Local files of a raw table, read by Spark: literal names, CSV by RFC 4180, Parquet as pandas writes it."""

import codecs
import glob
import logging
import re
import tempfile
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from functools import reduce
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, DataFrameReader, SparkSession
from pyspark.sql import functions as f
from pyspark.sql.types import DataType, LongType, StringType, StructField, StructType

from recsys.config.pipeline import RawTable
from recsys.errors import InputError
from recsys.raw_tables.column_types import quoted
from recsys.tables.paths import load

FORMAT_DEFAULTS = {
    "csv": {
        "header": "true",
        "quote": '"',
        "escape": '"',  # Spark's own default is a backslash, which mangles a title with doubled quotes silently
        "multiLine": "true",
        "encoding": "UTF-8",
    }
}
"""Options of a reader that the configuration does not give; those of CSV are RFC 4180 with a header."""

_COLONS_IN_NAMES = {
    "fs.file.impl": "org.apache.hadoop.fs.RawLocalFileSystem",
    "fs.file.impl.disable.cache": "true",
}
"""Without checksums: Hadoop fails to name the file of checksums beside a file whose name has a colon."""
_NANOSECONDS_AS_NUMBERS = "spark.sql.legacy.parquet.nanosAsLong"
_CONVERTED = "spark.recsys.nanosecondsConverted"
UNTYPED = {"untyped": True}
"""Metadata of a column that has no value in any file, and so the type that Spark happens to give it."""
UNREADABLE = re.compile(r"halffloat|time32|time64|decimal256")
"""Arrow's names of the column types that Spark does not read."""
JSON_DOCUMENTS = (b"[", b"{", b"[{")
"""First lines of JSON documents over several lines; none of them is a record."""
_COMPRESSED = (".gz", ".bz2", ".zst", ".snappy", ".lz4", ".deflate")
_THREADS = 32

_log = logging.getLogger(__name__)


def read_files(spark: SparkSession, name: str, raw: RawTable, only: Collection[Path] | None = None) -> DataFrame:
    """Open the files of a raw table.

    Files of one table may differ in columns and, in Parquet, in their types, as those of pandas do from day to day: a
    column that a file lacks is null there, one of integers and floats is of floats, and one of text and anything else
    is text. Instants in nanoseconds become timestamps, cut to microseconds.

    Args:
        spark: The session. Unless the user has set it already, Spark's setting for nanoseconds is changed.
        name: The raw table's name.
        raw: Where it is, at `path` or `pattern`.
        only: If given, rows of these files alone, with the columns of all; for local Parquet and CSV files.

    Raises:
        InputError: If there is no file, or a Parquet file is damaged.
    """
    files = files_to_read(raw)
    if not files:
        raise InputError(_no_file(name, raw))
    root = root_of(raw)
    options = dict(_COLONS_IN_NAMES) if any(":" in file.name for file in files) else {}
    if raw.format in ("csv", "json") and not any(file.stat().st_size for file in files):
        rule = "the names of its columns in the first line" if raw.format == "csv" else "at least one record"
        raise InputError(f"raw table '{name}': {raw.path or raw.pattern} is empty, must hold {rule}: write it again")
    if raw.format == "json" and _first_line(files[0]) in JSON_DOCUMENTS:
        options["multiLine"] = "true"
    if root.is_dir():
        options["basePath"] = str(root)  # folders named COLUMN=VALUE below it are columns
    if raw.format == "parquet":
        return _read_parquet(spark, name, raw, root, files, options, only)
    if raw.format == "csv":
        return _read_csv(spark, raw, root, files, options, only)
    frame = _load(reader_of(spark, raw, options), _paths(raw, root, files), raw, files)
    if frame.columns == ["_corrupt_record"]:
        raise InputError(
            f"raw table '{name}': no line of {raw.path or raw.pattern} is a JSON record: write one record per line, or "
            f"set source.raw.{name}.options: {{multiLine: 'true'}} for documents over several lines"
        )
    return frame


def files_to_read(raw: RawTable) -> list[Path]:
    """Return the local files of a raw table that Spark reads, sorted; see `local_files`."""
    return [file for file in local_files(raw) if _is_read(file, raw)]


def local_files(raw: RawTable) -> list[Path]:
    """Return the local files of a raw table, sorted, also those that Spark leaves out; none of a URL or a catalogue."""
    location = raw.path or raw.pattern
    if location is None or is_url(location):
        return []
    root, below = _root_and_pattern(raw)
    roots = root.glob(below) if below else [root]
    return sorted({file for root in roots for file in _files_below(root, frozenset(root.resolve().parents))})


def _files_below(root: Path, above: frozenset[Path]) -> Iterator[Path]:
    """Yield a file, or all files below a folder, links followed except those to a folder above."""
    if root.is_file():
        yield root
    elif root.is_dir() and (folder := root.resolve()) not in above:
        for each in root.iterdir():
            yield from _files_below(each, above | {folder})


def is_url(location: str) -> bool:
    """Return whether a location is a URL of something else than this machine's files."""
    return "://" in location and not location.startswith("file://")


def root_of(raw: RawTable) -> Path:
    """Return the local path of a raw table; of a pattern the folders before its first name with a wildcard."""
    return _root_and_pattern(raw)[0]


def _local_path(location: str) -> Path:
    return Path(location.removeprefix("file://")).absolute()


def _root_and_pattern(raw: RawTable) -> tuple[Path, str]:
    """Return the path and ""; of a pattern the folders before its first name with a wildcard, and the rest.

    The working directory, where relative ones start, is no part of a pattern.
    """
    if raw.path:
        return _local_path(raw.path), ""
    parts = Path((raw.pattern or "").removeprefix("file://")).parts
    first = next((number for number, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    return Path(*parts[:first]).absolute(), "/".join(parts[first:])


def _is_read(file: Path, raw: RawTable) -> bool:
    """Return whether Spark reads a file: it leaves out hidden ones, and those that its option does not match."""
    root = root_of(raw)
    below = file.relative_to(root).parts or (file.name,)
    hidden = any(part.startswith(".") or (part.startswith("_") and "=" not in part) for part in below)
    return not hidden and fnmatchcase(file.name, raw.options.get("pathGlobFilter", "*"))


def _no_file(name: str, raw: RawTable) -> str:
    if raw.pattern:
        return (
            f"raw table '{name}': no file matches {raw.pattern}: correct source.raw.{name}.pattern, in which * and ? "
            "match within a name, [ab] one of these characters, and ** folders of any depth"
        )
    path = raw.path or ""
    if _local_path(path).exists():
        return f"raw table '{name}': {path} holds no file whose name starts with neither '_' nor '.': add or rename one"
    advice = f": correct source.raw.{name}.path"
    if glob.has_magic(path):
        advice += f"; a pattern of names is written as source.raw.{name}.pattern"
    return f"raw table '{name}': {path} does not exist{advice}"


def reader_of(spark: SparkSession, raw: RawTable, options: dict[str, str]) -> DataFrameReader:
    """Return Spark's reader for a raw table, with our defaults, some options, and the table's own."""
    defaults: dict[str, Any] = FORMAT_DEFAULTS.get(raw.format, {})
    return spark.read.format(raw.format).options(**defaults).options(**options).options(**raw.options)


def _paths(raw: RawTable, root: Path, files: Sequence[Path], all_files: bool = True) -> Sequence[Path]:
    """Return what Spark must load to read the files: the root where it finds just them by itself, otherwise each file.

    Of folders that are not named COLUMN=VALUE it would read only the first level.
    """
    folders = {part for file in files for part in file.relative_to(root).parts[:-1]}
    folders.update(each.name for each in root.glob("*/"))  # Spark would follow a link to a folder above without end
    finds = raw.path and all_files and all("=" in part for part in folders)
    return [root] if finds else files


def _read_csv(
    spark: SparkSession,
    raw: RawTable,
    root: Path,
    files: list[Path],
    options: dict[str, str],
    only: Collection[Path] | None,
) -> DataFrame:
    """Read CSV files; of several with a header each is read by its own, while Spark would use that of the first."""
    own = {key.lower(): value.lower() for key, value in raw.options.items()}
    by_header: dict[bytes, list[Path]] = {}
    for file in [file for file in files if file.stat().st_size] or files[:1]:
        has_header = own.get("header") in (None, "true") and file.suffix not in _COMPRESSED
        by_header.setdefault(_first_line(file) if has_header else b"", []).append(file)
    parts = []
    for alike in by_header.values():
        reader = reader_of(spark, raw, options)
        paths = _paths(raw, root, alike, all_files=len(by_header) == 1)
        if own.get("inferschema") != "true":  # to infer names from several lines at once, Spark would expand the paths
            names = load(reader_of(spark, raw, options).option("multiLine", "false"), paths)
            reader = reader.schema(names.schema)
        parts.append(_load(reader, paths, raw, alike, only))
    return _union(parts)


def _load(
    reader: DataFrameReader,
    paths: Sequence[Path],
    raw: RawTable,
    files: Sequence[Path],
    only: Collection[Path] | None = None,
) -> DataFrame:
    """Load all files, which are at the paths, or some of them with the columns and types of all.

    Values in the names of their folders have the types that the configuration gives them.
    """
    frame = load(reader, paths)
    in_folders = {part.partition("=")[0] for file in files for part in file.parts[:-1] if "=" in part}
    types = {column: kind for column, kind in types_of(raw).items() if column in in_folders & set(frame.columns)}
    if types:
        fields = [StructField(field.name, types.get(field.name, field.dataType)) for field in frame.schema]
        frame = load(reader.schema(StructType(fields)), paths)
    if only is None or set(files) <= set(only):
        return frame
    some = [file for file in files if file in only]
    return load(reader.schema(frame.schema), some) if some else frame.where("false")


def types_of(raw: RawTable) -> dict[str, DataType]:
    """Return the types that the configuration gives to columns.

    Raises:
        InputError: If Spark does not know a type.
    """
    types = {}
    for column, kind in raw.types.items():
        try:
            types[column] = DataType.fromDDL(kind)
        except PySparkException as error:
            raise InputError(
                f"types.{column} == '{kind}', must be a type of Spark's, such as string, bigint or date"
            ) from error
    return types


def _first_line(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.readline(1 << 16).removeprefix(codecs.BOM_UTF8).strip()


def _read_parquet(
    spark: SparkSession,
    name: str,
    raw: RawTable,
    root: Path,
    files: list[Path],
    options: dict[str, str],
    only: Collection[Path] | None,
) -> DataFrame:
    by_schema: dict[frozenset[tuple[str, str]], tuple[pa.Schema, list[Path]]] = {}
    with ThreadPoolExecutor(_THREADS) as pool:
        for file, schema in zip(files, pool.map(lambda file: _footer(name, file), files), strict=True):
            key = frozenset((field.name, str(field.type)) for field in schema)
            by_schema.setdefault(key, (schema, []))[1].append(file)
    typed = {field.name for schema, _ in by_schema.values() for field in schema if not pa.types.is_null(field.type)}
    parts = []
    for schema, alike in by_schema.values():
        paths = _paths(raw, root, alike, all_files=len(by_schema) == 1)
        part = _read_columns(spark, name, raw, schema, options, (paths, alike, only))
        # pandas writes a column without a value as one of no type, which would not fit the other files' type.
        untyped = [field.name for field in schema if pa.types.is_null(field.type) and field.name in typed]
        parts.append(part.drop(*untyped))
    rows = _union(parts)
    for column in {field.name for schema, _ in by_schema.values() for field in schema} - typed:
        rows = rows.withMetadata(column, UNTYPED)
    return rows


def _union(parts: list[DataFrame]) -> DataFrame:
    """Return the rows of all frames, by the names of their columns."""
    texts = {column.name for part in parts for column in part.schema if column.dataType == StringType()}
    aligned = [
        part.withColumns({name: f.col(quoted(name)).cast("string") for name in part.columns if name in texts})
        for part in parts
    ]
    return reduce(lambda one, other: one.unionByName(other, allowMissingColumns=True), aligned)


def _footer(name: str, file: Path) -> pa.Schema:
    try:
        return pq.read_schema(file)
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"raw table '{name}': {file} cannot be read as Parquet ({reason}): write it again or remove it; if the "
            "folder holds other files too, select by options: {pathGlobFilter: '*.parquet'}"
        ) from error


def _read_columns(
    spark: SparkSession,
    name: str,
    raw: RawTable,
    schema: pa.Schema,
    options: dict[str, str],
    where: tuple[Sequence[Path], Sequence[Path], Collection[Path] | None],
) -> DataFrame:
    """Read files of one schema, without the columns that Spark does not read, and with timestamps for nanoseconds.

    `where` are the paths, the files, and those of them to read, see `_load`.
    """
    nanoseconds = {
        field.name: field.type.tz is not None
        for field in schema
        if pa.types.is_timestamp(field.type) and field.type.unit == "ns"
    }
    converts = _reads_nanoseconds(spark) if nanoseconds else False
    reader = reader_of(spark, raw, options)
    left_out = [field.name for field in schema if UNREADABLE.search(str(field.type))]
    if left_out:
        types = ", ".join(f"{column} ({schema.field(column).type})" for column in left_out)
        _log.warning(f"raw table '{name}': left out {types}: Spark does not read such a column")
        readable = pa.schema([field for field in schema if field.name not in left_out])
        with tempfile.TemporaryDirectory() as folder:
            pq.write_table(readable.empty_table(), f"{folder}/empty.parquet")
            reader = reader.schema(load(spark.read, [f"{folder}/empty.parquet"]).schema)
    paths, files, only = where
    frame = _load(reader, paths, raw, files, only)
    if not converts:
        return frame
    return frame.withColumns(
        {
            column: _timestamp(column, has_zone)
            for column, has_zone in nanoseconds.items()
            if column in frame.columns and frame.schema[column].dataType == LongType()  # INT96 is a timestamp already
        }
    )


def _reads_nanoseconds(spark: SparkSession) -> bool:
    """Make Spark read instants in nanoseconds, as numbers, and return whether they are to become timestamps.

    They stay numbers where the user's own setting makes them numbers: their SQL expects that.
    """
    if spark.conf.get(_CONVERTED, "false") == "true":
        return True
    if spark.conf.get(_NANOSECONDS_AS_NUMBERS) == "true":
        return False
    spark.conf.set(_NANOSECONDS_AS_NUMBERS, "true")
    spark.conf.set(_CONVERTED, "true")
    return True


def _timestamp(column: str, has_zone: bool) -> Any:
    """Return nanoseconds since 1970 as a timestamp, rounded down; without a zone where the file has none."""
    number = quoted(column)
    timestamp = f"timestamp_micros(({number} - pmod({number}, 1000)) div 1000)"
    return f.expr(timestamp if has_zone else f"cast({timestamp} as timestamp_ntz)")
