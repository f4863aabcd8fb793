"""Pictures of photos, named by the hash of their content, made once and kept in memory."""

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Literal

from recsys.images.tagging.decoding import PhotoError
from recsys.images.tagging.files import PhotoFiles, content_hash
from recsys.images.tagging.thumbnails import thumbnail, whole_picture

Size = Literal["small", "large"]
_SIDES: dict[Size, int] = {"small": 176, "large": 1000}
_MOST_BYTES = 256 << 20  # some 20,000 small pictures


class Pictures:
    """Pictures of a shop's photos, as JPEG; safe to call from several threads.

    Args:
        files: Where the photos are.
        uri_of: Returns the address of a photo by its content hash; None if the shop has no such photo.
    """

    def __init__(self, files: PhotoFiles, uri_of: Callable[[str], str | None]):
        self._files = files
        self._uri_of = uri_of
        self._kept: OrderedDict[tuple[str, Size], bytes] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def picture(self, image_hash: str, size: Size) -> bytes:
        """Return a picture of a photo: its centre, small, or the whole, large.

        Raises:
            PhotoError: If the shop has no such photo, or it cannot be read, or has changed since it was hashed.
        """
        with self._lock:
            if (kept := self._kept.get((image_hash, size))) is not None:
                self._kept.move_to_end((image_hash, size))
                return kept
        made = self._make(image_hash, size)
        with self._lock:
            if (image_hash, size) not in self._kept:
                self._kept[image_hash, size] = made
                self._bytes += len(made)
            while self._bytes > _MOST_BYTES:
                self._bytes -= len(self._kept.popitem(last=False)[1])
        return made

    def _make(self, image_hash: str, size: Size) -> bytes:
        uri = self._uri_of(image_hash)
        if uri is None:
            raise PhotoError("missing", "the shop has no photo of this content")
        data = self._files.read(self._files.absolute(uri))
        if content_hash(data) != image_hash:
            raise PhotoError("missing", f"{uri}: its content has changed since it was hashed")
        return (thumbnail if size == "small" else whole_picture)(data, _SIDES[size])
