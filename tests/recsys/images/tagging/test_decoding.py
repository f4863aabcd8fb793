"""Photos of four coloured quadrants, whose decoded pixels are known."""

import io
import resource
import struct
import warnings
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageCms

from recsys.images.tagging.decoding import FORMATS, REASONS, PhotoError, decode

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
BLACK, ORANGE = (0, 0, 0), (255, 128, 0)
CORNERS = (RED, GREEN, BLUE, ORANGE)  # top left, top right, bottom left, bottom right
UNSTRETCHED = {"resize": 64, "crop": 64}


def quadrants(width: int = 120, height: int = 80, colours=CORNERS, mode: str = "RGB") -> Image.Image:
    image = Image.new(mode, (width, height))
    for number, colour in enumerate(colours):
        left, top = (number % 2) * (width // 2), (number // 2) * (height // 2)
        image.paste(colour, (left, top, left + width // 2, top + height // 2))
    return image


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def corners(pixels: NDArray[np.uint8]) -> list[tuple[int, int, int]]:
    """Return the colours at the centres of the four quadrants of decoded pixels."""
    near, far = len(pixels) // 4, len(pixels) - len(pixels) // 4
    return [tuple(int(level) for level in pixels[row, column]) for row in (near, far) for column in (near, far)]


def assert_corners(data: bytes, expected=CORNERS, within: int = 0) -> None:
    pixels = decode(data, **UNSTRETCHED)
    assert pixels.shape == (64, 64, 3)
    assert pixels.dtype == np.uint8
    np.testing.assert_allclose(corners(pixels), expected, atol=within)


def reason(data: bytes, **limits) -> str:
    with pytest.raises(PhotoError) as error:
        decode(data, 256, 224, **limits)
    assert error.value.reason in REASONS
    assert error.value.detail
    assert "\n" not in error.value.detail
    return error.value.reason


# Intact photos of every format.

LOSSLESS = {
    "PNG": lambda: encoded(quadrants(), "PNG"),
    "PNG with a palette": lambda: encoded(quadrants().quantize(4), "PNG"),
    "PNG with alpha": lambda: encoded(quadrants().convert("RGBA"), "PNG"),
    "BMP": lambda: encoded(quadrants(), "BMP"),
    "TIFF": lambda: encoded(quadrants(), "TIFF"),
    "TIFF, LZW": lambda: encoded(quadrants(), "TIFF", compression="tiff_lzw"),
    "GIF": lambda: encoded(quadrants().quantize(4), "GIF"),
    "WebP": lambda: encoded(quadrants(), "WEBP", lossless=True),
    "JPEG 2000": lambda: encoded(quadrants(), "JPEG2000", irreversible=False),
    "CMYK TIFF": lambda: encoded(quadrants().convert("CMYK"), "TIFF"),
}


@pytest.mark.parametrize("kind", LOSSLESS)
def test_colours_of_lossless_photos_are_exact(kind):
    assert_corners(LOSSLESS[kind]())


LOSSY = {
    "JPEG": lambda: encoded(quadrants(), "JPEG", quality=95),
    "progressive JPEG": lambda: encoded(quadrants(), "JPEG", quality=95, progressive=True),
    "CMYK JPEG, which Adobe inverts": lambda: encoded(quadrants().convert("CMYK"), "JPEG", quality=95),
    "WebP": lambda: encoded(quadrants(), "WEBP", quality=95),
    "AVIF": lambda: encoded(quadrants(), "AVIF", quality=95),
    "YCbCr TIFF": lambda: encoded(quadrants().convert("YCbCr"), "TIFF"),
    "JPEG in TIFF": lambda: encoded(quadrants(), "TIFF", compression="jpeg", quality=95),
    "MPO": lambda: encoded(quadrants(), "MPO", save_all=True, append_images=[quadrants(colours=[BLACK] * 4)]),
}


def whole(kind: str) -> bytes:
    Image.init()
    if kind == "AVIF" and kind not in Image.SAVE:
        pytest.skip("this Pillow writes no AVIF: 11.3 does")
    return {**LOSSLESS, **LOSSY}[kind]()


@pytest.mark.parametrize("kind", LOSSY)
def test_colours_of_lossy_photos_are_near(kind):
    assert_corners(whole(kind), within=20)


def test_cmyk_jpeg_without_the_marker_of_adobe_is_no_negative():
    """Its inks are not inverted; Pillow inverts them on writing, so the inverted ones are given to it."""
    data = encoded(ImageChops.invert(quadrants().convert("CMYK")), "JPEG", quality=95)
    marker = data.index(b"\xff\xee")
    length = int.from_bytes(data[marker + 2 : marker + 4], "big")
    without = data[:marker] + data[marker + 2 + length :]
    assert b"Adobe" in data
    assert b"Adobe" not in without
    assert_corners(without, within=20)


def test_ycck_jpeg_of_adobe_has_the_right_colours():
    """The file stores Y, Cb, Cr of the inverted inks, and inverted black; Pillow inverts all four on writing CMYK."""
    no_black = Image.new("L", (120, 80), 0)
    opposites = ImageChops.invert(quadrants()).convert("YCbCr")
    planes = [ImageChops.invert(plane) for plane in opposites.split()]
    data = bytearray(encoded(Image.merge("CMYK", [*planes, no_black]), "JPEG", quality=95))
    transform = data.index(b"Adobe") + 11
    assert data[transform] == 0
    data[transform] = 2  # YCCK
    assert_corners(bytes(data), within=20)


def test_animation_gives_its_first_frame():
    frames = [quadrants().quantize(4), quadrants(colours=[BLACK] * 4).quantize(2)]
    assert_corners(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=100))
    frames = [frame.convert("RGB") for frame in frames]
    assert_corners(encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True))


GREYS = (0, 85, 170, 255)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG2000"])
@pytest.mark.parametrize("mode", ["L", "I;16"])
def test_grey_of_8_and_of_16_bits_is_0_to_255(kind, mode):
    levels = np.array(GREYS, np.uint16) * (257 if mode == "I;16" else 1)  # 65535 = 255 * 257
    rows = np.repeat(np.repeat(levels.reshape(2, 2), 40, 0), 60, 1)
    image = Image.fromarray(rows if mode == "I;16" else rows.astype(np.uint8))
    assert image.mode == mode
    assert_corners(
        encoded(image, kind, **({"irreversible": False} if kind == "JPEG2000" else {})), [(grey,) * 3 for grey in GREYS]
    )


def grey_tiff(levels: tuple[int, ...], bits: int, photometric: int = 1, highest: int | None = None) -> bytes:
    """Return a TIFF of 64 x 64 pixels in four quadrants of grey, with pixels of 12 or 16 bits."""
    pixels = np.repeat(np.repeat(np.array(levels, np.uint16).reshape(2, 2), 32, 0), 32, 1)
    if bits == 12:  # two pixels in three bytes
        first, second = pixels[:, ::2], pixels[:, 1::2]
        packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=-1)
        data = packed.astype(np.uint8).tobytes()
    else:
        data = pixels.astype("<u2").tobytes()
    tags = [(256, 64), (257, 64), (258, bits), (259, 1), (262, photometric), (273, 8), (277, 1), (278, 64)]
    tags += [(279, len(data)), *([(281, highest)] if highest else [])]
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory + bytes(4)


