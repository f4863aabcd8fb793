"""Labels in files that people and labelling programs have: folders of photos, CSV, Label Studio's JSON; in and out.

What a file says about photos is first read as words (`read_folders`, `read_csv`, `read_label_studio`), then said to the
store of labels (`say`). A row that cannot be used is in neither lost nor an obstacle: it is returned with a reason, and
written as CSV of the same columns, which can be corrected and imported.
"""

import csv
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, get_args
from urllib.parse import parse_qs, quote, urlsplit
from xml.sax.saxutils import quoteattr

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.errors import ConfigurationError, InputError, SchemaError
from recsys.images.lab.head import Head
from recsys.images.lab.label_store import LABELS, LabelStore, Source, standing_words
from recsys.images.lab.shop_photos import Progress, ShopPhotos
from recsys.images.lab.taxonomy import Taxonomy
from recsys.images.tagging.decoding import PhotoError
from recsys.instants import from_micros, parse_instant
from recsys.storage.local import write_whole
from recsys.wording import did_you_mean, plural, visible

NONE_OF_THESE = "none_of_these"
"""Name of the folder of photos that show none of the labels; elsewhere an empty list of labels says so."""
COLUMNS = ("image_uri", "labels", "taxonomy", "source", "by", "at")
_OTHER_NAMES = {"label": "labels", "image": "image_uri", "photo": "image_uri", "path": "image_uri"}
SEPARATOR = "|"
LOCAL_FILES = "/data/local-files/"
"""Path under which Label Studio shows files of its own disk; `d` is relative to LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT,
here the root of the disk."""
REASONS = {
    "no_photo": "the row names no photo",
    "no_label": "the row has no label, and the taxonomy does not say `other: reject`",
    "unknown_label": "the taxonomy has no such label",
    "several_labels": "a photo has one label of a taxonomy of kind single",
    "two_labels": "the same photo is given two labels by the same person at the same instant",
    "older_word": "the label was said before the one that counts",
    "other_taxonomy": "the row is of another taxonomy",
    "bad_source": "the source is none of person, api, rule",
    "bad_time": "the instant cannot be read, has no zone, or is in the future",
    "skipped": "the labeller skipped the photo",
}
"""Why a row is put aside, besides the reasons why a photo cannot be read (recsys.images.tagging.decoding.REASONS)."""


@dataclass(frozen=True)
class Speaker:
    """Who says the labels of a file, where the file itself does not tell."""

    by: str
    source: Source
    at: datetime
    """The present instant, with a zone."""


@dataclass(frozen=True)
class Word:
    """Labels that a file gives a photo."""

    image_uri: str
    labels: tuple[str, ...]  # ids; none: none of these
    source: str
    by: str
    at: datetime
    where: str  # such as "line 3"
    is_dated: bool = False  # whether the file itself says when


@dataclass(frozen=True)
class Rejected:
    """A row that cannot be used, as the file has it."""

    image_uri: str
    labels: str
    reason: str  # a key of REASONS, or of the reasons why a photo cannot be read
    detail: str
    where: str
    taxonomy: str = ""
    source: str = ""
    by: str = ""
    at: str = ""


@dataclass(frozen=True)
class Reading:
    """What a file says."""

    words: list[Word] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what was left out on purpose


@dataclass(frozen=True)
class Said:
    """What became of the words of a file."""

    n_added: int
    n_known: int  # said before, and not taken back
    rejected: list[Rejected]


