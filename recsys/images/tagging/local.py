"""Tags photos outside any shop, in this process."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from recsys.errors import InputError
from recsys.images.settings import ImageSettings
from recsys.images.tagging.tagging import Worker, best_device, tag_photos

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".tif", ".tiff", ".bmp", ".avif", ".jp2"}


def photos_below(paths: Iterable[str]) -> list[str]:
    """Return the photos that paths name: files and URLs as they are, of folders all photos in them, in order.

    Raises:
        InputError: If a folder holds no photo.
    """
    return [photo for path in paths for photo in _photos(path)]


def _photos(path: str) -> list[str]:
    folder = Path(path)
    if "://" in path or not folder.is_dir():
        return [path]
    photos = sorted(str(each) for each in folder.rglob("*") if each.suffix.lower() in SUFFIXES and each.is_file())
    if not photos:
        raise InputError(f"{path} holds no photo: its files must end in one of {', '.join(sorted(SUFFIXES))}")
    return photos


def tag_here(photos: list[str], settings: ImageSettings, threads: int) -> Iterator[Mapping[str, Any]]:
    """Tag photos one after the other: photo, tags with probabilities, or the reason why there are none."""
    rows = pa.table({"image_hash": pa.nulls(len(photos), pa.string()), "image_uri": photos})
    batches = tag_photos(rows.to_batches(max_chunksize=256), settings, Worker(best_device(), threads))
    found = (row for batch in batches for row in batch.drop_columns(["embedding"]).to_pylist())
    for photo, row in zip(photos, found, strict=True):
        if row["reason"]:
            yield {"photo": photo, "reason": row["reason"], "detail": row["detail"]}
        else:
            tags = [
                {"tag": tag, "probability": round(share, 6)}
                for tag, share in zip(row["tags"], row["probabilities"], strict=True)
            ]
            yield {"photo": photo, "tags": tags}
