"""Erases a user from a shop's folder: the list of erased users, log files, tables."""

import hashlib
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.logs import log_files
from recsys.storage.local import held, write_whole
from recsys.storage.locks import locked
from recsys.storage.places import Place, arrow, put, remove, sizes_below
from recsys.tables.parts import is_list, replace_part

ERASED = "erased_users.txt"
"""The list in the shop's folder: one SHA-256 of a user id per line, so that the list itself names nobody."""

_NOT_TABLES = ("snapshots", "serving", "photos", "themes", ".spark")
_RAW_TEXTS = ("line", "row")
"""Columns of tables of rejected rows and lines, which hold the source's own row as text."""


def add_to_erased(folder: Place, user_id: str) -> bool:
    """Add a user to the list of those whose rows every later night leaves out; return whether the user is new there."""
    with locked(folder):
        known = erased_hashes(folder)
        if (new := hash_of(user_id)) in known:
            return False
        put(folder / ERASED, "".join(f"{each}\n" for each in [*known, new]))
    return True


def erased_hashes(folder: Place) -> list[str]:
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


def erase_from_shipped_log(log: Place, user_id: str) -> int:
    """Remove a user's lines from the log files that were shipped to an object store, and return their number.

    A file without them has another name. Where a job compacts the old one meanwhile, its table has the user's rows:
    erase the tables after the logs, and again if a job ran.
    """
    erased = 0
    for name in sorted(sizes_below(log)):
        lines = (log / name).read_bytes().splitlines(keepends=True)
        others = b"".join(line for line in lines if not _is_of_user(line, user_id))
        if n_lines := len(lines) - len(others.splitlines()):
            erased += n_lines
            if others:
                digest = hashlib.sha256(others).hexdigest()[:8]
                put(log / f"{name.removesuffix('.jsonl')}-{digest}.jsonl", others)
            remove(log / name)
    return erased


def erase_from_tables(folder: Place, user_id: str) -> dict[str, int]:
    """Remove a user's rows from all Parquet tables below the shop's folder: of nights, backtests and logs.

    Returns:
        The number of rows by path of the table, relative to the folder.
    """
    sizes, erased = sizes_below(folder), dict[str, int]()
    tables = {name.rpartition("/")[0] for name in sizes if is_list(name.rpartition("/")[2])}
    for name in sorted(sizes):
        if name.endswith(".parquet") and name.partition("/")[0] not in _NOT_TABLES:
            within = name.rpartition("/")[0]
            table = next((each for each in _folders_above(name)[:2] if each in tables), None)
            if n_rows := _erase_from_file(folder, name, table, user_id):
                erased[within] = erased.get(within, 0) + n_rows
    return erased


def _folders_above(name: str) -> list[str]:
    """Return the folders that a file is in, the innermost first."""
    parts = name.split("/")[:-1]
    return ["/".join(parts[:length]) for length in range(len(parts), 0, -1)]


def _erase_from_file(folder: Place, name: str, table: str | None, user_id: str) -> int:
    """Remove a user's rows from a file of Parquet, the part of a table with a list or any other; return how many."""
    system, root = arrow(folder)
    with pq.ParquetFile(system.open_input_file(f"{root}/{name}"), coerce_int96_timestamp_unit="us") as file:
        names = [column for column in ("user_id", *_RAW_TEXTS) if column in file.schema_arrow.names]
        if not names or not any(pa.types.is_string(file.schema_arrow.field(column).type) for column in names):
            return 0
        is_of_user = _rows_of_user(file.read(columns=names), user_id)
        n_rows = int(pc.sum(is_of_user).as_py() or 0)
        if not n_rows:
            return 0
        columns = (file.metadata.schema.column(position) for position in range(len(file.metadata.schema)))
        has_int96 = any(column.physical_type == "INT96" for column in columns)
        others = file.read().filter(pc.invert(is_of_user))
    if table is not None:
        replace_part(folder / table, name.removeprefix(f"{table}/"), others)
        return n_rows
    rewritten = pa.BufferOutputStream()
    pq.write_table(others, rewritten, use_deprecated_int96_timestamps=has_int96)
    path = folder / name
    path.with_name(f".{path.name}.crc").unlink(missing_ok=True)  # Spark's checksum of the former content
    put(path, rewritten.getvalue().to_pybytes())
    return n_rows


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