def label_ids(taxonomy: Taxonomy) -> dict[str, str]:
    """Return the id of each label by all that it is called, in small letters: its id, and names that no other has."""
    called: dict[str, set[str]] = {}
    for label in taxonomy.labels:
        for name in (label.id, *label.names.values()):
            called.setdefault(name.strip().casefold(), set()).add(label.id)
    by_name = {name: next(iter(ids)) for name, ids in called.items() if len(ids) == 1}
    return by_name | {each.casefold(): each for each in reversed(taxonomy.ids)}


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
            _take(
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
        rule = f"folders must be named by labels of '{taxonomy.name}' ({_some(taxonomy.ids)}) or {NONE_OF_THESE}"
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
    text = _text_of(path)
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
            reading.notes.append(f"columns {_some(ignored)} are not read")
        for row in rows:
            cells = {name: (row.get(name) or "").strip() for name in COLUMNS}
            if row["labels"] is None:
                detail = "the row ends before its labels: complete it"
                reading.rejected.append(_rejected(cells, "", "no_label", detail, f"line {rows.line_num}"))
                continue
            labels = [cells["labels"]] if taxonomy.kind == "single" else cells["labels"].split(separator)
            _take_row(
                reading, cells, [each.strip() for each in labels], f"line {rows.line_num}", taxonomy, ids, speaker
            )
    except csv.Error as error:
        raise InputError(
            f"{path}: line {rows.reader.line_num} is no CSV ({error}): close its quotes, or save it again"
        ) from error
    return reading


def read_label_studio(path: Path, taxonomy: Taxonomy, speaker: Speaker) -> Reading:
    """Read the export of Label Studio in its formats JSON and JSON-MIN: each annotation of a task is a word.

    Of the choices those of the taxonomy's name (`from_name`) count, or all where no such name occurs. Predictions are
    not labels, and are left out.

    Raises:
        InputError: If the file is no list of tasks.
    """
    try:
        tasks = json.loads(_text_of(path))
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path} is not readable as JSON ({error}): export it from Label Studio as JSON again"
        ) from error
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise InputError(f"{path} must hold a list of tasks: export it from Label Studio as JSON or JSON-MIN")
    reading, ids, n_predictions = Reading(), label_ids(taxonomy), 0
    for number, task in enumerate(tasks):
        where = f"task {task.get('id', number)}"
        data = task["data"] if isinstance(task.get("data"), dict) else task
        meta = {name: str(data[name]) for name in ("taxonomy", "source", "by", "at") if data.get(name) is not None}
        cells = {"image_uri": _image_of(data), **meta}
        predictions = task.get("predictions")
        n_predictions += len(predictions) if isinstance(predictions, list) else 0
        for annotation in _annotations(task):
            said = cells | _cells_of_annotation(annotation)
            if annotation.get("was_cancelled"):
                reading.rejected.append(_rejected(said, "", "skipped", REASONS["skipped"], where))
                continue
            _take_row(reading, said, _choices(annotation, taxonomy.name), where, taxonomy, ids, speaker)
    if n_predictions:
        reading.notes.append(f"{plural(n_predictions, 'prediction')} left out: only annotations are labels")
    return reading


def import_labels(
    reading: Reading, photos: ShopPhotos, root: str | None = None, on_progress: Progress = lambda *_: None
) -> Said:
    """Say what a file says about the photos of a shop, after those that are new were seen by the base network.

    Where the process is killed no label has been said; what was read and seen is kept, so the next import is faster.

    Args:
        reading: The words of the file.
        photos: The photos of the shop.
        root: The folder or URL below which the photos lie, the base of relative paths; images.root by default.
        on_progress: See `ShopPhotos.embed`.
    """
    files = photos.files(root)
    words = [replace(word, image_uri=files.absolute(word.image_uri)) for word in reading.words]
    seen = photos.embed([word.image_uri for word in words], root, on_progress).to_pylist()
    return say(replace(reading, words=words), seen, photos.taxonomy, photos.labels)


def say(reading: Reading, seen: Iterable[Mapping[str, Any]], taxonomy: Taxonomy, labels: LabelStore) -> Said:
    """Add the words of a file to the store of labels; all that can be used, at once.

    What was said before and stands is not said again, so a file can be imported twice, also after later corrections. A
    file that names the instant of a word cannot take back a later one.

    Args:
        reading: The words.
        seen: For each photo image_uri as in the words, image_hash, and reason and detail where it could not be read.
        taxonomy: The taxonomy.
        labels: Its labels.
    """
    photos = {row["image_uri"]: row for row in seen}
    rejected = list(reading.rejected)
    by_content: dict[tuple[str, str, str, datetime], list[Word]] = {}
    for word in reading.words:
        photo = photos[word.image_uri]
        if photo["reason"]:
            rejected.append(_rejected_word(word, photo["reason"], photo["detail"] or ""))
        else:
            by_content.setdefault((photo["image_hash"], word.source, word.by, word.at), []).append(word)
    history = labels.history()
    rows = history.to_pylist()
    standing = {image_hash: [rows[row] for row in said] for image_hash, said in standing_words(history).items()}
    new, n_known = [], 0
    for (image_hash, *_), words in sorted(by_content.items(), key=lambda item: (item[0][3], item[0])):
        said = sorted({label for word in words for label in word.labels}, key=taxonomy.ids.index)
        if taxonomy.kind == "single" and len({word.labels for word in words}) > 1:
            given = " and ".join(f"'{' '.join(each.labels) or NONE_OF_THESE}' ({each.image_uri})" for each in words[:5])
            rejected += [
                _rejected_word(word, "two_labels", f"the same photo is given {given}: keep one") for word in words
            ]
            continue
        word = words[0]
        before = standing.get(image_hash, [])
        if any(_is_said(each, said, word) for each in before):
            n_known += 1
        elif word.is_dated and before and before[-1]["at"] > word.at:
            detail = (
                f"{before[-1]['by']} said {before[-1]['labels']} at {before[-1]['at']:%Y-%m-%d %H:%M}: leave out 'at'"
            )
            rejected += [_rejected_word(each, "older_word", detail) for each in words]
        else:
            values = (image_hash, word.image_uri, taxonomy.name, said, word.source, word.by, word.at)
            new.append(dict(zip(LABELS.names, values, strict=True)))
    labels.add(pa.Table.from_pylist(new, LABELS))
    return Said(len(new), n_known, rejected)


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


