"""The bytes of a photo → colours of the size that a network sees; whatever is odd is put right or refused."""

import io
import re
import warnings
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

DECODING = 1
"""Part of every tagger's version: a change of what photos are decoded to needs another."""
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "JPEG2000")
"""What is decoded; the other formats that Pillow knows would run foreign programs, or are no photos."""

_REMARKS = ("ignore", None, Warning, re.compile(r"PIL\."), 0)
"""What Pillow says of odd files would be a line of the log for each; what matters of it is a reason below."""


class PhotoError(Exception):
    """A photo that cannot be tagged; `reason` is one of REASONS."""

    def __init__(self, reason: str, detail: str):
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


REASONS = {
    "missing": "there is no such file, or it cannot be read",
    "empty": "the file has no bytes",
    "too_large": "more pixels or bytes than the configuration allows",
    "not_an_image": "no photo in a format that is known",
    "truncated": "the file ends before the picture does, or is damaged",
    "unsupported": "colours that cannot be turned into red, green and blue",
}
PASSING = ("missing", "too_large")
"""Reasons that lie in the file system or the configuration, not in the content: such a photo is tried again."""


def decode(data: bytes, resize: int, crop: int, max_megapixels: float = 80.0) -> NDArray[np.uint8]:
    """Decode a photo, turn it upright, and cut its middle to the size that a network sees.

    The middle is scaled straight to the crop: as if the shorter side were resized and the middle cut out, to the same
    pixels, without ever making the resized photo, which for a narrow one can be huge.

    Args:
        data: The content of a file.
        resize: Pixels of the shorter side before the crop.
        crop: Pixels of the square that is cut out.
        max_megapixels: A photo with more is refused before it is decoded.

    Returns:
        Shape (crop, crop, 3), RGB in 0..255. Transparent parts are white; of an animation, the first frame.

    Raises:
        PhotoError: With the reason.
    """
    _ignore_remarks()
    image = _opened(data, max_megapixels)
    try:
        # A large JPEG decodes straight to a fraction of its size, here never below twice what is needed.
        image.draft("RGB", (2 * resize, 2 * resize))
        return np.asarray(_on_white(_middle(_in_colours(_upright(image)), resize, crop)))
    except PhotoError:
        raise
    except Exception as error:  # decoders of damaged files raise whatever they like
        raise PhotoError("truncated", _first_line(error)) from error


def _ignore_remarks() -> None:
    # warnings.catch_warnings is not safe in threads: one could leave another's filters behind.
    if _REMARKS not in warnings.filters:
        warnings.filterwarnings("ignore", module=_REMARKS[3].pattern)


def _opened(data: bytes, max_megapixels: float) -> Image.Image:
    if not data:
        raise PhotoError("empty", "0 bytes")
    Image.init()
    known = [name for name in FORMATS if name in Image.OPEN]  # Pillow before 11.3 has no AVIF
    try:
        image = Image.open(io.BytesIO(data), formats=known)
    except Image.DecompressionBombError as error:
        raise PhotoError("too_large", _first_line(error)) from error
    except Exception as error:
        raise PhotoError("not_an_image", _first_line(error).split(" <_io", 1)[0]) from error
    megapixels = image.width * image.height / 1e6
    if megapixels > max_megapixels:
        raise PhotoError("too_large", f"{image.width} x {image.height} pixels, at most {max_megapixels:g} million")
    return image


def _upright(image: Image.Image) -> Image.Image:
    image.load()  # which turns a TIFF upright
    with suppress(Exception):  # damaged EXIF: the picture may be whole
        # In place, a photo stays turned when other tags are so damaged that its EXIF cannot be written back.
        ImageOps.exif_transpose(image, in_place=True)
    return image


def _in_colours(image: Image.Image) -> Image.Image:
    """Turn any colours into RGB, or RGBA where parts are transparent."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise PhotoError("unsupported", "colours of 32 bits have no known range")
    if image.mode == "LAB":
        raise PhotoError("unsupported", "Lab colours")
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _middle(image: Image.Image, resize: int, crop: int) -> Image.Image:
    width, height = image.size
    scale = resize / min(width, height)
    wide, high = round(scale * width), round(scale * height)
    left, top = (wide - crop) // 2, (high - crop) // 2
    box = (left * width / wide, top * height / high, (left + crop) * width / wide, (top + crop) * height / high)
    return image.resize((crop, crop), Image.Resampling.BILINEAR, box=box, reducing_gap=3.0)


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
