"""Answers of a labelling service, from a CSV with a row per photo and label, or a row per photo with a list."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from recsys.errors import InputError
from recsys.images.lab.label_store import LABELS
from recsys.images.lab.taxonomy import Taxonomy
from recsys.storage.local import write_whole
from recsys.wording import did_you_mean, plural, visible

_LIST_SEPARATOR = "|"


class Rejected(NamedTuple):
    """A row of answers that is left aside."""

    line: int | None  # of the file, from 1; None: all rows of the photo
    image_uri: str
    label: str
    reason: str


@dataclass(frozen=True)
class Answers:
    """A service's labels of each photo that it answered for; none: it saw none of the taxonomy."""

    labels: Mapping[str, frozenset[str]]  # by image_uri
    rejected: list[Rejected] = field(default_factory=list)


def read_answers(
    file: Path,
    taxonomy: Taxonomy,
    absolute: Callable[[str], str] = str,
    min_confidence: float = 0.0,
) -> Answers:
    """Read a CSV of image_uri, label (or labels, separated by | or as a JSON list) and, optional, confidence.

    A label is an id of the taxonomy or one of its names, regardless of case. A photo with a row is answered for, even
    if no label of the row counts; rows that cannot be used are left aside with their reason.

    Args:
        file: UTF-8, with a header.
        taxonomy: The labels that count.
        absolute: Returns the absolute URI of a photo, under which its labels are returned.
        min_confidence: Labels of less confidence, in [0, 1], do not count.

    Raises:
        InputError: If the file is no such CSV, or has no row that can be used.
    """
    ids = _ids_by_name(taxonomy)
    labels: dict[str, set[str]] = {}
    rejected: list[Rejected] = []
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            rows = csv.DictReader(opened)
            header = set(rows.fieldnames or ())
            if "image_uri" not in header or not header & {"label", "labels"}:
                raise InputError(f"{file}: its header must name image_uri and label or labels, found {sorted(header)}")
            for row in rows:
                uri, told = row["image_uri"] or "", row.get("label") or row.get("labels") or ""
                if problem := _problem(uri, row.get("confidence")):
                    rejected.append(Rejected(rows.line_num, uri, told, problem))
                    continue
                said = labels.setdefault(absolute(uri), set())
                for label in _listed_labels(told):
                    if label.casefold() not in ids:
                        reason = f"unknown label: must be one of the taxonomy{did_you_mean(label, ids)}"
                        rejected.append(Rejected(rows.line_num, uri, label, reason))
                    elif float(row.get("confidence") or 1) >= min_confidence:
                        said.add(ids[label.casefold()])
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file} is no CSV in UTF-8 ({error}): save it as 'CSV UTF-8'") from error
    if not labels:
        example = f", such as line {rejected[0].line}: {rejected[0].reason}" if rejected else ""
        raise InputError(
            f"{file}: 0 of {plural(len(rejected), 'row')} can be used, needs at least 1{example}: correct the file"
        )
    return Answers({uri: frozenset(said) for uri, said in labels.items()}, rejected)


def label_rows(
    answers: Answers, hashes: Mapping[str, str], taxonomy: Taxonomy, current: pa.Table, service: str, at: datetime
) -> pa.Table:
    """Return the rows of LABELS that store a service's answers: not on photos that a person labelled, nor what it said.

    Args:
        answers: The answers; those for photos of the same content are joined.
        hashes: The hash of content by absolute URI; answers for other photos are left out.
        taxonomy: The taxonomy of the answers.
        current: The rows of LABELS that count now.
        service: Who answered.
        at: When, with a time zone.
    """
    known = {row["image_hash"]: row for row in current.to_pylist()}
    said: dict[str, tuple[str, set[str]]] = {}
    for uri, answered in answers.labels.items():
        if uri in hashes:
            said.setdefault(hashes[uri], (uri, set()))[1].update(answered)
    rows = []
    for image_hash, (uri, labels) in said.items():
        before = known.get(image_hash)
        if before is None or (
            before["source"] != "person" and (before["by"], set(before["labels"])) != (service, labels)
        ):
            row = {"image_hash": image_hash, "image_uri": uri, "taxonomy": taxonomy.name, "labels": sorted(labels)}
            rows.append(row | {"source": "api", "by": service, "at": at})
    return pa.Table.from_pylist(rows, LABELS)


def write_rejected(rejected: Iterable[Rejected], file: Path) -> None:
    """Write rows that were left aside as a CSV, replacing the file."""
    written = io.StringIO()
    rows = csv.writer(written)
    rows.writerows([Rejected._fields, *rejected])
    write_whole(file, written.getvalue())


def _problem(uri: str, confidence: str | None) -> str | None:
    if not uri:
        return "image_uri is empty"
    try:
        is_right = 0 <= float(confidence or 1) <= 1
    except ValueError:
        is_right = False
    return None if is_right else f"confidence == '{visible(str(confidence))}', must be a number in [0, 1]"


def _listed_labels(told: str) -> list[str]:
    try:
        listed = json.loads(told) if told.lstrip().startswith("[") else told.split(_LIST_SEPARATOR)
    except ValueError:
        listed = [told]
    return [label for each in listed if (label := str(each).strip())]


def _ids_by_name(taxonomy: Taxonomy) -> dict[str, str]:
    names = {name.casefold(): label.id for label in taxonomy.labels for name in label.names.values()}
    return names | {each.casefold(): each for each in taxonomy.ids}
