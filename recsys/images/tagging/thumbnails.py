"""Small square pictures of photos, for people to look at."""

import io

from PIL import Image

from recsys.images.tagging.decoding import decode


def thumbnail(data: bytes, side: int = 128) -> bytes:
    """Return the middle of a photo as a small JPEG.

    Raises:
        PhotoError: If it is no photo.
    """
    buffer = io.BytesIO()
    Image.fromarray(decode(data, side, side)).save(buffer, "JPEG", quality=78)
    return buffer.getvalue()
