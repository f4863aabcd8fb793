"""Photos → tags: read and decoded by threads, tagged in batches; the same in Spark's workers and in one process."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import islice
from typing import NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from recsys.images.settings import ImageSettings, TaggerSettings
from recsys.images.tagging.decoding import PhotoError, decode
from recsys.images.tagging.files import PhotoFiles, content_hash
from recsys.images.tagging.inference import Submitted, Tagger, Tags, load_tagger
from recsys.images.tagging.tag_store import HASHES, TAGGED

READING_THREADS = 16
ON_GPU = 32
"""A GPU's batches are so many times as large."""

Batches = Iterator[pa.RecordBatch]
_In = TypeVar("_In")
_Out = TypeVar("_Out")


class Worker(NamedTuple):
    """What a process that tags photos has of the machine."""

    device: str = "cpu"
    threads: int = 1
    """Of decoding and, on a CPU, of the network."""


def best_device() -> str:
    """Return the GPU where there is one, the CPU otherwise."""
    return "cuda" if torch.cuda.is_available() else "cpu"


class _Decoded(NamedTuple):
    image_hash: str | None
    pixels: NDArray[np.uint8] | None
    error: PhotoError | None


def hash_photos(batches: Iterable[pa.RecordBatch], settings: ImageSettings) -> Batches:
    """Hash the content of photos that have changed: rows of HASHES for rows of image_uri, known_stamp.

    A photo that has not changed gives no row.
    """
    files = PhotoFiles.of(settings)
    with ThreadPoolExecutor(READING_THREADS) as pool:
        for batch in batches:
            pairs = zip(batch["image_uri"].to_pylist(), batch["known_stamp"].to_pylist(), strict=True)
            rows = _ahead(pool, lambda pair: _hashed(files, *pair), pairs, 2 * READING_THREADS)
            yield pa.RecordBatch.from_pylist([row for row in rows if row], HASHES)


def _hashed(files: PhotoFiles, uri: str, known_stamp: str | None) -> dict[str, str | None] | None:
    try:
        stamp = files.stamp(uri)
        if stamp == known_stamp:
            return None
        return {"image_uri": uri, "stamp": stamp, "image_hash": content_hash(files.read(uri))}
    except PhotoError as error:
        return {"image_uri": uri, "reason": error.reason, "detail": error.detail}


def tag_photos(batches: Iterable[pa.RecordBatch], settings: ImageSettings, worker: Worker) -> Batches:
    """Tag photos: a row of TAGGED for each row of image_hash, image_uri, in the same order.

    A photo whose content does not hash to its image_hash any more is set aside; null stands for any content.
    """
    torch.set_num_threads(worker.threads)
    tagger = _loaded(settings.tagger, worker.device)
    size = settings.tagging.batch * (ON_GPU if worker.device.startswith("cuda") else 1)
    files, shape = PhotoFiles.of(settings), tagger.preprocessing

    def decoded(photo: tuple[str | None, str]) -> _Decoded:
        image_hash, uri = photo
        try:
            data = _content(files, uri, image_hash)
            return _Decoded(image_hash, decode(data, shape.resize, shape.crop, settings.tagging.max_megapixels), None)
        except PhotoError as error:
            return _Decoded(image_hash, None, error)

    photos = (
        pair
        for batch in batches
        for pair in zip(batch["image_hash"].to_pylist(), batch["image_uri"].to_pylist(), strict=True)
    )
    with ThreadPoolExecutor(worker.threads) as pool:
        ready = _ahead(pool, decoded, photos, 2 * size)
        # One batch is submitted before the last one is waited for: a GPU works while the next photos are read.
        yield from _ahead_by_one(_in_batches(ready, size), tagger, settings.tagging.tags)


def _content(files: PhotoFiles, uri: str, image_hash: str | None) -> bytes:
    data = files.read(uri)
    if image_hash is not None and content_hash(data) != image_hash:
        raise PhotoError("missing", f"{uri}: its content has changed since it was hashed")
    return data


def _ahead_by_one(batches: Iterable[tuple[_Decoded, ...]], tagger: Tagger, n_tags: int) -> Batches:
    submitted: deque[tuple[tuple[_Decoded, ...], Submitted | None]] = deque()
    for batch in batches:
        good = [photo.pixels for photo in batch if photo.pixels is not None]
        submitted.append((batch, tagger.submit(np.stack(good), n_tags) if good else None))
        if len(submitted) > 1:
            yield _rows(submitted.popleft(), tagger)
    while submitted:
        yield _rows(submitted.popleft(), tagger)


def _rows(tagged: tuple[tuple[_Decoded, ...], Submitted | None], tagger: Tagger) -> pa.RecordBatch:
    batch, submitted = tagged
    tags = tagger.collect(submitted) if submitted else None
    found = iter(range(len(batch)))
    rows = [_row(photo, tags, next(found) if photo.pixels is not None else -1, tagger.labels) for photo in batch]
    return pa.RecordBatch.from_pylist(rows, TAGGED)


def _row(photo: _Decoded, tags: Tags | None, position: int, labels: list[str]) -> dict:
    if photo.error or tags is None:
        error = photo.error
        return {"image_hash": photo.image_hash, "reason": error and error.reason, "detail": error and error.detail}
    return {
        "image_hash": photo.image_hash,
        "tags": [labels[label] for label in tags.labels[position]],
        "probabilities": tags.probabilities[position],
        "embedding": tags.embeddings[position],
    }


def _ahead(
    pool: ThreadPoolExecutor, function: Callable[[_In], _Out], items: Iterable[_In], at_once: int
) -> Iterator[_Out]:
    """Map by threads in order, at most so many items ahead of whoever takes the results: memory stays flat."""
    waiting: deque = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) >= at_once:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _in_batches(items: Iterable[_In], size: int) -> Iterator[tuple[_In, ...]]:
    items = iter(items)
    while batch := tuple(islice(items, size)):
        yield batch


@lru_cache(maxsize=1)
def _loaded(settings: TaggerSettings, device: str) -> Tagger:
    return load_tagger(settings, device)
