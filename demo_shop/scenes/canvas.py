"""A canvas for painters: textured shapes, shadows and lamps on a Pillow image.

Points are (x, y) in fractions of the picture's width and height, y downwards; they may lie outside of it.
"""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from demo_shop.scenes import noise
from demo_shop.scenes.light import Colour, Light

Point = tuple[float, float]
Pixels = list[tuple[float, float]]
_GRAIN = 2.0


class Material(NamedTuple):
    """The look of a surface."""

    top: Colour
    bottom: Colour
    noise: str = "rough"
    """A surface of `noise`."""
    contrast: float = 0.08
    """Deviation of the brightness, as a share of it."""
    receding: bool = False
    """Whether the surface lies flat and recedes upwards."""
    veins: Colour | None = None
    """The colour where the noise is strong."""
    vein_start: float = 0.4
    """The noise, in deviations, from which veins show."""


class Canvas:
    """A picture that is being painted, with its random generator and its light."""

    def __init__(self, rng: np.random.Generator, size: tuple[int, int], light: Light) -> None:
        self.rng, self.light = rng, light
        self.width, self.height = size
        self.slim = self.height / self.width
        """Converts a length in fractions of the height into one in fractions of the width."""
        self.image = Image.new("RGB", size, _rounded(light.horizon))
        self.pen = ImageDraw.Draw(self.image)
        self._lamps: list[tuple[float, float, float, Colour]] = []

    def between(self, low: float, high: float) -> float:
        """Draw a number uniformly from [low, high)."""
        return low + (high - low) * self.rng.random()

    def chance(self, probability: float) -> bool:
        """Draw True with the given probability."""
        return self.rng.random() < probability

    def vary(self, colour: Colour, amount: float = 12.0) -> Colour:
        """Draw a colour near the given one."""
        lighter = amount * self.rng.standard_normal()
        red, green, blue = (max(0.0, c + lighter + 0.4 * amount * self.rng.standard_normal()) for c in colour)
        return red, green, blue

    def pixels(self, points: Sequence[Point]) -> Pixels:
        """Return points in pixels."""
        return [(x * self.width, y * self.height) for x, y in points]

    def fill(self, points: Sequence[Point], material: Material) -> None:
        """Paint a polygon of a material."""
        self._paste([self.pixels(points)], material, ellipses=False)

    def box(self, left: float, top: float, right: float, bottom: float, material: Material) -> None:
        """Paint a rectangle of a material."""
        self.fill([(left, top), (right, top), (right, bottom), (left, bottom)], material)

    def blobs(self, centres: Sequence[tuple[float, float, float]], material: Material, squash: float = 1.0) -> None:
        """Paint discs (x, y, radius in heights) as one surface; `squash` is their height against their width."""
        outlines = []
        for x, y, radius in centres:
            across, down = radius * self.height, radius * self.height * squash
            x, y = x * self.width, y * self.height
            outlines.append([(x - across, y - down), (x + across, y + down)])
        self._paste(outlines, material, ellipses=True)

    def shape(self, points: Sequence[Point], colour: Colour) -> None:
        """Paint a small polygon of one colour."""
        self.pen.polygon(self.pixels(points), fill=_rounded(colour))

    def block(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        """Paint a small rectangle of one colour."""
        self.shape([(left, top), (right, top), (right, bottom), (left, bottom)], colour)

    def disc(self, x: float, y: float, radius: float, colour: Colour, squash: float = 1.0) -> None:
        """Paint a small disc of one colour; the radius is in heights."""
        across, down = radius * self.height, radius * self.height * squash
        x, y = x * self.width, y * self.height
        self.pen.ellipse([x - across, y - down, x + across, y + down], fill=_rounded(colour))

    def line(self, points: Sequence[Point], colour: Colour, width: float = 0.004) -> None:
        """Draw a line; its width is in heights."""
        self.pen.line(self.pixels(points), fill=_rounded(colour), width=max(1, round(width * self.height)))

    def dots(self, xs: NDArray[np.float64], ys: NDArray[np.float64], radius: float, colours: Sequence[Colour]) -> None:
        """Paint many small discs, each of one of the colours."""
        chosen = self.rng.integers(0, len(colours), len(xs))
        for x, y, colour in zip(xs, ys, chosen, strict=True):
            self.disc(x, y, radius, colours[colour])

    def shadow(self, points: Sequence[Point], strength: float = 0.5, blur: float = 0.015) -> None:
        """Darken a polygon, softly at its edges; the blur is in heights."""
        self._soft(self.pixels(points), (0, 0, 0), strength, blur * self.height)

    def shine(self, points: Sequence[Point], colour: Colour, strength: float = 0.3, blur: float = 0.02) -> None:
        """Lay a veil of light over a polygon, soft at its edges."""
        self._soft(self.pixels(points), colour, strength, blur * self.height)

    def lamp(self, x: float, y: float, radius: float, colour: Colour = (255, 205, 130)) -> None:
        """Add a lamp to the finished picture; the radius of its glow is in heights."""
        self._lamps.append((x, y, radius, colour))

    def paste(self, picture: Image.Image, left: float, top: float) -> None:
        """Put another picture into this one."""
        self.image.paste(picture, (round(left * self.width), round(top * self.height)))

    def finished(self) -> Image.Image:
        """Return the picture in its light, with darker corners, lamps and film grain."""
        self._shine_lamps()
        grain = _GRAIN * noise.patch("grain", self.rng, self.height, self.width)
        exposure = self.between(0.92, 1.08)
        corners = _corners(self.height, self.width)
        bands = []
        for band, tint in zip(self.image.split(), self.light.tint, strict=True):
            bands.append(_band(np.asarray(band) * np.float32(tint * exposure) * corners + grain))
        return Image.merge("RGB", bands)

    def _paste(self, outlines: Sequence[Pixels], material: Material, *, ellipses: bool) -> None:
        corners = np.concatenate([np.array(outline) for outline in outlines])
        left, top = np.maximum(np.floor(corners.min(axis=0)), 0).astype(int).tolist()
        right, bottom = np.minimum(np.ceil(corners.max(axis=0)) + 1, [self.width, self.height]).astype(int).tolist()
        if right <= left or bottom <= top:
            return
        mask = Image.new("L", (right - left, bottom - top))
        pen = ImageDraw.Draw(mask)
        for outline in outlines:
            moved = [(x - left, y - top) for x, y in outline]
            if ellipses:
                pen.ellipse(moved, fill=255)
            else:
                pen.polygon(moved, fill=255)
        self.image.paste(_surface(material, self.rng, bottom - top, right - left), (left, top), mask)

    def _soft(self, outline: Pixels, colour: Colour, strength: float, blur: float) -> None:
        corners, reach = np.array(outline), int(blur) + 1
        left, top = np.maximum(np.floor(corners.min(axis=0)) - reach, 0).astype(int).tolist()
        ends = np.ceil(corners.max(axis=0)) + reach
        right, bottom = np.minimum(ends, [self.width, self.height]).astype(int).tolist()
        if right <= left or bottom <= top:
            return
        mask = Image.new("L", (right - left, bottom - top))
        ImageDraw.Draw(mask).polygon([(x - left, y - top) for x, y in outline], fill=round(255 * strength))
        mask = mask.filter(ImageFilter.BoxBlur(blur))
        self.image.paste(_rounded(colour), (left, top, right, bottom), mask)

    def _shine_lamps(self) -> None:
        # A lamp is as bright at night as by day: it is brightened here by what the tint of the night takes later.
        strength = 1.0 if self.light.is_dark else 0.55
        for x, y, radius, colour in self._lamps:
            side = max(2, round(2 * radius * self.height))
            glow = _glow().resize((side, side), Image.Resampling.BILINEAR).point(lambda value: value * strength)
            place = (round(x * self.width) - side // 2, round(y * self.height) - side // 2)
            self.image.paste(_rounded(colour), place, glow)


def _surface(material: Material, rng: np.random.Generator, height: int, width: int) -> Image.Image:
    # Band by band: numpy is slow where the last axis is as short as the three colours.
    cut = noise.receding_patch if material.receding else noise.patch
    surface = cut(material.noise, rng, height, width)
    brightness = 1 + np.float32(material.contrast) * surface
    share = None if material.veins is None else np.clip(surface - np.float32(material.vein_start), 0, 1)
    down = np.arange(height, dtype=np.float32)[:, None] / np.float32(height)
    bands = []
    for band, (top, bottom) in enumerate(zip(material.top, material.bottom, strict=True)):
        pixels = (np.float32(top) + np.float32(bottom - top) * down) * brightness
        if material.veins is not None and share is not None:
            pixels += (np.float32(material.veins[band]) - pixels) * share
        bands.append(_band(pixels))
    return Image.merge("RGB", bands)


def _band(pixels: NDArray[np.float32]) -> Image.Image:
    return Image.fromarray(np.clip(pixels, 0, 255, out=pixels).astype(np.uint8))


def _rounded(colour: Colour) -> tuple[int, int, int]:
    red, green, blue = (min(255, max(0, round(c))) for c in colour)
    return red, green, blue


@cache
def _corners(height: int, width: int) -> NDArray[np.float32]:
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return (1.03 - 0.13 * (x**2 + y**2) ** 1.2).astype(np.float32)


@cache
def _glow() -> Image.Image:
    """Return a soft disc, bright in the middle."""
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    bright = np.clip(1 - np.hypot(x, y), 0, 1) ** 2.2
    return Image.fromarray((255 * bright).astype(np.uint8))
