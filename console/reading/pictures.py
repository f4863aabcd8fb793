"""Pictures of photos, made once and kept in memory."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Literal

from recsys.images.tagging.decoding import PhotoError
from recsys.images.tagging.files import PhotoFiles, content_hash
from recsys.images.tagging.thumbnails import thumbnail, whole_picture

Size = Literal["small", "large"]
_SIDES: dict[Size, int] = {"small": 176, "large": 1000}
_MOST_BYTES = 128 << 20  # some 10,000 small pictures


class _Kept:
    """The pictures that were made last, up to a number of bytes; safe to use from several threads."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, bytes] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def picture(self, key: Hashable, make: Callable[[], bytes]) -> bytes:
        """Return the picture of a key, made now if it is not kept."""
        with self._lock:
            if (kept := self._kept.get(key)) is not None:
                self._kept.move_to_end(key)
                return kept
        made = make()
        with self._lock:
            if key not in self._kept:
                self._kept[key] = made
                self._bytes += len(made)
            while self._bytes > _MOST_BYTES:
                self._bytes -= len(self._kept.popitem(last=False)[1])
        return made


class PictureCache:
    """Pictures of a shop's photos by their addresses, as JPEG; a photo that has changed is read again.

    Args:
        files: Where the photos are.
    """

    def __init__(self, files: PhotoFiles):
        self._files = files
        self._kept = _Kept()

    def picture(self, uri: str, size: Size) -> bytes:
        """Return a picture of a photo: its centre, small, or the whole, large.

        Raises:
            PhotoError: If it cannot be read.
        """
        address = self._files.absolute(uri)
        key = address, self._files.stamp(address), size
        return self._kept.picture(key, lambda: _made(self._files.read(address), size))


class Pictures:
    """Pictures of a shop's photos by the hash of their content, as JPEG.

    Args:
        files: Where the photos are.
        uri_of: Returns the address of a photo by its content hash; None if the shop has no such photo.
    """

    def __init__(self, files: PhotoFiles, uri_of: Callable[[str], str | None]):
        self._files = files
        self._uri_of = uri_of
        self._kept = _Kept()

    def picture(self, image_hash: str, size: Size) -> bytes:
        """Return a picture of a photo: its centre, small, or the whole, large.

        Raises:
            PhotoError: If the shop has no such photo, or it cannot be read, or has changed since it was hashed.
        """
        return self._kept.picture((image_hash, size), lambda: self._make(image_hash, size))

    def _make(self, image_hash: str, size: Size) -> bytes:
        uri = self._uri_of(image_hash)
        if uri is None:
            raise PhotoError("missing", "the shop has no photo of this content")
        data = self._files.read(self._files.absolute(uri))
        if content_hash(data) != image_hash:
            raise PhotoError("missing", f"{uri}: its content has changed since it was hashed")
        return _made(data, size)


def _made(data: bytes, size: Size) -> bytes:
    return (thumbnail if size == "small" else whole_picture)(data, _SIDES[size])
