"""Tags photos: threads read and decode, the network tags batches; used by Spark's workers and by one process."""

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

from recsys.images.settings import MAX_TAGS, ImageSettings, TaggerSettings
from recsys.images.tagging.decoding import PhotoError, decode
from recsys.images.tagging.files import PhotoFiles, content_hash
from recsys.images.tagging.inference import Submitted, Tagger, Tags, load_tagger
from recsys.images.tagging.tag_store import HASHES, OUTPUTS

READING_THREADS = 16
ON_GPU = 32
"""Factor by which batches are larger on a GPU."""

Batches = Iterator[pa.RecordBatch]
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Worker(NamedTuple):
    """The device and threads that a process uses to tag photos."""

    device: str = "cpu"
    threads: int = 1
    """Threads that decode and, on a CPU, that run the network."""


def best_device() -> str:
    """Return the GPU if there is one, otherwise the CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


class _DecodedPhoto(NamedTuple):
    image_hash: str | None
    pixels: NDArray[np.uint8] | None
    error: PhotoError | None


def hash_photos(batches: Iterable[pa.RecordBatch], settings: ImageSettings) -> Batches:
    """Hash the content of photos that are new or have changed: rows of HASHES for rows of image_uri, known_stamp.

    Unchanged photos give no row.
    """
    files = PhotoFiles.of(settings)
    with ThreadPoolExecutor(READING_THREADS) as pool:
        for batch in batches:
            pairs = zip(batch["image_uri"].to_pylist(), batch["known_stamp"].to_pylist(), strict=True)
            rows = _map_ahead(pool, lambda pair: _hash_row(files, *pair), pairs, 2 * READING_THREADS)
            yield pa.RecordBatch.from_pylist([row for row in rows if row], HASHES)


def _hash_row(files: PhotoFiles, uri: str, known_stamp: str | None) -> dict[str, str | None] | None:
    try:
        stamp = files.stamp(uri)
        if stamp == known_stamp:
            return None
        return {"image_uri": uri, "stamp": stamp, "image_hash": content_hash(files.read(uri))}
    except PhotoError as error:
        return {"image_uri": uri, "reason": error.reason, "detail": error.detail}


def tag_photos(
    batches: Iterable[pa.RecordBatch],
    settings: ImageSettings,
    network: TaggerSettings,
    worker: Worker,
    below_root: bool = True,
) -> Batches:
    """Run a tagger's network on photos: one row of OUTPUTS per row of image_hash, image_uri, in the same order.

    A photo whose content no longer has its image_hash is rejected; with a null hash any content is accepted.

    Args:
        batches: Rows of image_hash, image_uri.
        settings: The root of the photos, and the limits of reading them.
        network: The tagger whose network is run.
        worker: The device and threads to use.
        below_root: Whether photos that are not below the root are rejected.
    """
    torch.set_num_threads(worker.threads)
    tagger = _cached_tagger(network, worker.device)
    size = settings.tagging.batch * (ON_GPU if worker.device.startswith("cuda") else 1)
    files, shape = PhotoFiles.of(settings, below_root), tagger.preprocessing

    def read_and_decode(photo: tuple[str | None, str]) -> _DecodedPhoto:
        image_hash, uri = photo
        try:
            data = read_unchanged(files, uri, image_hash)
            return _DecodedPhoto(
                image_hash, decode(data, shape.resize, shape.crop, settings.tagging.max_megapixels), None
            )
        except PhotoError as error:
            return _DecodedPhoto(image_hash, None, error)

    photos = (
        pair
        for batch in batches
        for pair in zip(batch["image_hash"].to_pylist(), batch["image_uri"].to_pylist(), strict=True)
    )
    with ThreadPoolExecutor(worker.threads) as pool:
        decoded = _map_ahead(pool, read_and_decode, photos, 2 * size)
        # The next batch is submitted before the previous one is collected, so a GPU computes while photos are read.
        yield from _tag_one_batch_ahead(_in_batches(decoded, size), tagger)


def read_unchanged(files: PhotoFiles, uri: str, image_hash: str | None) -> bytes:
    """Return a photo's content; with a null hash any content is accepted.

    Args:
        files: How to read photos.
        uri: An absolute path or URL.
        image_hash: The hash of the content that is expected.

    Raises:
        PhotoError: If it cannot be read, or has another hash.
    """
    data = files.read(uri)
    if image_hash is not None and content_hash(data) != image_hash:
        raise PhotoError("missing", f"{uri}: its content has changed since it was hashed")
    return data


def _tag_one_batch_ahead(batches: Iterable[tuple[_DecodedPhoto, ...]], tagger: Tagger) -> Batches:
    submitted: deque[tuple[tuple[_DecodedPhoto, ...], Submitted | None]] = deque()
    for batch in batches:
        pixels = [photo.pixels for photo in batch if photo.pixels is not None]
        submitted.append((batch, tagger.submit(np.stack(pixels), MAX_TAGS) if pixels else None))
        if len(submitted) > 1:
            yield _tagged_batch(submitted.popleft(), tagger)
    while submitted:
        yield _tagged_batch(submitted.popleft(), tagger)


def _tagged_batch(tagged: tuple[tuple[_DecodedPhoto, ...], Submitted | None], tagger: Tagger) -> pa.RecordBatch:
    batch, submitted = tagged
    tags = tagger.collect(submitted) if submitted else None
    positions = iter(range(len(batch)))
    rows = [_row_of_outputs(photo, tags, next(positions) if photo.pixels is not None else -1) for photo in batch]
    return pa.RecordBatch.from_pylist(rows, OUTPUTS)


def _row_of_outputs(photo: _DecodedPhoto, tags: Tags | None, position: int) -> dict:
    if photo.error or tags is None:
        error = photo.error
        return {"image_hash": photo.image_hash, "reason": error and error.reason, "detail": error and error.detail}
    return {
        "image_hash": photo.image_hash,
        "outputs": tags.labels[position],
        "probabilities": tags.probabilities[position],
        "embedding": tags.embeddings[position],
    }


def _map_ahead(
    pool: ThreadPoolExecutor, function: Callable[[_Item], _Result], items: Iterable[_Item], limit: int
) -> Iterator[_Result]:
    """Map in threads and in order, at most `limit` items ahead of the consumer, so memory use is bounded."""
    waiting: deque = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) >= limit:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _in_batches(items: Iterable[_Item], size: int) -> Iterator[tuple[_Item, ...]]:
    items = iter(items)
    while batch := tuple(islice(items, size)):
        yield batch


@lru_cache(maxsize=1)
def _cached_tagger(settings: TaggerSettings, device: str) -> Tagger:
    return load_tagger(settings, device)
