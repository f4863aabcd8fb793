"""Some rows of a shop's file, and how Spark has to read it: format, separator, quotes, header, encoding."""

import csv
import io
import json
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE, getincrementaldecoder
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC
from decimal import Decimal
from functools import partial
from glob import has_magic
from itertools import islice, takewhile
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from charset_normalizer import from_bytes

from recsys.config.pipeline import RawTable
from recsys.errors import InputError
from recsys.onboarding.columns import Column, instants_of, numbers_of, quoted
from recsys.raw_tables.csv_files import names_by_spark
from recsys.raw_tables.files import JSON_DOCUMENTS, files_to_read

ROWS = 10_000
"""Number of rows of a sample."""
PLACES = 3
"""A sample is from so many files, or parts of a Parquet file: the first, the last, and those between."""
_BYTES = 4 << 20
"""Number of bytes that are read of a file's start; of its middle and end a quarter."""
_START = 1 << 18
_LONGEST_RECORD = 1 << 16
_LONGEST_DOCUMENT = 256 << 20
_LARGE_FILE = 256 << 20
"""Text files of at least this size are read by several tasks, if their sample has no line break in a value."""
_SEPARATORS = (",", ";", "\t", "|")
_QUOTES: tuple[tuple[dict[str, Any], dict[str, str]], ...] = (
    ({}, {}),
    ({"doublequote": False, "escapechar": "\\"}, {"escape": "\\"}),
    ({"quoting": csv.QUOTE_NONE}, {"quote": ""}),
)
"""Ways of quoting, best first: arguments of Python's reader, options of Spark's."""
_ENCODINGS = {
    "cp1252": "windows-1252",
    "cp1251": "windows-1251",
    "cp1253": "windows-1253",
    "shift_jis": "Shift_JIS",
    "gb18030": "GB18030",
    "big5": "Big5",
    "euc_kr": "EUC-KR",
}
"""Encodings that are told apart where a file is not UTF-8: Python's names, and those of Java. Those of other languages
in Latin letters, such as windows-1250, cannot be told from cp1252."""
_PACKED = (".zip", ".xz", ".7z", ".rar", ".tar", ".tgz")
_OTHER_FORMATS = {
    b"PK\x03\x04": "an Excel workbook or a zip file",
    b"\xd0\xcf\x11\xe0": "an Excel workbook",
    b"ORC": "ORC",
}


class Sample(NamedTuple):
    """Some rows of a file."""

    raw: RawTable
    """Where the file is, and how Spark reads it."""
    columns: list[Column]
    """Its columns; a field of a structure is a column too."""
    notes: tuple[str, ...] = ()
    """What was found out about the format, in words."""


def read_sample(location: str) -> Sample:
    """Read some rows of a file, of a folder of files, or of those that a pattern matches: CSV, JSON or Parquet.

    Raises:
        InputError: If there is no such file, or it has another format.
    """
    if "://" in location:
        raise InputError(
            f"{location} is a URL, must be a file, a folder or a pattern of this machine, or a table of Spark's "
            "catalogue: try it on a copy of some files, and write the URL into the configuration afterwards"
        )
    key = "pattern" if has_magic(location) and not Path(location).exists() else "path"
    raw = RawTable.model_validate({key: location})
    if not (files := files_to_read(raw)):
        rule = "matches no file" if key == "pattern" else "does not exist, or holds no file"
        raise InputError(f"{location} {rule}: correct the path; wildcards are * and ? in a name, ** for folders")
    if files[0].suffix in _PACKED:
        raise InputError(f"{files[0]} is packed as {files[0].suffix}, which Spark does not read: unpack it")
    files = [file for file in files if file.stat().st_size]
    if not files:
        raise InputError(f"{location} is empty, must hold names of columns and rows: write the file again")
    chosen = [files[round(place * (len(files) - 1) / (PLACES - 1))] for place in range(PLACES)]
    files = list(dict.fromkeys(chosen))
    format_ = _format(files[0])
    read = {"parquet": _read_parquet, "json": _read_json, "csv": _read_csv}[format_]
    by_file, options, notes = read(files)
    root = Path(*takewhile(lambda part: key == "path" or not has_magic(part), Path(location).parts)).absolute()
    rows = [dict(_partitions(file.relative_to(root))) | row for file, each in by_file for row in each]
    if not rows:
        raise InputError(f"{location} has no row, needs at least one: write the file again")
    raw = raw.model_copy(update={"format": format_, "options": options})
    return Sample(raw, columns_of(rows), tuple(notes))


