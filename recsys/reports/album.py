"""The thumbnails of a report, each stored once."""

import base64
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait

from recsys.images.tagging.decoding import PhotoError
from recsys.images.tagging.files import PhotoFiles
from recsys.images.tagging.thumbnails import thumbnail

SECONDS = 60.0
"""Timeout for reading all photos: a server may never answer."""
_READERS = 16
_SIDE = 160


class Album:
    """The thumbnails of a report; each photo is stored once, however often it is shown."""

    def __init__(self, files: PhotoFiles, uris: Iterable[str]):
        """Read all photos in parallel; those that take longer than SECONDS are left out."""
        self._thumbnails = _thumbnails(files, sorted(set(uris)))
        self._indexes: dict[str, int] = {}

    def index(self, uri: str | None) -> int | None:
        """Return the index of a photo in `photos`; None where it cannot be shown."""
        if not uri or self._thumbnails.get(uri) is None:
            return None
        return self._indexes.setdefault(uri, len(self._indexes))

    @property
    def photos(self) -> list[str]:
        """The photos whose index was asked for, as data URIs."""
        jpegs = (self._thumbnails[uri] or b"" for uri in self._indexes)
        return [f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}" for jpeg in jpegs]


def _thumbnails(files: PhotoFiles, uris: Sequence[str]) -> dict[str, bytes | None]:
    pool = ThreadPoolExecutor(_READERS)
    reading = {uri: pool.submit(_thumbnail, files, uri) for uri in uris}
    wait(reading.values(), timeout=SECONDS)
    pool.shutdown(wait=False, cancel_futures=True)
    return {uri: future.result() for uri, future in reading.items() if future.done() and not future.cancelled()}


def _thumbnail(files: PhotoFiles, uri: str) -> bytes | None:
    try:
        return thumbnail(files.read(files.absolute(uri)), _SIDE)
    except PhotoError:
        return None
