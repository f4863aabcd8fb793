"""What files say about photos, as words, and how they are said to the store of labels.

A row that cannot be used is neither lost nor an obstacle: it is returned with a reason, and written as CSV of the same
columns, which can be corrected and imported.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, get_args

import pyarrow as pa

from recsys.errors import ConfigurationError
from recsys.images.lab.label_store import LABELS, LabelStore, Source, standing_words
from recsys.images.lab.shop_photos import Progress, ShopPhotos
from recsys.images.lab.taxonomy import Taxonomy
from recsys.instants import from_micros, parse_instant
from recsys.wording import did_you_mean, visible

NONE_OF_THESE = "none_of_these"
"""Name of the folder of photos that show none of the labels; elsewhere an empty list of labels says so."""
SEPARATOR = "|"
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
            rejected.append(rejected_word(word, photo["reason"], photo["detail"] or ""))
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
                rejected_word(word, "two_labels", f"the same photo is given {given}: keep one") for word in words
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
            rejected += [rejected_word(each, "older_word", detail) for each in words]
        else:
            values = (image_hash, word.image_uri, taxonomy.name, said, word.source, word.by, word.at)
            new.append(dict(zip(LABELS.names, values, strict=True)))
    labels.add(pa.Table.from_pylist(new, LABELS))
    return Said(len(new), n_known, rejected)


def take_row(
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
        reading.rejected.append(rejected_row(cells, told, "no_photo", REASONS["no_photo"], where))
    elif (other := cells.get("taxonomy")) and other != taxonomy.name:
        detail = f"taxonomy == '{visible(other)}', '{taxonomy.name}' is imported"
        reading.rejected.append(rejected_row(cells, told, "other_taxonomy", detail, where))
    elif unknown:
        rule = f"must be one of {some_of(taxonomy.ids)}{did_you_mean(unknown[0], ids.values())}"
        detail = f"label '{visible(unknown[0])}', {rule}"
        reading.rejected.append(rejected_row(cells, told, "unknown_label", detail, where))
    elif source not in get_args(Source):
        detail = f"source == '{visible(source)}', must be one of {', '.join(get_args(Source))}"
        reading.rejected.append(rejected_row(cells, told, "bad_source", detail, where))
    elif time_problem:
        reading.rejected.append(rejected_row(cells, told, "bad_time", time_problem, where))
    else:
        chosen = tuple(sorted({ids[each.casefold()] for each in named}, key=taxonomy.ids.index))
        word = Word(cells["image_uri"], chosen, source, cells.get("by") or speaker.by, at, where, bool(cells.get("at")))
        take(reading, word, taxonomy)


def take(reading: Reading, word: Word, taxonomy: Taxonomy) -> None:
    """Take a word if the taxonomy allows as many labels."""
    if taxonomy.kind == "single" and len(word.labels) > 1:
        detail = f"{len(word.labels)} labels, must be one: taxonomy '{taxonomy.name}' is of kind single"
        reading.rejected.append(rejected_word(word, "several_labels", detail))
    elif not word.labels and taxonomy.kind == "single" and taxonomy.other is None:
        detail = f"no label, must be one: say 'other: reject' in taxonomy '{taxonomy.name}' if photos may show none"
        reading.rejected.append(rejected_word(word, "no_label", detail))
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


def rejected_row(cells: Mapping[str, str], labels: str, reason: str, detail: str, where: str) -> Rejected:
    """Return a row of a file that is put aside."""
    others = {name: cells.get(name, "") for name in ("taxonomy", "source", "by", "at")}
    return Rejected(cells.get("image_uri", ""), labels, reason, detail, where, **others)


def rejected_word(word: Word, reason: str, detail: str) -> Rejected:
    """Return a word that is put aside."""
    labels, at = SEPARATOR.join(word.labels), word.at.isoformat() if word.is_dated else ""
    return Rejected(word.image_uri, labels, reason, detail, word.where, "", word.source, word.by, at)


def some_of(names: Sequence[str], most: int = 12) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
