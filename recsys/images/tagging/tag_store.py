"""The store of photos, shared by all nights: their content hashes, and the outputs of each network for them.

    <folder>/hashes/<part>/                     a table of image_uri, stamp, image_hash, or the reason of a failure
             networks/<network version>/<part>/     a table of one row per content hash: outputs and embedding, or the
                                                    reason of a failure

What a network says depends neither on the names of its outputs nor on what is asked of them: tags, of its own labels or
of heads that a shop trained on its embeddings, are made of the stored rows, so that no photo is read again.

A part counts when its list of files is written (`recsys.tables.parts`), so incomplete parts are never read, and a run
that is killed loses at most one part. Parts are never changed; of several rows for one photo, that of the last part is
used. The store is a cache: what is lost of it is read and tagged again.
"""

import secrets
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from recsys.images.tagging.decoding import TRANSIENT
from recsys.storage.places import Place, arrow, remove, sizes_below
from recsys.tables.parts import whole_tables

HASHES = pa.schema(
    [
        ("image_uri", pa.string()),
        ("stamp", pa.string()),
        ("image_hash", pa.string()),
        ("reason", pa.string()),  # why it could not be read, or null
        ("detail", pa.string()),
    ]
)
"""Hashes of photos that are new or have changed; `stamp` and `image_hash` are null if a photo cannot be read."""
OUTPUTS = pa.schema(
    [
        ("image_hash", pa.string()),
        ("reason", pa.string()),  # why it was rejected, or null
        ("detail", pa.string()),
        ("outputs", pa.list_(pa.int16())),  # positions of the MAX_TAGS most probable labels, most probable first
        ("probabilities", pa.list_(pa.float32())),
        ("embedding", pa.list_(pa.float32())),
    ]
)


@dataclass(frozen=True)
class TagStore:
    """The store of a shop's photos, with the outputs of one network."""

    folder: Place
    network_version: str

    def hashes(self) -> pa.Table:
        """Return the last row of HASHES of each photo."""
        return _last_row_per_key(_read_parts(self._hashes_folder, HASHES, HASHES.names), "image_uri")

    def outputs(self, columns: list[str] | None = None) -> pa.Table:
        """Return one row of OUTPUTS per content hash, by default without the embeddings."""
        columns = columns or [name for name in OUTPUTS.names if name != "embedding"]
        return _last_row_per_key(_read_parts(self._outputs_folder, OUTPUTS, columns), "image_hash")

    def finished(self) -> pa.ChunkedArray:
        """Return the hashes of the photos that are not tagged again, since the result would be the same."""
        rows = self.outputs(["image_hash", "reason"])
        is_transient = pc.is_in(rows["reason"], pa.array(TRANSIENT, pa.string()))
        return rows.filter(pc.invert(is_transient))["image_hash"]

    def embeddings(self, image_hashes: pa.Array) -> pa.Table:
        """Return image_hash and embedding of the given photos that have one."""
        selection = pc.field("image_hash").isin(image_hashes) & pc.field("embedding").is_valid()
        return _last_row_per_key(
            _read_parts(self._outputs_folder, OUTPUTS, ["image_hash", "embedding"], selection), "image_hash"
        )

    def new_hashes(self) -> AbstractContextManager[Place]:
        """Yield a folder for a new part, a table of HASHES; the caller is the only writer, see `recsys.storage.locks`.

        It is added to the store if the block ends without an error and the table has rows.
        """
        return _new_part(self._hashes_folder)

    def new_outputs(self) -> AbstractContextManager[Place]:
        """Yield a folder for a new part, a table of OUTPUTS; see `new_hashes`."""
        return _new_part(self._outputs_folder)

    @property
    def _hashes_folder(self) -> Place:
        return self.folder / "hashes"

    @property
    def _outputs_folder(self) -> Place:
        return self.folder / "networks" / self.network_version


@contextmanager
def _new_part(folder: Place) -> Iterator[Place]:
    names, whole = {name.partition("/")[0] for name in sizes_below(folder)}, whole_tables(folder)
    for name in names.difference(whole):  # of a killed run
        remove(folder / name)
    last_number = max((int(name.split("-")[1]) for name in whole), default=-1)
    new = folder / f"part-{last_number + 1:06d}-{secrets.token_hex(4)}"
    try:
        yield new
    except BaseException:
        remove(new)
        raise
    if not sum(part.rows for part in whole_tables(folder).get(new.name, ())):
        remove(new)


def _read_parts(
    folder: Place, schema: pa.Schema, columns: list[str], condition: pc.Expression | None = None
) -> pa.Table:
    system, root = arrow(folder)
    files = [f"{root}/{name}/{part.name}" for name, parts in whole_tables(folder).items() for part in parts]
    selection = pa.schema([schema.field(name) for name in columns])
    if not files:
        return selection.empty_table()
    return ds.dataset(files, schema, format="parquet", filesystem=system).to_table(columns, filter=condition)


def _last_row_per_key(rows: pa.Table, key: str) -> pa.Table:
    """Return the last row of each key."""
    numbered = pa.table({"key": rows[key], "row": np.arange(rows.num_rows)})
    return rows.take(numbered.group_by("key").aggregate([("row", "max")])["row_max"].sort())
