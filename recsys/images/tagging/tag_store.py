"""What is known of photos from night to night: their hashes, and each tagger version's tags and embeddings.

    <folder>/hashes/<part>/*.parquet               image_uri, stamp, image_hash, or why there is none
             tags/<tagger version>/<part>/*.parquet    a row a content hash: tags, or why it was set aside

A part is written aside and put in its place when it is whole: nothing half-written is read, and a run that is killed
loses one part. Parts only ever add; of two rows of the same photo either is right, and the later part counts.
"""

import secrets
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from recsys.images.tagging.decoding import PASSING
from recsys.storage.local import put_in_place, scratch_folder

HASHES = pa.schema(
    [
        ("image_uri", pa.string()),
        ("stamp", pa.string()),
        ("image_hash", pa.string()),
        ("reason", pa.string()),  # why it could not be read, or null
        ("detail", pa.string()),
    ]
)
"""What was found of photos that are new or have changed; `stamp` and `image_hash` are null where one cannot be read."""
TAGGED = pa.schema(
    [
        ("image_hash", pa.string()),
        ("reason", pa.string()),  # why it was set aside, or null
        ("detail", pa.string()),
        ("tags", pa.list_(pa.string())),
        ("probabilities", pa.list_(pa.float32())),
        ("embedding", pa.list_(pa.float32())),
    ]
)


@dataclass(frozen=True)
class TagStore:
    """The folder of photos of a shop."""

    folder: Path
    tagger_version: str

    def hashes(self) -> pa.Table:
        """Return the rows of HASHES: what was found when each photo was last looked at."""
        return _last(_read(self._hashes, HASHES, HASHES.names), "image_uri")

    def tagged(self, columns: list[str] | None = None) -> pa.Table:
        """Return the rows of all tagged photos, by default without their embeddings; one a content hash."""
        columns = columns or [name for name in TAGGED.names if name != "embedding"]
        return _last(_read(self._tags, TAGGED, columns), "image_hash")

    def settled(self) -> pa.ChunkedArray:
        """Return the hashes of the photos that are not to be tagged again: another try would find the same."""
        rows = self.tagged(["image_hash", "reason"])
        passing = pc.is_in(rows["reason"], pa.array(PASSING, pa.string()))
        return rows.filter(pc.invert(passing))["image_hash"]

    def embeddings(self, image_hashes: pa.Array) -> pa.Table:
        """Return image_hash and embedding of some photos."""
        wanted = pc.field("image_hash").isin(image_hashes) & pc.field("embedding").is_valid()
        return _last(_read(self._tags, TAGGED, ["image_hash", "embedding"], wanted), "image_hash")

    def new_hashes(self) -> AbstractContextManager[Path]:
        """Give a folder to write a part of hashes into; it becomes part of the store when the block ends well."""
        return _part(self._hashes)

    def new_tags(self) -> AbstractContextManager[Path]:
        """Give a folder to write a part of tags into; it becomes part of the store when the block ends well."""
        return _part(self._tags)

    @property
    def _hashes(self) -> Path:
        return self.folder / "hashes"

    @property
    def _tags(self) -> Path:
        return self.folder / "tags" / self.tagger_version


@contextmanager
def _part(folder: Path) -> Iterator[Path]:
    with scratch_folder(folder) as new:
        yield new
        if ds.dataset(new, format="parquet").count_rows():
            last = max((int(part.name.split("-")[1]) for part in folder.glob("part-*")), default=-1)
            put_in_place(new, folder / f"part-{last + 1:06d}-{secrets.token_hex(4)}")


def _read(folder: Path, schema: pa.Schema, columns: list[str], condition: pc.Expression | None = None) -> pa.Table:
    files = sorted(str(path) for path in folder.glob("part-*/**/*.parquet"))
    wanted = pa.schema([schema.field(name) for name in columns])
    return ds.dataset(files, schema).to_table(columns, filter=condition) if files else wanted.empty_table()


def _last(rows: pa.Table, key: str) -> pa.Table:
    """Keep of each key the row that was written last."""
    numbered = pa.table({"key": rows[key], "row": np.arange(rows.num_rows)})
    return rows.take(numbered.group_by("key").aggregate([("row", "max")])["row_max"].sort())
