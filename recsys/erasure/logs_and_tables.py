"""Erases a user from a shop's folder: the list of erased users, log files, tables."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.logs import log_files
from recsys.storage.local import held, put_in_place, scratch_folder, write_whole
from recsys.tables.parts import PARTS, replace_part

ERASED = "erased_users.txt"
"""The list in the shop's folder: one SHA-256 of a user id per line, so that the list itself names nobody."""

_NOT_TABLES = ("snapshots", "serving", "photos", "themes", ".spark")
_RAW_TEXTS = ("line", "row")
"""Columns of tables of rejected rows and lines, which hold the source's own row as text."""


def add_to_erased(folder: Path, user_id: str) -> bool:
    """Add a user to the list of those whose rows every later night leaves out; return whether the user is new there."""
    with held(folder):
        known = erased_hashes(folder)
        if (new := hash_of(user_id)) in known:
            return False
        write_whole(folder / ERASED, "".join(f"{each}\n" for each in [*known, new]))
    return True


def erased_hashes(folder: Path) -> list[str]:
    """Return the SHA-256 of the id of each erased user, in hexadecimal digits."""
    path = folder / ERASED
    return path.read_text("utf-8").split() if path.exists() else []


def hash_of(user_id: str) -> str:
    """Return the SHA-256 of a user id, as Spark's `sha2(user_id, 256)` does."""
    return hashlib.sha256(user_id.encode("utf-8", "surrogatepass")).hexdigest()


def erase_from_log(folder: Path, user_id: str) -> tuple[int, list[Path]]:
    """Remove a user's lines from the finished files of a log.

    Returns:
        The number of lines, and the files that a running service is still writing, which were not looked into.

    Raises:
        BusyError: If a job compacts the log at this moment.
    """
    if not folder.is_dir():
        return 0, []
    erased = 0
    with held(folder, wait=False):
        log_files.recover(folder)
        for file in log_files.finished(folder):
            lines = file.read_bytes().splitlines(keepends=True)
            others = [line for line in lines if not _is_of_user(line, user_id)]
            if len(others) < len(lines):
                erased += len(lines) - len(others)
                if others:
                    write_whole(file, b"".join(others))
                else:
                    file.unlink()
    return erased, sorted(folder.glob("*.jsonl.open"))


def erase_from_tables(folder: Path, user_id: str) -> dict[str, int]:
    """Remove a user's rows from all Parquet tables below the shop's folder: of nights, backtests and logs.

    Returns:
        The number of rows by path of the table, relative to the folder.
    """
    erased: dict[str, int] = {}
    for file in sorted(_parquet_files(folder)):
        if n_rows := _erase_from_file(file, user_id):
            table = str(file.parent.relative_to(folder))
            erased[table] = erased.get(table, 0) + n_rows
    return erased


def _parquet_files(folder: Path) -> Iterator[Path]:
    for below in folder.iterdir():
        if below.is_dir() and below.name not in _NOT_TABLES:
            yield from below.rglob("*.parquet")


def _erase_from_file(path: Path, user_id: str) -> int:
    with pq.ParquetFile(path, coerce_int96_timestamp_unit="us") as file:
        names = [name for name in ("user_id", *_RAW_TEXTS) if name in file.schema_arrow.names]
        if not names or not any(pa.types.is_string(file.schema_arrow.field(name).type) for name in names):
            return 0
        is_of_user = _rows_of_user(file.read(columns=names), user_id)
        n_rows = pc.sum(is_of_user).as_py() or 0
        if not n_rows:
            return 0
        columns = (file.metadata.schema.column(position) for position in range(len(file.metadata.schema)))
        has_int96 = any(column.physical_type == "INT96" for column in columns)
        others = file.read().filter(pc.invert(is_of_user))
    table = next((folder for folder in list(path.parents)[:2] if (folder / PARTS).exists()), None)
    if table is not None:
        replace_part(table, path.relative_to(table).as_posix(), others)
        return n_rows
    with scratch_folder(path.parent) as scratch:
        pq.write_table(others, scratch / path.name, use_deprecated_int96_timestamps=has_int96)
        path.with_name(f".{path.name}.crc").unlink(missing_ok=True)  # Spark's checksum of the former content
        put_in_place(scratch / path.name, path)
    return int(n_rows)


def _rows_of_user(rows: pa.Table, user_id: str) -> pa.ChunkedArray:
    quoted = orjson.dumps(user_id).decode()
    found = pa.chunked_array([pa.nulls(len(rows), pa.bool_()).fill_null(False)])
    for name in rows.column_names:
        column = rows.column(name)
        matches = pc.equal(column, user_id) if name == "user_id" else pc.match_substring(column, quoted)
        found = pc.or_(found, pc.fill_null(matches, False))
    return found


def _is_of_user(line: bytes, user_id: str) -> bool:
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:  # the end of a file whose writer was killed
        return orjson.dumps(user_id) in line
    return isinstance(record, dict) and record.get("user_id") == user_id
