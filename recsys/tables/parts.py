"""The files of a table: Parquet parts, and the list of those that count.

    <table>/part-00000-<random>.parquet
            _parts.json                   name, rows, bytes and SHA-256 of each part

A task that was killed or done twice leaves files that are not in the list, and nobody reads them.
"""

import hashlib
import json
import secrets
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from recsys.errors import InputError
from recsys.storage.local import to_disk
from recsys.storage.places import Place, arrow, put, remove, sizes_below

PARTS = "_parts.json"
"""File with the list of parts; Spark ignores files whose name begins so."""
_ROW_GROUP_BYTES = 64 << 20
_BUFFER_BYTES = 1 << 20  # of a column that is read at once; whole columns of a row group would take its memory
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


def write_list(table: Place, parts: Iterable[Part]) -> None:
    """Write the list of a table's parts."""
    listed = [part._asdict() for part in sorted(parts)]
    put(table / PARTS, json.dumps(listed, indent=0))


def replace_part(table: Place, name: str, rows: pa.Table) -> None:
    """Put other rows in the place of a part's; whoever reads meanwhile finds the old part or the new one.

    Args:
        table: Folder of a table with a list of parts.
        name: The part's path in it.
        rows: Those that are read from now on.
    """
    in_folder = name.rpartition("part-")[0]
    number = name.removeprefix(f"{in_folder}part-").split("-")[0].removesuffix(".parquet")
    new = write_file(table, f"{in_folder}part-{number}-{secrets.token_hex(4)}.parquet", [rows])
    write_list(table, [new, *(part for part in parts_of(table) if part.name not in (name, new.name))])
    remove(table / name)


def parts_of(table: Place) -> list[Part]:
    """Return the parts of a table, by name; those of a folder without a list are counted from their footers.

    Raises:
        InputError: If there is no table, or a part is missing or has another size than when it was written.
    """
    sizes = sizes_below(table)
    if PARTS not in sizes:
        names = sorted(name for name in sizes if name.endswith(".parquet"))
        if not names:
            raise InputError(
                f"table {table.name} is not in {table.parent}: run the step that writes it, or 'recsys nightly'"
            )
        return [Part(name, _rows_in_footer(table / name), sizes[name], "") for name in names]
    parts = [Part(**part) for part in json.loads((table / PARTS).read_text())]
    for part in parts:
        if sizes.get(part.name) != part.bytes:
            found = f"has {sizes[part.name]} bytes" if part.name in sizes else "is missing"
            raise InputError(
                f"part {part.name} of table {table} {found}, must have {part.bytes}: remove the night's folder and run "
                "it again"
            )
    return parts


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


def read_part(table: Place, name: str, rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
    """Read a part of a table, at most so many rows at a time."""
    system, root = arrow(table)
    with pq.ParquetFile(system.open_input_file(f"{root}/{name}"), buffer_size=_BUFFER_BYTES) as file:
        yield from file.iter_batches(rows)


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
