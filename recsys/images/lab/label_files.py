"""Labels in folders of photos and in CSV; in and out."""

import csv
import io
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from recsys.errors import ConfigurationError, InputError, SchemaError
from recsys.images.lab.label_words import (
    NONE_OF_THESE,
    SEPARATOR,
    Reading,
    Rejected,
    Speaker,
    Word,
    label_ids,
    rejected_row,
    some_of,
    take,
    take_row,
)
from recsys.images.lab.taxonomy import Taxonomy
from recsys.images.tagging.decoding import PhotoError
from recsys.storage.local import write_whole
from recsys.wording import did_you_mean, plural, visible

COLUMNS = ("image_uri", "labels", "taxonomy", "source", "by", "at")
_OTHER_NAMES = {"label": "labels", "image": "image_uri", "photo": "image_uri", "path": "image_uri"}


def read_folders(folder: Path, taxonomy: Taxonomy, speaker: Speaker) -> Reading:
    """Read photos in folders named by their labels: a photo's label is the nearest folder above it that is a label's.

    Raises:
        ConfigurationError: If photos are in folders of which none is named by a label; lists all of these.
        InputError: If the folder holds no file.
    """
    ids = label_ids(taxonomy) | {NONE_OF_THESE: NONE_OF_THESE} | {each.casefold(): each for each in taxonomy.ids}
    reading = Reading()
    unknown: dict[str, int] = {}
    for path in sorted(each for each in folder.rglob("[!.]*") if not each.is_dir()):
        above = path.relative_to(folder).parts[:-1]
        if any(part.startswith(".") for part in above):
            continue
        found = next((ids[name.casefold()] for name in reversed(above) if name.casefold() in ids), None)
        if found is not None:
            labels = () if found == NONE_OF_THESE and NONE_OF_THESE not in taxonomy.ids else (found,)
            take(
                reading, Word(str(path.absolute()), labels, speaker.source, speaker.by, speaker.at, "folder"), taxonomy
            )
        elif above:
            unknown[above[-1]] = unknown.get(above[-1], 0) + 1
        else:
            detail = f"lies in {folder} itself: move it into a folder named by its label"
            reading.rejected.append(Rejected(str(path), "", "no_label", detail, "folder"))
    if unknown:
        names = [
            f"  {visible(name)!r} ({plural(count, 'file')}){did_you_mean(name, ids.values())}"
            for name, count in sorted(unknown.items())
        ]
        rule = f"folders must be named by labels of '{taxonomy.name}' ({some_of(taxonomy.ids)}) or {NONE_OF_THESE}"
        raise ConfigurationError(f"{folder}: {rule}; {len(names)} are not, nothing was imported:\n" + "\n".join(names))
    if not reading.words and not reading.rejected:
        raise InputError(f"{folder} contains no file, must contain a folder of photos for each label")
    return reading


def read_csv(path: Path, taxonomy: Taxonomy, speaker: Speaker, separator: str = SEPARATOR) -> Reading:
    """Read a CSV file with a header: image_uri, labels, and optionally taxonomy, source, by, at.

    The columns are divided by commas, semicolons or tabs, whichever the header has. The ids or names of several labels
    are divided by `separator`; of kind single a cell is one label. An empty cell says none of these.

    Raises:
        InputError: If the file is not text in UTF-8, or no CSV.
        SchemaError: If a column is missing.
    """
    text = text_of(path)
    header = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=header.count)
    reading, ids = Reading(), label_ids(taxonomy)
    try:
        rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        names = [name.strip() for name in rows.fieldnames or ()]
        rows.fieldnames = names = [_OTHER_NAMES.get(name, name) for name in names]
        missing = [
            f"{name!r} is missing{did_you_mean(name, names)}" for name in ("image_uri", "labels") if name not in names
        ]
        if missing:
            raise SchemaError(
                f"{path}: {', '.join(missing)}: the first line must name the columns {', '.join(COLUMNS)}"
            )
        if ignored := sorted(set(names).difference(COLUMNS, [""])):
            reading.notes.append(f"columns {some_of(ignored)} are not read")
        for row in rows:
            cells = {name: (row.get(name) or "").strip() for name in COLUMNS}
            if row["labels"] is None:
                detail = "the row ends before its labels: complete it"
                reading.rejected.append(rejected_row(cells, "", "no_label", detail, f"line {rows.line_num}"))
                continue
            labels = [cells["labels"]] if taxonomy.kind == "single" else cells["labels"].split(separator)
            take_row(reading, cells, [each.strip() for each in labels], f"line {rows.line_num}", taxonomy, ids, speaker)
    except csv.Error as error:
        raise InputError(
            f"{path}: line {rows.reader.line_num} is no CSV ({error}): close its quotes, or save it again"
        ) from error
    return reading


def write_rejected(rejected: Sequence[Rejected], folder: Path, taxonomy: str, at: datetime) -> Path:
    """Write rows that could not be used as CSV into the folder of a taxonomy's labels; return the file."""
    file = folder / taxonomy / "rejected_labels" / f"{at:%Y%m%dT%H%M%S}.csv"
    names = [*COLUMNS, "reason", "detail", "where"]
    rows = [{**asdict(each), "taxonomy": each.taxonomy or taxonomy} for each in rejected]
    write_whole(file, _csv(names, rows))
    return file


def write_csv(rows: Sequence[Mapping[str, Any]], path: Path, separator: str = SEPARATOR) -> None:
    """Write rows of LABELS as CSV that `read_csv` reads; labels with the separator in them are refused.

    Raises:
        ConfigurationError: If a label contains the separator.
    """
    for label in {label for row in rows for label in row["labels"] if separator in label}:
        raise ConfigurationError(f"label '{label}' contains the separator {separator!r}: give another --separator")
    written = [{**row, "labels": separator.join(row["labels"]), "at": row["at"].isoformat()} for row in rows]
    write_whole(path, _csv(COLUMNS, written))


def write_folders(rows: Sequence[Mapping[str, Any]], folder: Path, read: Callable[[str], bytes]) -> list[str]:
    """Write photos into one folder per label, named by their content hash.

    A photo with several labels is written into each of their folders, one without into `none_of_these`.

    Args:
        rows: Rows of LABELS.
        folder: A new folder.
        read: Returns the content of a photo.

    Returns:
        A line for each photo that cannot be read, and is not written.

    Raises:
        ConfigurationError: If a label cannot name a folder.
    """
    for label in sorted({label for row in rows for label in row["labels"]}):
        if label != os.path.basename(label) or label in (".", ".."):  # noqa: PTH119  any text
            raise ConfigurationError(f"label '{label}' cannot name a folder: export as CSV or Label Studio's JSON")
    problems = []
    for row in rows:
        name = row["image_hash"] + Path(urlsplit(row["image_uri"]).path).suffix.lower()
        try:
            content = read(row["image_uri"])
        except PhotoError as error:
            problems.append(str(error))
            continue
        for label in row["labels"] or (NONE_OF_THESE,):
            write_whole(folder / label / name, content)
    return problems


def text_of(path: Path) -> str:
    """Return the text of a file in UTF-8.

    Raises:
        InputError: If it is none.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not text in UTF-8 ({error.reason}, byte {error.start}): save it as UTF-8"
        ) from error


def _csv(names: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
