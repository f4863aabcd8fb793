"""The files of a raw table on a disk or behind a URL: names, sizes, and what changes with their content."""

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from fnmatch import fnmatchcase
from glob import has_magic
from typing import NamedTuple
from urllib.parse import unquote

from pyspark.sql.types import DataType, DateType, DoubleType, IntegerType, LongType, StringType, StructField, StructType
from upath import UPath

from recsys.config.pipeline import RawTable
from recsys.errors import ConfigurationError, InputError
from recsys.raw_tables.files import files_to_read, is_url, root_of
from recsys.storage.places import place

_STAMPS = ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "updated", "mtime", "created")
"""What file systems of fsspec call that which changes with a file's content, best first."""
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


class ListedFile(NamedTuple):
    """A file of a raw table."""

    location: str
    """Path or URL."""
    below: str
    """Path below the table's folder."""
    size: int
    stamp: str
    """Changes when the file is written again."""

    @property
    def partition(self) -> dict[str, str | None]:
        """Values in the names of its folders, COLUMN=VALUE."""
        parts = (part.split("=", 1) for part in self.below.split("/")[:-1] if "=" in part)
        return {name: None if value == NO_VALUE else unquote(value) for name, value in parts}


def listed_files(name: str, raw: RawTable) -> list[ListedFile]:
    """Return the files of a raw table that are read, by name: no hidden ones, and those of its pathGlobFilter.

    Raises:
        ConfigurationError: If fsspec does not know the URL's scheme.
        InputError: If the store does not list them.
    """
    if not is_url(raw.path or raw.pattern or ""):
        root = root_of(raw)
        local = ((file, file.stat()) for file in files_to_read(raw))
        return [
            ListedFile(str(file), file.relative_to(root).as_posix(), stat.st_size, str(stat.st_mtime_ns))
            for file, stat in local
        ]
    try:
        found = _files_behind_url(raw)
    except (ConfigurationError, FileNotFoundError):
        raise
    except Exception as error:  # each store's library has errors of its own
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise InputError(
            f"raw table '{name}': {raw.path or raw.pattern} cannot be listed ({reason}): check the address, and the "
            "credentials in the environment"
        ) from error
    return sorted(file for file in found if _is_read(file, raw))


def _files_behind_url(raw: RawTable) -> set[ListedFile]:
    if raw.path:
        return set(_below(_remote(raw.path), _remote(raw.path)))
    found: set[ListedFile] = set()
    for pattern in _without_braces(raw.pattern or ""):
        whole, root = _remote(pattern), _remote(_before_wildcards(pattern))
        for path in whole.fs.glob(whole.path):
            found.update(_below(root / path.removeprefix(root.path).strip("/"), root))
    return found


def _remote(url: str) -> UPath:
    where = place(url)
    assert isinstance(where, UPath)
    return where


def _below(where: UPath, root: UPath) -> Iterator[ListedFile]:
    """Yield a file, or all files below a folder."""
    start = root.path.rstrip("/") + "/"
    for path, about in where.fs.find(where.path, detail=True).items():
        stamp = next((str(about[key]) for key in _STAMPS if about.get(key)), "")
        below = path.removeprefix(start) if path.startswith(start) else path.rpartition("/")[2]
        yield ListedFile(str(root / below) if path.startswith(start) else str(root), below, about["size"] or 0, stamp)


def _is_read(file: ListedFile, raw: RawTable) -> bool:
    parts = file.below.split("/")
    hidden = any(part.startswith(".") or (part.startswith("_") and "=" not in part) for part in parts)
    return bool(file.below) and not hidden and fnmatchcase(parts[-1], raw.options.get("pathGlobFilter", "*"))


def _without_braces(pattern: str) -> list[str]:
    """Return the patterns that one with alternatives in braces stands for, as Hadoop reads it."""
    found = re.search(r"\{([^{}]*)\}", pattern)
    if not found:
        return [pattern]
    before, after = pattern[: found.start()], pattern[found.end() :]
    return [each for choice in found[1].split(",") for each in _without_braces(before + choice + after)]


def _before_wildcards(pattern: str) -> str:
    parts = pattern.split("/")
    first = next((number for number, part in enumerate(parts) if number > 2 and has_magic(part)), len(parts) - 1)
    return "/".join(parts[:first])


def partition_columns(files: Iterable[ListedFile], types: dict[str, DataType]) -> StructType:
    """Return the columns in the names of folders: of the given types, otherwise of those that Spark would find.

    Those are integers, floats and dates, if all values are; otherwise texts.
    """
    values: dict[str, set[str]] = {}
    for file in files:
        for name, value in file.partition.items():
            values.setdefault(name, set()).update([] if value is None else [value])
    return StructType([StructField(name, types.get(name) or _type_of(sorted(seen))) for name, seen in values.items()])


def _type_of(values: Sequence[str]) -> DataType:
    if values and all(re.fullmatch(r"-?\d{1,18}", value) for value in values):
        is_long = any(abs(int(value)) >= 1 << 31 for value in values)
        return LongType() if is_long else IntegerType()
    if values and all(re.fullmatch(r"-?\d+\.?\d*", value) for value in values):
        return DoubleType()
    if values and all(_is_date(value) for value in values):
        return DateType()
    return StringType()


def _is_date(value: str) -> bool:
    try:
        return bool(date.fromisoformat(value)) and len(value) == 10
    except ValueError:
        return False
