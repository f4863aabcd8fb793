"""Pictures of photos for pages: small squares, and whole ones."""

import io

from PIL import Image

from recsys.images.tagging.decoding import decode, decode_whole


def thumbnail(data: bytes, side: int = 128) -> bytes:
    """Return the centre square of a photo as a JPEG of `side` pixels.

    Raises:
        PhotoError: If the photo cannot be decoded.
    """
    return _jpeg(Image.fromarray(decode(data, side, side)), 78)


def whole_picture(data: bytes, side: int) -> bytes:
    """Return a whole photo as a JPEG that fits a square of `side` pixels.

    Raises:
        PhotoError: If the photo cannot be decoded.
    """
    return _jpeg(decode_whole(data, side), 85)


def _jpeg(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
