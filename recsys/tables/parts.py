"""The files of a table: Parquet parts, and the list of those that count.

    <table>/part-00000-<random>.parquet
            _parts.json                   name, rows, bytes and SHA-256 of each part
            _parts-00000001.json          the same of a table in an object store that grows: the last number counts

A task that was killed or done twice leaves files that are not in the list, and nobody reads them.
"""

import hashlib
import json
import re
import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from recsys.errors import BusyError, InputError
from recsys.storage.local import to_disk
from recsys.storage.places import Place, arrow, contents, create, modified, put, remove, sizes_below

PARTS = "_parts.json"
"""File with the list of parts; Spark ignores files whose name begins so."""
_NUMBERED = re.compile(r"_parts-(\d{8})\.json")
_UNLISTED_S = 24 * 3600.0
_LISTS_KEPT = 10  # for readers that have just seen one
_ROW_GROUP_BYTES = 64 << 20
BUFFER_BYTES = 1 << 20
"""Bytes of a column that are read at once; whole columns of a row group would take its memory."""
BATCH_ROWS = 20_000
"""Rows that are read at once."""


class Part(NamedTuple):
    """A file of a table."""

    name: str
    """Path below the table's folder."""
    rows: int
    bytes: int
    sha256: str


def write_table(rows: pa.Table, table: Place) -> None:
    """Write rows of this process as a table of one part."""
    if isinstance(table, Path):
        table.mkdir(parents=True, exist_ok=True)
    write_list(table, [write_file(table, "part-00000.parquet", [rows])])


def write_batches(batches: Iterable[pa.RecordBatch], schema: pa.Schema, table: Place) -> None:
    """Write rows of this process, as they come, as a table of one part; also none."""
    tables = (pa.Table.from_batches([batch], schema) for batch in batches)
    write_list(table, [write_file(table, "part-00000.parquet", chain([schema.empty_table()], tables))])


def write_list(table: Place, parts: Iterable[Part]) -> None:
    """Write the list of a table's parts."""
    listed = [part._asdict() for part in sorted(parts)]
    put(table / PARTS, json.dumps(listed, indent=0))


def has_begun(table: Place) -> bool:
    """Return whether a table that grows is there: its folder on a disk; in an object store, its first list."""
    return table.exists() if isinstance(table, Path) else last_list(table)[0] > 0


def last_list(table: Place) -> tuple[int, list[Part]]:
    """Return the number of the last list of a table that grows, and its parts; 0 and none if there is no list."""
    return _last_list(table, sizes_below(table))


def add_to_list(table: Place, number: int, parts: Iterable[Part]) -> None:
    """Create the list of a number: from here on, the table has these parts and no others.

    Args:
        table: Folder of a table that grows.
        number: The one after that of the list which the parts continue.
        parts: All parts.

    Raises:
        BusyError: If another process has created the list of that number.
    """
    content = json.dumps([part._asdict() for part in sorted(parts)], indent=0)
    try:
        create(table / _list_name(number), content.encode())
    except FileExistsError:
        raise BusyError(f"another process added rows to {table} meanwhile: run again") from None
    if number > _LISTS_KEPT:
        remove(table / _list_name(number - _LISTS_KEPT))


def remove_unlisted(table: Place, at: datetime) -> None:
    """Remove parts that the last list of a table that grows does not have, and that no job can be about to list.

    Args:
        table: Folder of the table.
        at: The present instant; files of the day before stay.
    """
    sizes = sizes_below(table)
    listed = {part.name for part in _last_list(table, sizes)[1]}
    for name in sizes.keys() - listed:
        if name.endswith(".parquet") and at.timestamp() - modified(table / name) > _UNLISTED_S:
            remove(table / name)


def is_list(name: str) -> bool:
    """Return whether a file of a table is a list of its parts."""
    return name == PARTS or _NUMBERED.fullmatch(name) is not None


def _list_name(number: int) -> str:
    return f"_parts-{number:08}.json"


