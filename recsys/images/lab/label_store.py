"""The labels of a shop's photos: rows are only added; the last word on a photo counts, and can be taken back.

    <folder>/<taxonomy>/part-<number>.parquet    rows of LABELS, in the order in which they were said

Photos are known by the hash of their content, so that a label stays with a photo that moves or is shown by other sales.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa
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

    @property
    def _folder(self) -> Path:
        return self.folder / self.taxonomy

    def _parts(self) -> list[Path]:
        return sorted(self._folder.glob("part-*.parquet"))


def said_last(history: pa.Table) -> pa.Table:
    """Return the row that counts for each photo, sorted by image_hash; none if all words on a photo were taken back.

    Args:
        history: Rows of LABELS in the order in which they were said.
    """
    words: dict[str, list[int]] = {}
    columns: Iterable[tuple[str, bool]] = zip(
        history["image_hash"].to_pylist(), history["labels"].is_null().to_pylist(), strict=True
    )
    for row, (image_hash, is_taken_back) in enumerate(columns):
        said = words.setdefault(image_hash, [])
        if not is_taken_back:
            said.append(row)
        elif said:
            said.pop()
    return history.take(pa.array([said[-1] for _, said in sorted(words.items()) if said], pa.int64()))
