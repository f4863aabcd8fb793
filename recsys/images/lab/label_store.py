"""The labels of a shop's photos: rows are only added; the last word on a photo counts, and can be taken back.
Nothing is changed or removed but by the two `erase` functions.

    <folder>/<taxonomy>/part-<number>.parquet          rows of LABELS, in the order in which they were said
                        part-<first>-<last>.parquet    those of the parts of these numbers, merged

A review adds a part per decision, so many parts are merged into one. From the instant at which a merged part has its
name, the parts of its numbers are not read; a process killed before it removed them leaves them to the next writer.

Photos are known by the hash of their content, so that a label stays with a photo that moves or is shown by other sales.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.storage.local import held, put_in_place, scratch_folder

Source = Literal["person", "api", "rule"]
LABELS = pa.schema(
    [
        ("image_hash", pa.string()),
        ("image_uri", pa.string()),
        ("taxonomy", pa.string()),
        ("labels", pa.list_(pa.string())),  # ids; empty: none of these; null: the word before this one counts again
        ("source", pa.string()),  # a Source
        ("by", pa.string()),  # who said it: a person, a service, a rule
        ("at", pa.timestamp("us", "UTC")),
    ]
)

_STORED = LABELS.append(pa.field("addition", pa.int64()))
"""Columns of a part; `addition` numbers the calls of `add`."""
_MOST_PARTS = 32
"""Number of parts that are merged into one."""

LABELS_FOLDER = "labels"
"""Subfolder of the shop's folder with the labels of all taxonomies."""
ERASED = "erased"
"""The name that stands for one that was erased."""


@dataclass(frozen=True)
class LabelStore:
    """The labels of one taxonomy."""

    folder: Path
    taxonomy: str

    def history(self) -> pa.Table:
        """Return all rows of LABELS in the order in which they were added."""
        return self._stored().select(LABELS.names)

    def current(self) -> pa.Table:
        """Return the row of LABELS that counts for each labelled photo, sorted by image_hash."""
        return said_last(self.history())

    def add(self, rows: pa.Table) -> None:
        """Add rows of LABELS, all or none."""
        if rows.num_rows == 0:
            return
        with held(self._folder):
            parts = self._clean_parts()
            number = parts[-1].last + 1 if parts else 0
            numbers = pa.repeat(pa.scalar(number), rows.num_rows)
            self._write(rows.cast(LABELS).append_column("addition", numbers), f"part-{number:06d}.parquet")
            if len(parts) + 1 >= _MOST_PARTS:
                self._write(self._stored(), f"part-{parts[0].first:06d}-{number:06d}.parquet")
                self._clean_parts()

    def undo(self, image_hashes: Iterable[str], by: str, at: datetime) -> int:
        """Take back the last word on each of these photos; return on how many there was one.

        Args:
            image_hashes: Content hashes.
            by: Who takes it back.
            at: The present instant, with a zone.
        """
        current = {row["image_hash"]: row for row in self.current().to_pylist()}
        found = [current[each] for each in sorted(set(image_hashes)) if each in current]
        self.add(pa.Table.from_pylist([row | {"labels": None, "by": by, "at": at} for row in found], LABELS))
        return len(found)

    def undo_last(self, by: str, at: datetime) -> int:
        """Take back what was added last and still stands, such as an import; return the number of words."""
        stored = self._stored()
        standing = np.sort([row for words in standing_words(stored).values() for row in words]).astype(np.int64)
        if not len(standing):
            return 0
        additions = stored["addition"].to_numpy()[standing]
        words = stored.select(LABELS.names).take(standing[additions == additions[-1]]).to_pylist()
        self.add(pa.Table.from_pylist([row | {"labels": None, "by": by, "at": at} for row in words], LABELS))
        return len(words)

    def erase_photo(self, image_hash: str) -> int:
        """Remove all words on a photo for good; return their number."""
        return self._rewrite(lambda rows: rows.filter(pc.not_equal(rows["image_hash"], image_hash)))

    def erase_name(self, by: str) -> int:
        """Replace the name of who said or took back labels by ERASED, everywhere; the labels stay.

        Returns:
            The number of rows changed.
        """
        n_rows = 0

        def without_name(rows: pa.Table) -> pa.Table:
            nonlocal n_rows
            is_theirs = pc.fill_null(pc.equal(rows["by"], by), False)
            n_rows += pc.sum(is_theirs).as_py() or 0
            names = pc.if_else(is_theirs, ERASED, rows["by"])
            return rows.set_column(rows.schema.get_field_index("by"), "by", names)

        self._rewrite(without_name)
        return n_rows

    def _rewrite(self, change: Callable[[pa.Table], pa.Table]) -> int:
        """Change the rows of each part; return how many rows fewer there are. A part stays where its rows are gone."""
        n_fewer = 0
        with held(self._folder):
            for part in self._clean_parts():
                rows = part.read()
                changed = change(rows)
                if not changed.equals(rows):
                    n_fewer += rows.num_rows - changed.num_rows
                    self._write(changed, part.path.name)
        return n_fewer

    @property
    def _folder(self) -> Path:
        return self.folder / self.taxonomy

    def _stored(self) -> pa.Table:
        """Return all rows of _STORED in the order in which they were added."""
        while True:
            try:
                tables = [part.read() for part in _without_merged(self._parts())]
            except FileNotFoundError:  # merged meanwhile
                continue
            return pa.concat_tables(tables) if tables else _STORED.empty_table()

    def _write(self, rows: pa.Table, name: str) -> None:
        with scratch_folder(self._folder) as new:
            pq.write_table(rows.cast(_STORED), new / name)
            put_in_place(new / name, self._folder / name)

    def _clean_parts(self) -> "list[_Part]":
        """Remove the parts that have been merged into another; return the others, in order."""
        parts = self._parts()
        kept = _without_merged(parts)
        for part in parts:
            if part not in kept:
                part.path.unlink()
        return kept

    def _parts(self) -> "list[_Part]":
        return [_Part.of(path) for path in self._folder.glob("part-*.parquet")]