def _last_list(table: Place, names: Iterable[str]) -> tuple[int, list[Part]]:
    number = max((int(match[1]) for match in map(_NUMBERED.fullmatch, names) if match), default=0)
    listed = json.loads((table / _list_name(number)).read_bytes()) if number else []
    return number, [Part(**part) for part in listed]


def replace_part(table: Place, name: str, rows: pa.Table) -> None:
    """Put other rows in the place of a part's; whoever reads meanwhile finds the old part or the new one.

    A part that the list does not have is removed: nobody reads it.

    Args:
        table: Folder of a table with a list of parts.
        name: The part's path in it.
        rows: Those that are read from now on.
    """
    last, parts = last_list(table)
    parts = parts if last else parts_of(table)
    if name not in {part.name for part in parts}:
        remove(table / name)
        return
    in_folder = name.rpartition("part-")[0]
    number = name.removeprefix(f"{in_folder}part-").split("-")[0].removesuffix(".parquet")
    new = write_file(table, f"{in_folder}part-{number}-{secrets.token_hex(4)}.parquet", [rows])
    parts = [new, *(part for part in parts if part.name not in (name, new.name))]
    if last:
        add_to_list(table, last + 1, parts)
    else:
        write_list(table, parts)
    remove(table / name)


def parts_of(table: Place, within: Collection[str] | None = None) -> list[Part]:
    """Return the parts of a table, by name; those of a folder without a list are counted from their footers.

    Args:
        table: Folder of the table.
        within: Only those in these folders of a table that grows, such as `day=2026-03-01`; others are not looked at.

    Raises:
        InputError: If there is no table, or a part is missing or has another size than when it was written.
    """
    sizes = sizes_below(table)
    number, parts = _last_list(table, sizes)
    if number:
        wanted = [part for part in parts if within is None or part.name.split("/")[0] in within]
        return _checked(table, wanted, sizes)
    if PARTS not in sizes:
        names = sorted(name for name in sizes if name.endswith(".parquet"))
        if not names:
            raise InputError(
                f"table {table.name} is not in {table.parent}: run the step that writes it, or 'recsys nightly'"
            )
        return [Part(name, _rows_in_footer(table / name), sizes[name], "") for name in names]
    return _checked(table, [Part(**part) for part in json.loads((table / PARTS).read_text())], sizes)


def _checked(table: Place, parts: list[Part], sizes: Mapping[str, int]) -> list[Part]:
    """Return parts, after a check that they are there with their sizes."""
    for part in parts:
        if sizes.get(part.name) != part.bytes:
            found = f"has {sizes[part.name]} bytes" if part.name in sizes else "is missing"
            raise InputError(
                f"part {part.name} of table {table} {found}, must have {part.bytes}: remove the night's folder and run "
                "it again"
            )
    return parts


def whole_tables(folder: Place) -> dict[str, list[Part]]:
    """Return the parts of each table in a folder of tables, by its name, in order; only of tables that are whole.

    A table is not whole while it is written, after its writer was killed, or if a part is missing.
    """
    sizes, suffix = sizes_below(folder), f"/{PARTS}"
    names = sorted(name.removesuffix(suffix) for name in sizes if name.endswith(suffix))
    lists = contents([folder / name / PARTS for name in names])
    tables = {name: [Part(**part) for part in json.loads(found)] for name, found in zip(names, lists, strict=True)}
    return {
        name: parts
        for name, parts in tables.items()
        if all(sizes.get(f"{name}/{part.name}") == part.bytes for part in parts)
    }


