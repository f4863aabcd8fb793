"""The labels of a shop's photos: rows are only added; the last word on a photo counts, and can be taken back.
Nothing is changed or removed but by the two `erase` functions.

    <folder>/<taxonomy>/part-<number>.parquet    rows of LABELS, in the order in which they were said

Photos are known by the hash of their content, so that a label stays with a photo that moves or is shown by other sales.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

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
        parts = [pq.read_table(path, schema=LABELS) for path in self._parts()]
        return pa.concat_tables(parts) if parts else LABELS.empty_table()

    def current(self) -> pa.Table:
        """Return the row of LABELS that counts for each labelled photo, sorted by image_hash."""
        return said_last(self.history())

    def add(self, rows: pa.Table) -> None:
        """Add rows of LABELS, all or none."""
        if rows.num_rows == 0:
            return
        with held(self._folder), scratch_folder(self._folder) as new:
            pq.write_table(rows.cast(LABELS), new / "labels.parquet")
            put_in_place(new / "labels.parquet", self._folder / f"part-{len(self._parts()):06d}.parquet")

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
        with held(self._folder):
            sizes = [pq.read_metadata(path).num_rows for path in self._parts()]
        history, ends = self.history(), np.cumsum(sizes)
        standing = np.sort([row for words in standing_words(history).values() for row in words]).astype(np.int64)
        if not len(standing):
            return 0
        part = int(np.searchsorted(ends, standing[-1], side="right"))
        words = history.take(standing[standing >= ends[part] - sizes[part]]).to_pylist()
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
        """Change the rows of each file; return how many rows fewer there are. A file stays where its rows are gone."""
        n_fewer = 0
        with held(self._folder):
            for path in self._parts():
                rows = pq.read_table(path, schema=LABELS)
                changed = change(rows)
                if changed.equals(rows):
                    continue
                n_fewer += rows.num_rows - changed.num_rows
                with scratch_folder(self._folder) as new:
                    pq.write_table(changed.cast(LABELS), new / path.name)
                    put_in_place(new / path.name, path)
        return n_fewer

    @property
    def _folder(self) -> Path:
        return self.folder / self.taxonomy

    def _parts(self) -> list[Path]:
        return sorted(self._folder.glob("part-*.parquet"))


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
