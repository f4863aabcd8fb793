"""Decodes the bytes of a photo to an array of the size that a network takes; unusual files are corrected or refused."""

import io
import re
import warnings
from collections.abc import Callable
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageOps

DECODING = 2
"""Part of every tagger's version; increase it when decoding gives other pixels."""
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "JPEG2000")
"""Formats that are decoded; Pillow's other formats run external programs or are not photos."""

_UNREAD_FORMATS = {
    "HEIC": re.compile(rb".{4}ftyp(hei[cxms]|hev[cxms]|mif1|msf1)", re.DOTALL),
    "AVIF": re.compile(rb".{4}ftypavi[fs]", re.DOTALL),
    "JPEG XL": re.compile(rb"\xff\x0a|\0\0\0\x0cJXL "),
    "a raw photo of a camera": re.compile(rb"FUJIFILMCCD-RAW|.{4}ftypcrx |IIU\0|IIRO", re.DOTALL),
    "SVG": re.compile(rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<svg", re.DOTALL),
    "Photoshop": re.compile(rb"8BPS"),
    "a video": re.compile(rb".{4}ftyp(qt|mp4|isom|M4V)|\x1aE\xdf\xa3", re.DOTALL),
}
"""Kinds of pictures that Pillow does not read, AVIF only before 11.3, by the bytes that they start with."""
_BITS, _PHOTOMETRIC, _MAX_VALUE, _WHITE_IS_ZERO = 258, 262, 281, 0
"""Tags of TIFF."""

_PILLOW_WARNINGS = ("ignore", None, Warning, re.compile(r"PIL\."), 0)
"""Filter for Pillow's warnings about unusual files, one log line each; real problems are reported as a PhotoError."""


class PhotoError(Exception):
    """A photo that cannot be tagged; `reason` is one of REASONS."""

    def __init__(self, reason: str, detail: str):
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


REASONS = {
    "missing": "the file does not exist or cannot be read",
    "refused": "the address is not below images.root, or that of no regular file",
    "too_slow": "a server took longer than the configuration allows",
    "empty": "the file has no bytes",
    "too_large": "more pixels or bytes than the configuration allows",
    "not_an_image": "not a photo in a known format",
    "truncated": "the file ends before the end of the picture, or is damaged",
    "unsupported": "a format that is not read, or colours that cannot be converted to red, green and blue",
}
TRANSIENT = ("missing", "refused", "too_slow", "too_large")
"""Reasons caused by the file system or the configuration, not by the content: such a photo is retried."""


def decode(data: bytes, resize: int, crop: int, max_megapixels: float = 80.0) -> NDArray[np.uint8]:
    """Decode a photo, turn it upright, and crop its centre to the size that a network takes.

    The centre is scaled directly to the crop. The pixels are those of resizing the shorter side and then cropping, but
    the resized photo, which can be huge if the photo is narrow, is never created.

    Args:
        data: Content of a file.
        resize: Length of the shorter side before the crop, in pixels.
        crop: Side of the square crop, in pixels.
        max_megapixels: Maximum size in millions of pixels; a larger photo is refused before it is decoded.

    Returns:
        Shape (crop, crop, 3), RGB in 0..255. Transparent parts are white; an animation gives its first frame.

    Raises:
        PhotoError: With the reason why the photo cannot be decoded.
    """
    return np.asarray(_decoded(data, 2 * resize, lambda image: _crop_centre(image, resize, crop), max_megapixels))


def decode_whole(data: bytes, side: int, max_megapixels: float = 80.0) -> Image.Image:
    """Decode a whole photo, turned upright, to fit a square of `side` pixels; smaller ones keep their size.

    Raises:
        PhotoError: With the reason why the photo cannot be decoded.
    """

    def fit(image: Image.Image) -> Image.Image:
        return ImageOps.contain(image, (side, side)) if max(image.size) > side else image

    return _decoded(data, side, fit, max_megapixels)


def _decoded(
    data: bytes, least_side: int, fit: Callable[[Image.Image], Image.Image], max_megapixels: float
) -> Image.Image:
    _ignore_pillow_warnings()
    image = _open_image(data, max_megapixels)
    try:
        # A large JPEG is decoded directly to a fraction of its size, at least twice the size needed.
        image.draft("RGB", (least_side, least_side))
        return _flatten_on_white(fit(_convert_to_rgb(_turn_upright(image))))
    except PhotoError:
        raise
    except Exception as error:  # decoders raise many kinds of errors for damaged files
        raise PhotoError("truncated", _first_line(error)) from error


def _ignore_pillow_warnings() -> None:
    # warnings.catch_warnings is not thread-safe: one thread could restore the filters of another.
    if _PILLOW_WARNINGS not in warnings.filters:
        warnings.filterwarnings("ignore", module=_PILLOW_WARNINGS[3].pattern)


def _open_image(data: bytes, max_megapixels: float) -> Image.Image:
    if not data:
        raise PhotoError("empty", "0 bytes")
    Image.init()
    known = [name for name in FORMATS if name in Image.OPEN]  # Pillow before 11.3 has no AVIF
    try:
        image = Image.open(io.BytesIO(data), formats=known)
    except Image.DecompressionBombError as error:
        raise PhotoError("too_large", _first_line(error)) from error
    except Exception as error:
        kind = next((kind for kind, start in _UNREAD_FORMATS.items() if start.match(data)), None)
        if kind and kind not in known:
            raise PhotoError("unsupported", f"{kind}, which is not read: convert it to JPEG or PNG") from error
        raise PhotoError("not_an_image", _first_line(error).split(" <_io", 1)[0]) from error
    megapixels = image.width * image.height / 1e6
    if megapixels > max_megapixels:
        raise PhotoError("too_large", f"{image.width} x {image.height} pixels, at most {max_megapixels:g} million")
    return image


def _turn_upright(image: Image.Image) -> Image.Image:
    image.load()  # also turns a TIFF upright
    with suppress(Exception):  # damaged EXIF: the picture may still be intact
        # In place: the photo is turned even if its EXIF cannot be written back because other tags are damaged.
        ImageOps.exif_transpose(image, in_place=True)
    return image


def _convert_to_rgb(image: Image.Image) -> Image.Image:
    """Convert to RGB, or to RGBA if parts are transparent."""
    if image.mode.startswith("I;16"):
        return _grey_of_16_bits(image).convert("RGB")
    if image.mode == "CMYK" and image.format in ("JPEG", "MPO") and "adobe" not in image.info:
        image = ImageChops.invert(image)  # Pillow inverts the inks of every JPEG; only Adobe stores them inverted
    if image.mode in ("I", "F"):
        raise PhotoError("unsupported", "colours of 32 bits have no defined range")
    if image.mode == "LAB":
        raise PhotoError("unsupported", "Lab colours")
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _grey_of_16_bits(image: Image.Image) -> Image.Image:
    """Return levels of up to 16 bits as 8 bits: a TIFF says how many bits it uses, and whether 0 is white."""
    tags = getattr(image, "tag_v2", {})
    bits = int(np.max(tags.get(_BITS, 16)))
    highest = min(int(np.max(tags.get(_MAX_VALUE, 2**bits - 1))) or 65535, 65535)
    levels = np.minimum(np.asarray(image).astype(np.uint32) * 255 // highest, 255).astype(np.uint8)
    return Image.fromarray(255 - levels if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else levels)


def _crop_centre(image: Image.Image, resize: int, crop: int) -> Image.Image:
    width, height = image.size
    scale = resize / min(width, height)
    wide, high = round(scale * width), round(scale * height)
    left, top = (wide - crop) // 2, (high - crop) // 2
    box = (left * width / wide, top * height / high, (left + crop) * width / wide, (top + crop) * height / high)
    return image.resize((crop, crop), Image.Resampling.BILINEAR, box=box, reducing_gap=3.0)


def _flatten_on_white(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