class _Part(NamedTuple):
    first: int  # number of the first addition of the part, and of the last
    last: int
    path: Path

    @classmethod
    def of(cls, path: Path) -> "_Part":
        numbers = path.stem.split("-")[1:]
        return cls(int(numbers[0]), int(numbers[-1]), path)

    def read(self) -> pa.Table:
        """Return the rows of _STORED; a part that was written without the column is one addition."""
        rows = pq.read_table(self.path, schema=_STORED)
        return rows.set_column(len(LABELS), "addition", pc.fill_null(rows["addition"], self.first))


def _without_merged(parts: Iterable[_Part]) -> list[_Part]:
    """Return the parts that are not within the numbers of another, in order."""
    kept: list[_Part] = []
    for part in sorted(parts, key=lambda each: (each.first, -each.last)):
        if not kept or part.last > kept[-1].last:
            kept.append(part)
    return kept


def standing_words(history: pa.Table) -> dict[str, list[int]]:
    """Return the rows that were not taken back, by photo, in the order in which they were said: the last one counts.

    Args:
        history: Rows of LABELS in the order in which they were said.
    """
    words: dict[str, list[int]] = {}
    columns = zip(history["image_hash"].to_pylist(), history["labels"].is_null().to_pylist(), strict=True)
    for row, (image_hash, is_taken_back) in enumerate(columns):
        said = words.setdefault(image_hash, [])
        if not is_taken_back:
            said.append(row)
        elif said:
            said.pop()
    return words


def said_last(history: pa.Table) -> pa.Table:
    """Return the row that counts for each photo, sorted by image_hash; none if all words on a photo were taken back.

    Args:
        history: Rows of LABELS in the order in which they were said.
    """
    words = sorted(standing_words(history).items())
    return history.take(pa.array([said[-1] for _, said in words if said], pa.int64()))