@pytest.mark.parametrize(
    "data",
    [
        grey_tiff((0, 1365, 2730, 4095), 12),  # 1365 = 85 * 4095 / 255
        grey_tiff((0, 85 * 257, 170 * 257, 65535), 16),
        grey_tiff((65535, 170 * 257, 85 * 257, 0), 16, photometric=0),  # 0 is white
        grey_tiff((0, 1365, 2730, 4095), 16, highest=4095),  # 12 bits in words of 16
    ],
    ids=["12 bits", "16 bits", "0 is white", "12 of 16 bits"],
)
def test_grey_tiff_is_scaled_by_the_bits_that_it_uses(data):
    assert_corners(data, [(grey,) * 3 for grey in GREYS])


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"\0\0\0\x18ftypheic", "HEIC"),
        (b"\0\0\0\x18ftypmif1", "HEIC"),
        (b"\xff\x0a", "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n", "JPEG XL"),
        (b"\0\0\0\x18ftypqt  ", "a video"),
        (b"8BPS\0\x01", "Photoshop"),
        (b'<?xml version="1.0"?>\n<svg xmlns="', "SVG"),
    ],
)
def test_picture_of_a_format_that_is_not_read_is_named_with_what_to_do(start, kind):
    with pytest.raises(PhotoError, match=f"^unsupported: {kind}, which is not read: convert it to JPEG or PNG$"):
        decode(start + bytes(100), 256, 224)