def _format(file: Path) -> Literal["parquet", "json", "csv"]:
    start = _start(file, 1 << 16)
    if start.startswith(b"PAR1"):
        return "parquet"
    for magic, name in _OTHER_FORMATS.items():
        if start.startswith(magic):
            raise InputError(f"{file} is {name}, must be CSV, JSON or Parquet: write it again as one of these")
    text = start.removeprefix(BOM_UTF8)
    if b"\0" in text and not text.startswith((BOM_UTF16_BE, BOM_UTF16_LE)):
        raise InputError(f"{file} is no text, must be CSV, JSON or Parquet: write it again as one of these")
    return "json" if text.lstrip().startswith((b"{", b"[")) else "csv"


def _start(file: Path, n: int) -> bytes:
    """Return the first bytes of a file, unpacked."""
    try:
        with pa.input_stream(str(file), compression="detect") as opened:
            return bytes(opened.read(n))
    except OSError as error:
        raise InputError(f"{file} cannot be read ({' '.join(str(error).split())[:200]}): write it again") from error


_Rows = list[tuple[Path, list[dict[str, Any]]]]
_Read = tuple[_Rows, dict[str, str], list[str]]


def _read_parquet(files: Sequence[Path]) -> _Read:
    rows: _Rows = []
    for file in files:
        try:
            opened = pq.ParquetFile(file)
            groups = opened.num_row_groups
            places = sorted({round(place * max(groups - 1, 0) / (PLACES - 1)) for place in range(PLACES)})
            n = -(-ROWS // (len(files) * max(len(places), 1)))
            tables = [next(opened.iter_batches(n, row_groups=[group])) for group in places if groups]
        except (pa.ArrowException, OSError, StopIteration) as error:
            raise InputError(f"{file} cannot be read as Parquet ({error}): write it again or remove it") from error
        physical = opened.schema
        # Spark reads instants of 96 bits as instants in UTC, Arrow without a zone.
        in_utc = {physical.column(i).path for i in range(len(physical)) if physical.column(i).physical_type == "INT96"}
        found = [row for table in tables for row in table.to_pylist()]
        for row in found:
            row.update({name: row[name].replace(tzinfo=UTC) for name in in_utc if row[name]})
        rows.append((file, found))
    return rows, {}, []


def _read_json(files: Sequence[Path]) -> _Read:
    rows: _Rows = []
    for file in files:
        start = _start(file, _BYTES)
        lines = start.removeprefix(BOM_UTF8).lstrip().splitlines()
        if lines[0].strip() in JSON_DOCUMENTS or lines[0].startswith(b"["):
            whole = _start(file, _LONGEST_DOCUMENT + 1)
            if len(whole) > _LONGEST_DOCUMENT:
                raise InputError(f"{file} is one JSON document, too large to sample: write one record per line")
            records = _parsed(file, whole)
            found = records if isinstance(records, list) else [records]
        else:
            complete = lines[:-1] if len(start) == _BYTES else lines
            found = [_parsed(file, line) for line in complete[: -(-ROWS // len(files))] if line.strip()]
        if not all(isinstance(each, dict) for each in found):
            raise InputError(f"{file} holds other JSON than records, must hold one record per line: write it again")
        rows.append((file, found[: -(-ROWS // len(files))]))
    return rows, {}, []


def _parsed(file: Path, text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise InputError(f"{file} is not readable as JSON ({error}): write one record per line") from error


def _read_csv(files: Sequence[Path]) -> _Read:
    start = _start(files[0], _BYTES)
    encoding, java_name = _encoding(start)
    text = _decoded(start, encoding)
    separator, quotes, options = _dialect(text[:_START], len(text) <= _START and len(start) < _BYTES, files[0])
    notes = [f"separator {separator!r}"] if separator != "," else []
    options = ({"sep": separator} if separator != "," else {}) | options
    if java_name != "UTF-8":
        options["encoding"] = java_name
        notes.append(f"encoding {java_name}, as it is not UTF-8: look at the accents")
    rows: _Rows = []
    names: list[str] = []
    has_line_break = False
    for file in files:
        start = _start(file, _BYTES)
        reader = partial(csv.reader, delimiter=separator, **quotes)
        records = [record for record in reader(io.StringIO(_decoded(start, encoding), newline="")) if record]
        records = records[:-1] if len(start) == _BYTES else records
        if not names and not _is_header(records[0]):
            options["header"] = "false"
            notes.append("no header: columns are called _c0, _c1, …")
            names = [f"_c{number}" for number in range(len(records[0]))]
        if "header" not in options:
            names = names_by_spark(records[0])
            records = records[1:]
        most = -(-ROWS // len(files))
        further: list[list[str]] = []
        if any("\n" in value for record in records[:most] for value in record):
            has_line_break = True
        else:
            for part in _further_parts(file, encoding):
                further += [each for each in islice(reader(part), most // PLACES) if len(each) == len(names)]
        records = records[: most - len(further)] + further
        padded = ([value or None for value in record] + [None] * len(names) for record in records)
        rows.append((file, [dict(zip(names, record, strict=False)) for record in padded]))
    if has_line_break:
        notes.append("line breaks in values")
    elif max(file.stat().st_size for file in files) >= _LARGE_FILE and encoding != "utf-16":
        options["multiLine"] = "false"
        notes.append("no line break in a value of the sample: read by several tasks")
    return rows, options, notes


def _further_parts(file: Path, encoding: str) -> Iterator[io.StringIO]:
    """Yield parts of a large file from its middle and near its end, from the start of a line on.

    A log is in order of time: its start alone may be of one day. A packed file is read from its start only. Values
    must have no line breaks, which cannot be told from ends of lines there.
    """
    size, part = file.stat().st_size, _BYTES // 4
    if size <= _BYTES or encoding == "utf-16":
        return
    with file.open("rb") as opened:
        is_packed = opened.read(16) != _start(file, 16)
        for place in range(1, PLACES if not is_packed else 0):
            opened.seek((size - part) * place // (PLACES - 1))
            lines = opened.read(part).partition(b"\n")[2].rpartition(b"\n")[0]
            yield io.StringIO(_decoded(lines, encoding), newline="")


def _encoding(start: bytes) -> tuple[str, str]:
    """Return the encoding of a text by its start: Python's name and Java's."""
    if start.startswith((BOM_UTF16_BE, BOM_UTF16_LE)):
        return "utf-16", "UTF-16"
    try:
        _decoded(start, "utf-8-sig")
        return "utf-8-sig", "UTF-8"
    except UnicodeDecodeError:
        best = from_bytes(start[:_START], cp_isolation=list(_ENCODINGS)).best()
        if best is None or "cp1252" in (best.encoding, *best.could_be_from_charset):
            # Spark knows ISO 8859-1 by itself; the two differ in 0x80 to 0x9f.
            return ("cp1252", "windows-1252") if set(start) & set(range(0x80, 0xA0)) else ("latin-1", "ISO-8859-1")
        return best.encoding, _ENCODINGS[best.encoding]


def _decoded(start: bytes, encoding: str) -> str:
    """Return the text of the start of a file, whose last character may be cut off."""
    errors = "strict" if encoding == "utf-8-sig" else "replace"
    return getincrementaldecoder(encoding)(errors).decode(start)


def _dialect(text: str, is_whole: bool, file: Path) -> tuple[str, dict[str, Any], dict[str, str]]:
    """Return separator and quoting with which the most records have as many values as the first one, at least two.

    csv.Sniffer counts characters, which commas and line breaks inside of quoted texts mislead.
    """
    found = []
    for order, (quotes, options) in enumerate(_QUOTES):
        for separator in _SEPARATORS:
            lines = io.StringIO(text, newline="")
            try:
                records = [each for each in csv.reader(lines, delimiter=separator, strict=is_whole, **quotes) if each]
            except csv.Error:  # a quote that is never closed
                continue
            if not is_whole and sum(map(len, records.pop())) > _LONGEST_RECORD:  # so here, in the start of a file
                continue
            width = len(records[0]) if records else 0
            if width > 1:
                share = sum(len(record) == width for record in records) / len(records)
                found.append((round(share, 2), -order, width, separator, quotes, options))
    if not found:
        raise InputError(
            f"{file} has one column only, must have several, separated by a comma, a semicolon, a tab or a bar: write "
            "it again with one of these"
        )
    return max(found, key=lambda each: each[:3])[3:]


def _is_header(record: Sequence[str]) -> bool:
    """Return whether a record holds names: no number and no instant."""
    cells = [cell for cell in record if cell.strip()]
    return bool(cells) and not any(numbers_of([cell]) or instants_of([cell], "time") for cell in cells)


def _partitions(file: Path) -> Iterable[tuple[str, Any]]:
    """Yield name and value of each folder named COLUMN=VALUE, digits as the number that Spark makes of them."""
    for part in file.parts[:-1]:
        name, equals, value = part.partition("=")
        if equals:
            yield name, int(value) if value.isdecimal() else value


def columns_of(rows: Sequence[dict[str, Any]]) -> list[Column]:
    """Return the columns of some rows; each field of a structure is one, named by its path."""
    paths: dict[str, tuple[str, ...]] = {}

    def fields(row: dict[str, Any], above: tuple[str, ...] = ()) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key, value in row.items():
            path = (*above, str(key))
            if isinstance(value, dict):
                values |= fields(value, path)
            else:
                paths.setdefault(".".join(path), path)
                values[".".join(path)] = value
        return values

    flat = [fields(row) for row in rows]
    return [
        Column(name, ".".join(map(quoted, path)), [_plain(row.get(name)) for row in flat])
        for name, path in paths.items()
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value != value:
        return None
    if isinstance(value, Decimal):
        return float(value)
    return value if not isinstance(value, str) or value else None