def read_arrow(
    table: Place,
    columns: Sequence[str] | None = None,
    filters: Any = None,
    within: str = "",
    as_dictionary: Sequence[str] = (),
) -> pa.Table:
    """Read a table's parts, in the order of their names, into memory.

    Args:
        table: Folder of the table.
        columns: Those to read; all by default.
        filters: As in `pyarrow.parquet.read_table`.
        within: Only the parts in this folder of the table, such as `as_of=1767225600000000`.
        as_dictionary: Columns of texts that are read as dictionaries of their values.

    Raises:
        InputError: If there is no table, none of its parts is `within`, or a part is not as it was written.
    """
    system, root = arrow(table)
    names = [part.name for part in parts_of(table) if part.name.startswith(within and f"{within}/")]
    if not names:
        raise InputError(f"table {table} has no {within}: run the step that writes it again")
    paths = [f"{root}/{name}" for name in names]
    return pq.read_table(
        paths,
        columns=columns,
        filters=filters,
        filesystem=system,
        partitioning=None,
        read_dictionary=list(as_dictionary) or None,
    )


def read_batches(table: Place, rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
    """Read a table part by part, at most so many rows at a time, in the order of the parts' names."""
    for part in parts_of(table):
        yield from read_part(table, part.name, rows)


def read_part(
    table: Place, name: str, rows: int = BATCH_ROWS, columns: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """Read a part of a table, at most so many rows at a time; all columns by default."""
    system, root = arrow(table)
    with pq.ParquetFile(system.open_input_file(f"{root}/{name}"), buffer_size=BUFFER_BYTES) as file:
        yield from file.iter_batches(rows, columns=columns)


def first_schema(table: Place) -> pa.Schema:
    """Return the columns of a table's first part."""
    system, root = arrow(table)
    return pq.read_schema(f"{root}/{parts_of(table)[0].name}", filesystem=system)


def _rows_in_footer(file: Place) -> int:
    system, path = arrow(file)
    return int(pq.read_metadata(path, filesystem=system).num_rows)


class PartWriter:
    """Writes one part; small batches are gathered to row groups that are worth reading at once."""

    def __init__(self, table: Place, name: str) -> None:
        self._table, self._name = table, name
        self._gathered: list[pa.RecordBatch] = []
        self._bytes = 0
        self._file: _DigestedFile | None = None
        self._writer: pq.ParquetWriter | None = None
        self._rows = 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows."""
        self._gathered.append(batch)
        self._bytes += batch.nbytes
        if self._bytes >= _ROW_GROUP_BYTES:
            self._flush()

    def close(self) -> Part:
        """End the part, which has rows, or a batch of none; it is on disk on return."""
        self._flush()
        assert self._writer is not None
        assert self._file is not None
        self._writer.close()
        self._file.close()
        return Part(self._name, self._rows, self._file.size, self._file.digest.hexdigest())

    def _flush(self) -> None:
        if not self._gathered:
            return
        rows = pa.Table.from_batches(self._gathered)
        if self._writer is None:
            self._file = _DigestedFile(self._table / self._name)
            self._writer = pq.ParquetWriter(self._file, rows.schema)
        self._writer.write_table(rows, row_group_size=max(rows.num_rows, 1))
        self._rows += rows.num_rows
        self._gathered, self._bytes = [], 0


class _DigestedFile:
    """A file for writing that counts its bytes and their SHA-256 on the way; on disk when it is closed."""

    def __init__(self, file: Place) -> None:
        if isinstance(file, Path):
            file.parent.mkdir(parents=True, exist_ok=True)
        self._place, self._file = file, file.open("wb")
        self.digest, self.size = hashlib.sha256(), 0

    @property
    def closed(self) -> bool:
        return self._file.closed

    def write(self, content: Any) -> int:
        self.digest.update(content)
        self.size += len(content)
        return self._file.write(content)

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()
        if isinstance(self._place, Path):
            to_disk(self._place)


def write_file(table: Place, name: str, tables: Iterable[pa.Table]) -> Part:
    """Write one part of a table, also one without rows."""
    writer = PartWriter(table, name)
    for rows in tables:
        for batch in rows.to_batches() or [pa.RecordBatch.from_pylist([], rows.schema)]:
            writer.write(batch)
    return writer.close()