def test_grey_jpeg_is_grey():
    grey = quadrants(colours=GREYS, mode="L")
    assert_corners(encoded(grey, "JPEG", quality=95), [(level,) * 3 for level in GREYS], within=4)


def png(width: int, height: int, bits: int, colour_type: int, rows: bytes) -> bytes:
    """Return a PNG; Pillow cannot write colours of 16 bits, nor headers of a larger size than the data."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0))]
    chunks += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def test_colours_of_16_bits_are_0_to_255():
    top, bottom = (
        struct.pack(">6H", *(257 * level for level in left + right)) for left, right in ((RED, GREEN), (BLUE, ORANGE))
    )
    half = len(top) // 2
    row = [b"\0" + (side[:half] * 8 + side[half:] * 8) for side in (top, bottom)]
    assert_corners(png(16, 16, 16, 2, row[0] * 8 + row[1] * 8))


def test_one_bit_is_black_or_white():
    pattern = quadrants(colours=(0, 255, 255, 0), mode="L").convert("1")
    for kind, options in (("PNG", {}), ("TIFF", {"compression": "group4"}), ("BMP", {})):
        assert_corners(encoded(pattern, kind, **options), (BLACK, WHITE, WHITE, BLACK))


def test_transparent_parts_are_white_and_half_transparent_ones_half_white():
    corner = [(*RED, 255), (*GREEN, 0), (*BLUE, 128), (*BLACK, 0)]
    half_blue = (127, 127, 255)  # 255 - 128 = 127 of white
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True, "exact": True}), ("TIFF", {})):
        data = encoded(quadrants(colours=corner, mode="RGBA"), kind, **options)
        assert_corners(data, (RED, WHITE, half_blue, WHITE), within=1)
    data = encoded(quadrants(colours=[(100, 255), (100, 0), (0, 255), (0, 0)], mode="LA"), "PNG")
    assert_corners(data, ((100,) * 3, WHITE, BLACK, WHITE))


def test_palette_with_a_transparent_colour_shows_it_white():
    palette = quadrants().quantize(4)
    of_green = palette.getpixel((90, 20))
    for kind in ("PNG", "GIF"):
        assert_corners(encoded(palette, kind, transparency=of_green), (RED, WHITE, BLUE, ORANGE))
    opacities = bytes(0 if number == of_green else 255 for number in range(4))
    assert_corners(encoded(palette, "PNG", transparency=opacities), (RED, WHITE, BLUE, ORANGE))


def test_transparent_colour_of_a_photo_without_a_palette_is_white():
    assert_corners(encoded(quadrants(), "PNG", transparency=GREEN), (RED, WHITE, BLUE, ORANGE))


def test_edge_of_a_transparent_part_is_not_mixed_with_its_hidden_colour():
    """Scaled down, a red column beside transparent black becomes light red, not dark red."""
    image = Image.new("RGBA", (128, 128), (0, 0, 0, 0))
    image.paste((*RED, 255), (0, 0, 63, 128))
    edge = decode(encoded(image, "PNG"), 32, 32)[16]
    assert (edge[:, 0] == 255).all()


TURNED = {  # the rotation of the upright photo that each orientation reverses
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", TURNED)
def test_turned_photo_decodes_to_exactly_the_pixels_of_the_upright_one(kind, orientation):
    upright = noise(90, 60, seed=1)
    turned = upright if orientation == 1 else upright.transpose(TURNED[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}.get(kind, {})
    pixels = decode(encoded(turned, kind, exif=exif, **options), 40, 32)
    wanted = decode(encoded(upright, kind, **options), 40, 32)
    # JPEG rounds the turned photo differently; a wrong rotation would differ by far more.
    np.testing.assert_allclose(pixels.astype(int), wanted.astype(int), atol=4 if kind == "JPEG" else 0)


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"Exif\0\0MM\0*"])
def test_photo_with_damaged_exif_is_not_turned(exif):
    for kind, options in (("JPEG", {"quality": 95}), ("PNG", {}), ("WEBP", {"lossless": True})):
        assert_corners(encoded(quadrants(), kind, exif=exif, **options), within=20)


def test_photo_is_turned_even_if_another_exif_tag_is_damaged():
    """The camera's maker is a number instead of a string: Pillow can read such EXIF data, but not write it."""
    orientation = struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0)
    maker = struct.pack(">HHIf", 0x010F, 11, 1, 2.5)
    exif = b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", 2) + maker + orientation + b"\0\0\0\0"
    turned = quadrants().transpose(Image.Transpose.ROTATE_90)
    for kind, options in (("JPEG", {"quality": 95}), ("PNG", {}), ("WEBP", {"lossless": True})):
        assert_corners(encoded(turned, kind, exif=exif, **options), within=20)