def predictions_of(
    head: Head, image_hashes: NDArray[np.str_], embeddings: NDArray[np.float32]
) -> dict[str, tuple[list[str], float]]:
    """Return the labels that a head says of each photo, and the probability of the most probable one."""
    probabilities = head.probabilities(embeddings)
    said = zip(head.said(probabilities), probabilities.max(1).tolist(), strict=True)
    return dict(zip(image_hashes.tolist(), said, strict=True))


def label_studio_tasks(
    rows: Sequence[Mapping[str, Any]],
    taxonomy: Taxonomy,
    predictions: Mapping[str, tuple[list[str], float]] | None = None,
    version: str = "",
) -> list[dict[str, Any]]:
    """Return tasks in the JSON that Label Studio imports; who said what and when is in their data.

    Args:
        rows: Rows of LABELS; labels None: a photo to be labelled.
        taxonomy: The taxonomy.
        predictions: Labels and score in [0, 1] by image_hash, shown to the labeller.
        version: The version of the tagger that predicted.
    """
    tasks = []
    for row in rows:
        data = {"image": label_studio_uri(row["image_uri"]), "image_hash": row["image_hash"], "taxonomy": taxonomy.name}
        task: dict[str, Any] = {"data": data}
        if row["labels"] is not None:
            data |= {"source": row["source"], "by": row["by"], "at": row["at"].isoformat()}
            task["annotations"] = [{"result": _result(row["labels"], taxonomy.name)}]
        if predictions and row["image_hash"] in predictions:
            labels, score = predictions[row["image_hash"]]
            result = _result(labels, taxonomy.name)
            task["predictions"] = [{"model_version": version, "score": round(float(score), 6), "result": result}]
        tasks.append(task)
    return tasks


def label_studio_config(taxonomy: Taxonomy, audience: str = "en") -> str:
    """Return the labelling interface of a taxonomy for Label Studio: names are shown, ids are said."""
    choice = "single" if taxonomy.kind == "single" else "multiple"
    names = [(taxonomy.name_of(each, audience), each) for each in taxonomy.ids]
    lines = [f"    <Choice value={quoteattr(name)} alias={quoteattr(label)}/>" for name, label in names]
    choices = f'  <Choices name={quoteattr(taxonomy.name)} toName="image" choice="{choice}">'
    return "\n".join(
        ["<View>", '  <Image name="image" value="$image"/>', choices, *lines, "  </Choices>", "</View>", ""]
    )


def label_studio_uri(uri: str) -> str:
    """Return the address under which Label Studio shows a photo."""
    return uri if "://" in uri else f"{LOCAL_FILES}?d={quote(uri.lstrip('/'))}"


def _take_row(
    reading: Reading,
    cells: Mapping[str, str],
    labels: Sequence[str],
    where: str,
    taxonomy: Taxonomy,
    ids: Mapping[str, str],
    speaker: Speaker,
) -> None:
    """Take a row of a file as a word, or put it aside with the first rule that it breaks."""
    named = [each for each in labels if each]
    told = SEPARATOR.join(named)
    unknown = [each for each in named if each.casefold() not in ids]
    source, at, time_problem = cells.get("source") or speaker.source, speaker.at, ""
    if cells.get("at"):
        at, time_problem = _instant(cells["at"], speaker.at)
    if not cells.get("image_uri"):
        reading.rejected.append(_rejected(cells, told, "no_photo", REASONS["no_photo"], where))
    elif (other := cells.get("taxonomy")) and other != taxonomy.name:
        detail = f"taxonomy == '{visible(other)}', '{taxonomy.name}' is imported"
        reading.rejected.append(_rejected(cells, told, "other_taxonomy", detail, where))
    elif unknown:
        rule = f"must be one of {_some(taxonomy.ids)}{did_you_mean(unknown[0], ids.values())}"
        detail = f"label '{visible(unknown[0])}', {rule}"
        reading.rejected.append(_rejected(cells, told, "unknown_label", detail, where))
    elif source not in get_args(Source):
        detail = f"source == '{visible(source)}', must be one of {', '.join(get_args(Source))}"
        reading.rejected.append(_rejected(cells, told, "bad_source", detail, where))
    elif time_problem:
        reading.rejected.append(_rejected(cells, told, "bad_time", time_problem, where))
    else:
        chosen = tuple(sorted({ids[each.casefold()] for each in named}, key=taxonomy.ids.index))
        word = Word(cells["image_uri"], chosen, source, cells.get("by") or speaker.by, at, where, bool(cells.get("at")))
        _take(reading, word, taxonomy)


