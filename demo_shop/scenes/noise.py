"""Surfaces as noise: periodic square tiles of mean 0 and standard deviation about 1, each made once."""

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

Tile = NDArray[np.float32]
Heights = NDArray[np.floating]

SIDE = 512
# For each smooth surface: the exponent by which amplitude falls with frequency, and its stretch down and across.
_SPECTRA = {
    "clouds": (1.8, 1.0, 0.4),
    "soft": (1.7, 1.0, 1.0),
    "rough": (1.0, 1.0, 1.0),
    "grain": (0.3, 1.0, 1.0),
    "ripples": (1.1, 1.0, 0.18),
    "bark": (1.0, 0.12, 1.0),
    "folds": (1.8, 0.4, 1.0),
}
# A receding floor: the nearness of its upper edge, and the rows of the tile at its lower edge.
_FAR, _NEAR_ROWS = 0.12, 60.0


def patch(name: str, rng: np.random.Generator, height: int, width: int) -> Tile:
    """Return a random piece of a surface, seen from the front; at most SIDE high and wide."""
    top, left = rng.integers(0, SIDE, 2)
    return _doubled(name)[top : top + height, left : left + width]


def receding_patch(name: str, rng: np.random.Generator, height: int, width: int) -> Tile:
    """Return a random piece of a surface that lies flat and recedes towards the upper edge."""
    top, left = rng.integers(0, SIDE, 2)
    nearness = np.linspace(0, 1, height, dtype=np.float32) + _FAR
    rows = (top - _NEAR_ROWS / nearness).astype(np.int32) % SIDE
    across = np.arange(width, dtype=np.float32) - rng.uniform(0.2, 0.8) * width
    columns = (left + across / nearness[:, None]).astype(np.int32) % SIDE
    return _tile(name)[rows[:, None], columns]


@cache
def _doubled(name: str) -> Tile:
    return np.tile(_tile(name), (2, 2))


@cache
def _tile(name: str) -> Tile:
    rng = np.random.default_rng(sum(name.encode()))
    tile = _BUILT[name](rng) if name in _BUILT else _fractal(rng, *_SPECTRA[name])
    return _standard(tile)


def _standard(tile: Heights) -> Tile:
    return ((tile - tile.mean()) / tile.std()).astype(np.float32)


def _fractal(rng: np.random.Generator, fall: float, down: float, across: float) -> Heights:
    frequency = np.fft.fftfreq(SIDE)
    radius = np.hypot(frequency[:, None] / down, frequency / across)
    spectrum = np.fft.fft2(rng.standard_normal((SIDE, SIDE)))
    return np.fft.ifft2(spectrum / np.maximum(radius, 3 / SIDE) ** fall).real


def _leaves(rng: np.random.Generator) -> Heights:
    """Clumps in light and shade, strewn with single bright leaves and dark gaps."""
    clumps = _standard(_fractal(rng, 1.5, 1.0, 1.0))
    single = _standard(_fractal(rng, 0.7, 1.0, 1.0))
    lit = single - 0.5 * np.roll(single, (2, 1), axis=(0, 1))
    return 0.55 * clumps + _standard(np.exp(0.7 * _standard(lit)))


def _crags(rng: np.random.Generator) -> Heights:
    """Folded rock under light from the left: the slope of a ridged height map."""
    height = -np.abs(_standard(_fractal(rng, 1.7, 1.0, 0.7)))
    return np.clip(height - np.roll(height, (2, 3), axis=(0, 1)), -0.6, 0.6)


def _caustics(rng: np.random.Generator) -> Heights:
    """The bright net that the sun throws on the floor of a pool."""
    depth = _standard(_fractal(rng, 2.2, 1.0, 1.0) - _fractal(rng, 2.6, 1.0, 1.0))
    fine = _standard(_band(rng, 0.04))
    return np.exp(-6 * np.abs(fine)) + 0.15 * depth


def _band(rng: np.random.Generator, middle: float) -> Heights:
    frequency = np.fft.fftfreq(SIDE)
    radius = np.hypot(frequency[:, None], frequency)
    spectrum = np.fft.fft2(rng.standard_normal((SIDE, SIDE)))
    return np.fft.ifft2(spectrum * np.exp(-(((radius - middle) / (0.4 * middle)) ** 2))).real


def _bricks(height: int, width: int) -> Callable[[np.random.Generator], Heights]:
    """Rows of stones of uneven brightness, every second row shifted, with dark joints."""

    def build(rng: np.random.Generator) -> Heights:
        y, x = np.mgrid[:SIDE, :SIDE]
        row = y // height
        x = (x + row % 2 * (width // 2)) % SIDE
        stone = rng.standard_normal((SIDE // height, SIDE // width))[row % (SIDE // height), x // width]
        joint = (y % height == 0) | (x % width == 0)
        return 0.6 * stone - 2.2 * joint + 0.5 * _standard(_fractal(rng, 0.9, 1.0, 1.0))

    return build


_BUILT = {
    "leaves": _leaves,
    "crags": _crags,
    "caustics": _caustics,
    "masonry": _bricks(8, 16),
    "cobbles": _bricks(8, 8),
    "tiles": _bricks(16, 16),
    "planks": _bricks(8, 256),
}
