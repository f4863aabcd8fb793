"""Tags photos given by path, without a shop, in this process."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from recsys.errors import InputError
from recsys.images.settings import ImageSettings, TaggerSettings
from recsys.images.tagging.taggers import tagger_files
from recsys.images.tagging.tagging import Worker, best_device, tag_photos


def photos_below(paths: Iterable[str]) -> list[str]:
    """Return the photos named by paths: files and URLs unchanged, folders replaced by all files below them, sorted.

    Whether a file is a photo is found out when it is read; hidden files, whose names start with a dot, are left out.

    Raises:
        InputError: If a folder contains no file.
    """
    return [photo for path in paths for photo in _photos_of_path(path)]


def _photos_of_path(path: str) -> list[str]:
    folder = Path(path)
    if "://" in path or not folder.is_dir():
        return [path]
    photos = sorted(str(each) for each in folder.rglob("[!.]*") if not each.is_dir())
    if not photos:
        raise InputError(f"{path} contains no file: name a folder of photos")
    return photos


def tag_here(
    photos: list[str], settings: ImageSettings, tagger: TaggerSettings, threads: int
) -> Iterator[Mapping[str, Any]]:
    """Tag photos in order; yield each photo with its tags and probabilities, or with the reason of the failure."""
    labels, worker = tagger_files(tagger).labels, Worker(best_device(), threads)
    rows = pa.table({"image_hash": pa.nulls(len(photos), pa.string()), "image_uri": photos})
    batches = tag_photos(rows.to_batches(max_chunksize=256), settings, tagger, worker, below_root=False)
    tagged_rows = (row for batch in batches for row in batch.drop_columns(["embedding"]).to_pylist())
    for photo, row in zip(photos, tagged_rows, strict=True):
        if row["reason"]:
            yield {"photo": photo, "reason": row["reason"], "detail": row["detail"]}
        else:
            tags = [
                {"tag": labels[output], "probability": round(probability, 6)}
                for output, probability in zip(row["outputs"], row["probabilities"], strict=True)
            ][: settings.tagging.tags]
            yield {"photo": photo, "tags": tags}
