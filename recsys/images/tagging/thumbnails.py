"""Small square pictures of photos for reports."""

import io

from PIL import Image

from recsys.images.tagging.decoding import decode


def thumbnail(data: bytes, side: int = 128) -> bytes:
    """Return the centre square of a photo as a JPEG of `side` pixels.

    Raises:
        PhotoError: If the photo cannot be decoded.
    """
    buffer = io.BytesIO()
    Image.fromarray(decode(data, side, side)).save(buffer, "JPEG", quality=78)
    return buffer.getvalue()
