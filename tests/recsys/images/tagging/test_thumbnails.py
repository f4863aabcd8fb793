import io

import numpy as np
import pytest
from PIL import Image

from recsys.images.tagging.decoding import PhotoError
from recsys.images.tagging.thumbnails import thumbnail


def photo(width: int, height: int, kind: str = "JPEG") -> bytes:
    """Return a photo: red, blue in the middle half, and green, along its longer side."""
    bands = np.zeros((height, width, 3), np.uint8)
    along = np.arange(max(width, height)) / max(width, height)
    colours = np.where(
        (along < 0.25)[:, None], [255, 0, 0], np.where((along < 0.75)[:, None], [0, 0, 255], [0, 255, 0])
    )
    bands[:] = colours[None, :width] if width >= height else colours[:height, None]
    buffer = io.BytesIO()
    Image.fromarray(bands).save(buffer, kind)
    return buffer.getvalue()


def pixels(data: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(data))
    assert image.format == "JPEG"
    return np.asarray(image.convert("RGB")).astype(int)


@pytest.mark.parametrize(("width", "height"), [(400, 200), (200, 400)])
def test_thumbnail_is_the_centre_square_of_a_photo(width: int, height: int) -> None:
    shown = pixels(thumbnail(photo(width, height)))
    assert shown.shape == (128, 128, 3)
    middle = shown[8:-8, 8:-8].reshape(-1, 3).mean(axis=0)
    np.testing.assert_allclose(middle, [0, 0, 255], atol=12)  # no red or green remains


def test_thumbnail_of_a_square_photo_shows_the_whole_photo() -> None:
    shown = pixels(thumbnail(photo(300, 300), 64))
    for columns, colour in ((slice(2, 14), [255, 0, 0]), (slice(18, 46), [0, 0, 255]), (slice(50, 62), [0, 255, 0])):
        np.testing.assert_allclose(shown[:, columns].reshape(-1, 3).mean(axis=0), colour, atol=25)


def test_thumbnail_has_the_requested_side_even_if_the_photo_is_smaller() -> None:
    assert pixels(thumbnail(photo(300, 300), 32)).shape == (32, 32, 3)
    assert pixels(thumbnail(photo(9, 7), 64)).shape == (64, 64, 3)


def test_thumbnail_of_a_photo_of_any_format_is_a_small_jpeg() -> None:
    large = photo(1200, 900, "PNG")
    assert pixels(thumbnail(large)).shape == (128, 128, 3)
    assert len(thumbnail(large)) < 6_000


def test_file_that_is_not_a_photo_is_an_error() -> None:
    with pytest.raises(PhotoError):
        thumbnail(b"no photo")