def _take(reading: Reading, word: Word, taxonomy: Taxonomy) -> None:
    """Take a word if the taxonomy allows as many labels."""
    if taxonomy.kind == "single" and len(word.labels) > 1:
        detail = f"{len(word.labels)} labels, must be one: taxonomy '{taxonomy.name}' is of kind single"
        reading.rejected.append(_rejected_word(word, "several_labels", detail))
    elif not word.labels and taxonomy.kind == "single" and taxonomy.other is None:
        detail = f"no label, must be one: say 'other: reject' in taxonomy '{taxonomy.name}' if photos may show none"
        reading.rejected.append(_rejected_word(word, "no_label", detail))
    else:
        reading.words.append(word)


def _instant(text: str, now: datetime) -> tuple[datetime, str]:
    """Return the instant of a word, and what is wrong with it."""
    try:
        at = from_micros(parse_instant(text))
    except ConfigurationError as error:
        return now, str(error)
    return at, f"at == '{text}', must not be in the future" if at > now else ""


def _is_said(row: Mapping[str, Any], labels: list[str], word: Word) -> bool:
    is_same = sorted(row["labels"]) == sorted(labels) and (row["source"], row["by"]) == (word.source, word.by)
    return is_same and (not word.is_dated or row["at"] == word.at)


def _rejected(cells: Mapping[str, str], labels: str, reason: str, detail: str, where: str) -> Rejected:
    others = {name: cells.get(name, "") for name in ("taxonomy", "source", "by", "at")}
    return Rejected(cells.get("image_uri", ""), labels, reason, detail, where, **others)


def _rejected_word(word: Word, reason: str, detail: str) -> Rejected:
    labels, at = SEPARATOR.join(word.labels), word.at.isoformat() if word.is_dated else ""
    return Rejected(word.image_uri, labels, reason, detail, word.where, "", word.source, word.by, at)


def _annotations(task: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the annotations of a task; a row of JSON-MIN is its own only one."""
    if "data" not in task:
        yield task
        return
    annotations = task.get("annotations") or task.get("completions") or ()
    yield from (each for each in annotations if isinstance(each, dict))


def _cells_of_annotation(annotation: Mapping[str, Any]) -> dict[str, str]:
    who = annotation.get("completed_by", annotation.get("annotator"))
    by = who.get("email") or who.get("id") if isinstance(who, dict) else who
    at = annotation.get("updated_at") or annotation.get("created_at")
    cells = {"by": f"label studio {by}" if isinstance(by, int) else by, "at": at}
    return {name: str(value) for name, value in cells.items() if value}


def _choices(annotation: Mapping[str, Any], name: str) -> list[str]:
    """Return the choices of an annotation: those of the control that is named as the taxonomy, or else all."""
    results = annotation.get("result")
    if not isinstance(results, list):  # JSON-MIN: {"rooms": "suite"} or {"rooms": {"choices": ["suite"]}}
        value = annotation.get(name, annotation.get("choice"))
        value = value.get("choices") if isinstance(value, dict) else value
        return [value] if isinstance(value, str) else [str(each) for each in value or ()]
    choices = [each for each in results if isinstance(each, dict) and each.get("type") == "choices"]
    named = [each for each in choices if each.get("from_name") == name] or choices
    found = [each["value"].get("choices") for each in named if isinstance(each.get("value"), dict)]
    return [str(choice) for of_control in found for choice in of_control or ()]


def _image_of(data: Mapping[str, Any]) -> str:
    """Return the photo of a task: its `image`, or the only value that looks like a path."""
    values = {key: value for key, value in data.items() if isinstance(value, str)}
    uri = values.get("image") or next((value for key, value in values.items() if "/" in value and key != "by"), "")
    if urlsplit(uri).path == LOCAL_FILES:
        below = parse_qs(urlsplit(uri).query).get("d", [""])[0]
        return f"/{below}" if Path(f"/{below}").exists() else below
    return uri


def _result(labels: Sequence[str], name: str) -> list[dict[str, Any]]:
    if not labels:
        return []
    return [{"from_name": name, "to_name": "image", "type": "choices", "value": {"choices": list(labels)}}]


def _text_of(path: Path) -> str:
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


def _some(names: Sequence[str], most: int = 12) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
