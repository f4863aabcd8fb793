"""The bytes of a photo → colours of the size that a network sees; whatever is odd is put right or refused."""

import io
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "JPEG2000")
"""What is decoded; the other formats that Pillow knows would run foreign programs, or are no photos."""

warnings.filterwarnings("error", category=Image.DecompressionBombWarning)  # Pillow's own limit: refused, not printed


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


def decode(data: bytes, resize: int, crop: int, max_megapixels: float = 80.0) -> NDArray[np.uint8]:
    """Decode a photo, turn it upright, and cut its middle to the size that a network sees.

    The middle crop / resize of the shorter side is scaled straight to the crop: as if the shorter side were resized
    and the middle cut out, without ever making the resized photo, which for a narrow one can be huge.

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
    image = _opened(data, max_megapixels)
    try:
        # A large JPEG decodes straight to a fraction of its size, here never below twice what is needed.
        image.draft("RGB", (2 * resize, 2 * resize))
        upright = _rgb(ImageOps.exif_transpose(image))
        width, height = upright.size
        half = min(width, height) * crop / resize / 2
        box = (width / 2 - half, height / 2 - half, width / 2 + half, height / 2 + half)
        small = upright.resize((crop, crop), Image.Resampling.BILINEAR, box=box, reducing_gap=3.0)
    except PhotoError:
        raise
    except Exception as error:  # decoders of damaged files raise whatever they like
        raise PhotoError("truncated", _first_line(error)) from error
    return np.asarray(small)


def _opened(data: bytes, max_megapixels: float) -> Image.Image:
    if not data:
        raise PhotoError("empty", "0 bytes")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PhotoError("too_large", _first_line(error)) from error
    except Exception as error:
        raise PhotoError("not_an_image", _first_line(error).split(" <_io", 1)[0]) from error
    megapixels = image.width * image.height / 1e6
    if megapixels > max_megapixels:
        raise PhotoError("too_large", f"{image.width} x {image.height} pixels, at most {max_megapixels:g} million")
    return image


def _rgb(image: Image.Image) -> Image.Image:
    """Turn any colours into RGB, transparent parts white."""
    if image.mode.startswith("I"):
        return _grey(np.asarray(image, np.float64) / 65535)
    if image.mode == "F":
        raise PhotoError("unsupported", "floating-point colours have no known range")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    if image.mode == "LAB":
        raise PhotoError("unsupported", "Lab colours")
    return image.convert("RGB")


def _grey(shares: NDArray[np.float64]) -> Image.Image:
    return Image.fromarray(np.rint(np.clip(shares, 0, 1) * 255).astype(np.uint8)).convert("RGB")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