@pytest.mark.parametrize("value", [0, 9, 77])
def test_photo_with_unknown_orientation_is_not_turned(value):
    exif = Image.Exif()
    exif[0x0112] = value
    assert_corners(encoded(quadrants(), "PNG", exif=exif))


# Crop and scale.


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    """Return smooth noise: random colours, about 30 along the shorter side, enlarged."""
    rng, blotch = np.random.default_rng(seed), max(2, min(width, height) // 32)
    small = rng.integers(0, 256, (height // blotch, width // blotch, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def resized_then_cropped(image: Image.Image, resize: int, crop: int) -> NDArray[np.uint8]:
    """Resize the whole photo, then crop its centre: the reference implementation."""
    scale = resize / min(image.size)
    width, height = (round(side * scale) for side in image.size)
    left, top = (width - crop) // 2, (height - crop) // 2
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized.crop((left, top, left + crop, top + crop)))


@pytest.mark.parametrize("size", [(320, 240), (240, 320), (256, 256), (333, 251), (90, 80), (1001, 1003), (2000, 301)])
def test_crop_equals_that_of_the_resized_photo(size):
    image = noise(*size)
    found = decode(encoded(image, "PNG"), 256, 224).astype(int)
    expected = resized_then_cropped(image, 256, 224)
    assert np.abs(found - expected).max() <= 1
    assert np.abs(found[:, 1:] - found[:, :-1]).mean() > 2, "a pixel beside would be as good"


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_large_photo_that_is_decoded_at_reduced_size_looks_the_same(kind):
    image = noise(2500, 1900)
    found = decode(encoded(image, kind, quality=95), 256, 224).astype(int)
    assert np.abs(found - resized_then_cropped(image, 256, 224)).mean() < 1


@given(width=st.integers(1, 40), height=st.integers(1, 40))
def test_photo_of_one_colour_and_any_small_size_keeps_its_colour(width, height):
    pixels = decode(encoded(Image.new("RGB", (width, height), ORANGE), "PNG"), 36, 32)
    assert pixels.shape == (32, 32, 3)
    assert (pixels == ORANGE).all()


@pytest.mark.parametrize("size", [(1, 1), (20000, 2), (2, 20000), (1, 3000)])
def test_narrow_photo_needs_no_memory_for_the_cropped_parts(size):
    data = encoded(Image.new("RGB", size, ORANGE), "PNG")
    before = peak_megabytes()
    assert (decode(data, 256, 224) == ORANGE).all()
    assert peak_megabytes() - before < 30  # 20,000 x 2 resized to 2,560,000 x 256 would be 1,966 MB


# Rejected photos.


def peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def bomb(width: int, height: int) -> bytes:
    return png(width, height, 8, 2, b"")


BOMBS: dict[str, Callable[[], bytes]] = {
    "PNG": lambda: bomb(30_000, 30_000),
    "PNG just above Pillow's limit": lambda: bomb(9_500, 9_500),
    "BMP": lambda: struct.pack("<2sIIIIiiHHIIiiII", b"BM", 54, 0, 54, 40, 30_000, 30_000, 1, 24, 0, 0, 0, 0, 0, 0),
    "GIF": lambda: (
        b"GIF89a"
        + struct.pack("<HHBBB", 60_000, 60_000, 0, 0, 0)
        + b"\x2c"
        + struct.pack("<HHHHB", 0, 0, 60_000, 60_000, 0)
        + b"\x08\x00\x3b"
    ),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_decompression_bomb_is_refused_before_it_is_decoded(kind):
    data = BOMBS[kind]()
    assert len(data) < 1000
    before = peak_megabytes()
    assert reason(data) == "too_large"
    assert peak_megabytes() - before < 30


def test_limit_of_pixels_is_configurable_and_the_error_names_size_and_limit():
    data = encoded(Image.new("RGB", (1000, 500)), "PNG")
    assert decode(data, 256, 224, max_megapixels=0.5).shape == (224, 224, 3)
    with pytest.raises(PhotoError, match=r"^too_large: 1000 x 500 pixels, at most 0.49 million$"):
        decode(data, 256, 224, max_megapixels=0.49)


def test_files_that_are_not_photos_are_refused():
    page = b"<!DOCTYPE html><html><body>404 Not Found</body></html>"
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n"  # for which Pillow would run Ghostscript
    assert {reason(data) for data in (page, postscript, b"\0" * 1000)} == {"not_an_image"}
    assert reason(b"") == "empty"
    assert not {"EPS", "PDF", "WMF", "FITS"} & set(FORMATS)


@given(
    st.binary(max_size=400),
    st.sampled_from([b"", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"II*\0", b"BM"]),
)
def test_random_bytes_are_refused_with_a_reason(data, beginning):
    assert reason(beginning + data) in ("not_an_image", "truncated", "too_large", "empty")


def outcome(data: bytes) -> str:
    """Return 'decoded' or the reason of the failure."""
    try:
        assert decode(data, **UNSTRETCHED).shape == (64, 64, 3)
    except PhotoError as error:
        return error.reason
    return "decoded"


@pytest.mark.parametrize("kind", [*LOSSLESS, *LOSSY])
def test_truncated_photo_is_decoded_or_refused_with_a_reason(kind):
    data = whole(kind)
    outcomes = [outcome(data[: len(data) * tenth // 10]) for tenth in range(10)]
    assert outcomes[0] == "empty"
    assert set(outcomes[1:]) <= {"not_an_image", "truncated", "decoded"}
    assert "decoded" not in outcomes[:6], "half of a photo is no photo"


@pytest.mark.parametrize("kind", [*LOSSLESS, *LOSSY])
def test_photo_with_wrong_bytes_is_decoded_or_refused_with_a_reason(kind):
    rng, data = np.random.default_rng(0), whole(kind)
    for _ in range(10):
        damaged = bytearray(data)
        for position in rng.integers(0, len(data), 8):
            damaged[position] = rng.integers(256)
        assert outcome(bytes(damaged)) in {*REASONS, "decoded"}


def test_colours_without_a_defined_range_are_refused():
    floating = Image.fromarray(np.linspace(0, 1, 4800, dtype=np.float32).reshape(60, 80))
    assert reason(encoded(floating, "TIFF")) == "unsupported"
    integers = Image.fromarray(np.arange(4800, dtype=np.int32).reshape(60, 80))
    assert reason(encoded(integers, "TIFF")) == "unsupported"
    lab = ImageCms.profileToProfile(
        quadrants(), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert reason(encoded(lab, "TIFF")) == "unsupported"


def test_warnings_of_pillow_are_ignored_and_others_are_not():
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        decode(encoded(quadrants(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"), 256, 224)
        reason(bomb(9_500, 9_500))
        warnings.warn("of somebody else", stacklevel=1)
    assert [str(each.message) for each in said] == ["of somebody else"]
