"""Tags photos given by path, without a shop, in this process."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from recsys.errors import InputError
from recsys.images.settings import ImageSettings
from recsys.images.tagging.tagging import Worker, best_device, tag_photos

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".tif", ".tiff", ".bmp", ".avif", ".jp2"}


def photos_below(paths: Iterable[str]) -> list[str]:
    """Return the photos named by paths: files and URLs unchanged, folders replaced by all photos below them, sorted.

    Raises:
        InputError: If a folder contains no photo.
    """
    return [photo for path in paths for photo in _photos_of_path(path)]


def _photos_of_path(path: str) -> list[str]:
    folder = Path(path)
    if "://" in path or not folder.is_dir():
        return [path]
    photos = sorted(str(each) for each in folder.rglob("*") if each.suffix.lower() in SUFFIXES and each.is_file())
    if not photos:
        raise InputError(f"{path} contains no photo: its files must end in one of {', '.join(sorted(SUFFIXES))}")
    return photos


def tag_here(photos: list[str], settings: ImageSettings, threads: int) -> Iterator[Mapping[str, Any]]:
    """Tag photos in order; yield each photo with its tags and probabilities, or with the reason of the failure."""
    rows = pa.table({"image_hash": pa.nulls(len(photos), pa.string()), "image_uri": photos})
    batches = tag_photos(rows.to_batches(max_chunksize=256), settings, Worker(best_device(), threads))
    tagged_rows = (row for batch in batches for row in batch.drop_columns(["embedding"]).to_pylist())
    for photo, row in zip(photos, tagged_rows, strict=True):
        if row["reason"]:
            yield {"photo": photo, "reason": row["reason"], "detail": row["detail"]}
        else:
            tags = [
                {"tag": tag, "probability": round(probability, 6)}
                for tag, probability in zip(row["tags"], row["probabilities"], strict=True)
            ]
            yield {"photo": photo, "tags": tags}
