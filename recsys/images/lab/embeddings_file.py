"""Writes embeddings of photos to a file that other programs read."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.errors import ConfigurationError, EmptyInputError
from recsys.images.lab.shop_photos import Photos
from recsys.storage.local import put_in_place, scratch_folder


def write_embeddings(photos: Photos, version: str, path: Path) -> None:
    """Write image_hash, image_uri and embedding of photos, whole or not at all.

    Args:
        photos: The photos.
        version: Version of the embeddings: metadata `embedding_version` of a Parquet file, an array of an .npz.
        path: Ends with .parquet, a row per photo, or with .npz, arrays with a row per photo.

    Raises:
        ConfigurationError: If it ends with something else.
        EmptyInputError: If there is no photo.
    """
    if path.suffix not in (".parquet", ".npz"):
        raise ConfigurationError(f"--out == '{path}', must end with .parquet or .npz")
    if len(photos) == 0:
        raise EmptyInputError(
            "0 photos have an embedding by this base network: run 'recsys nightly', or import labels with "
            "'recsys tagger label import'"
        )
    with scratch_folder(path.absolute().parent) as scratch:
        new = scratch / path.name
        if path.suffix == ".npz":
            columns = {"image_hash": photos.image_hashes, "image_uri": photos.image_uris}
            np.savez(new, **columns, embedding=photos.embeddings, embedding_version=np.array(version))
        else:
            width = photos.embeddings.shape[1]
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(photos.embeddings.ravel()), width)
            rows = pa.table(
                {
                    "image_hash": photos.image_hashes.tolist(),
                    "image_uri": photos.image_uris.tolist(),
                    "embedding": vectors,
                }
            )
            pq.write_table(rows.replace_schema_metadata({"embedding_version": version}), new)
        put_in_place(new, path.absolute())
