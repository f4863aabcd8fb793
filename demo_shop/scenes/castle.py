"""Painter of a castle."""

import numpy as np

from demo_shop.scenes.canvas import Canvas, Material
from demo_shop.scenes.kind import Kind, show_far
from demo_shop.scenes.light import Colour
from demo_shop.scenes.plants import conifers, foliage, leaf_green, tree
from demo_shop.scenes.props import WINDOW_LIGHT, scaled, sky

_STONE = (188, 172, 148)


def castle(canvas: Canvas, second: Kind | None) -> None:
    """Paint walls and round towers on a hill."""
    foot = canvas.between(0.62, 0.74)
    sky(canvas, foot + 0.2)
    show_far(canvas, foot + 0.12, second)
    _hill(canvas, foot)
    _fortress(canvas, canvas.between(0.4, 0.6), foot, canvas.between(0.5, 0.62))
    green = leaf_green(canvas)
    for x in canvas.rng.uniform(0, 1, 5):
        tree(canvas, x, foot + canvas.between(0.1, 0.3), canvas.between(0.12, 0.25), canvas.vary(green, 10))
    if canvas.chance(0.4):
        conifers(canvas, 0, 1, 1.05, 0.2, scaled(green, 0.6))


def castle_far(canvas: Canvas, horizon: float) -> None:
    """Paint a castle on a wooded hill."""
    x, size = canvas.between(0.25, 0.75), canvas.between(0.55, 0.75) * horizon
    hill = [
        (x + 0.9 * size * canvas.slim * s, horizon - 0.4 * size * np.cos(1.5 * s) ** 2) for s in np.linspace(-1, 1, 14)
    ]
    canvas.fill(
        [*hill, (x + size * canvas.slim, horizon), (x - size * canvas.slim, horizon)], foliage(leaf_green(canvas), 0.2)
    )
    _fortress(canvas, x, horizon - 0.36 * size, 0.75 * size)


def _hill(canvas: Canvas, foot: float) -> None:
    grass = canvas.vary((118, 140, 78), 10)
    edge = [(x, foot + 0.18 - 0.19 * np.sin(np.pi * np.clip(x, 0, 1)) ** 0.7) for x in np.linspace(0, 1, 16)]
    canvas.fill([*edge, (1, 1), (0, 1)], Material(grass, scaled(grass, 0.7), "leaves", 0.14))
    canvas.fill(
        [(0.46, foot + 0.02), (0.54, foot + 0.02), (0.62, 0.85), (0.8, 1), (0.5, 1), (0.48, 0.85)],
        Material((205, 190, 160), (180, 165, 135), "rough", 0.08),
    )


def _fortress(canvas: Canvas, x: float, foot: float, height: float) -> None:
    stone, has_roofs = canvas.vary(_STONE, 12), canvas.chance(0.65)
    reach = height * canvas.between(0.55, 0.75) * canvas.slim
    keep = 0.2 * height * canvas.slim
    _wall(canvas, x - keep, foot - 0.68 * height, x + keep, foot, stone)
    for share, tall in ((-0.55, 0.78), (0.5, 0.9)):
        _tower(canvas, x + share * reach, foot, tall * height, stone, has_roofs)
    _wall(canvas, x - reach, foot - 0.36 * height, x + reach, foot + 0.03, scaled(stone, 1.05))
    for share, tall in ((-1.0, 0.6), (1.0, 0.55), (0.16, 0.5), (-0.16, 0.5)):
        _tower(canvas, x + share * reach, foot + 0.03, tall * height, stone, has_roofs)
    _gate(canvas, x, foot + 0.03, 0.17 * height)


def _wall(canvas: Canvas, left: float, top: float, right: float, foot: float, stone: Colour) -> None:
    canvas.box(left, top, right, foot, Material(stone, scaled(stone, 0.75), "masonry", 0.1))
    _battlements(canvas, left, top, right, stone)
    for x in np.linspace(left, right, 8)[1:-1]:
        canvas.block(
            x - 0.004, top + 0.05, x + 0.004, top + 0.085, WINDOW_LIGHT if canvas.light.is_dark else (62, 56, 50)
        )


def _battlements(canvas: Canvas, left: float, top: float, right: float, stone: Colour) -> None:
    size = 0.022
    step = size * canvas.slim
    for x in np.arange(left, right - 0.4 * step, 2 * step):
        canvas.block(x, top - size, x + step, top + 0.004, scaled(stone, 1.03))


def _tower(canvas: Canvas, x: float, foot: float, height: float, stone: Colour, has_roof: bool) -> None:
    half, top = 0.11 * height * canvas.slim + 0.01, foot - 0.78 * height
    for start, end, shade in ((-1.0, -0.4, 1.1), (-0.4, 0.3, 0.95), (0.3, 1.0, 0.68)):
        canvas.box(
            x + start * half,
            top,
            x + end * half,
            foot,
            Material(scaled(stone, shade), scaled(stone, 0.85 * shade), "masonry", 0.1),
        )
    _battlements(canvas, x - 1.15 * half, top, x + 1.15 * half, stone)
    canvas.block(x - 1.15 * half, top, x + 1.15 * half, top + 0.02, scaled(stone, 0.9))
    for share in (0.25, 0.55):
        y = top + share * (foot - top)
        canvas.block(
            x - 0.12 * half, y, x + 0.12 * half, y + 0.035, WINDOW_LIGHT if canvas.light.is_dark else (58, 52, 48)
        )
    if has_roof:
        roof = canvas.vary((88, 80, 96) if canvas.chance(0.5) else (150, 78, 58), 8)
        canvas.shape([(x - 1.25 * half, top), (x, foot - 1.12 * height), (x, top)], scaled(roof, 1.2))
        canvas.shape([(x, foot - 1.12 * height), (x + 1.25 * half, top), (x, top)], scaled(roof, 0.75))


def _gate(canvas: Canvas, x: float, foot: float, height: float) -> None:
    half = 0.35 * height * canvas.slim
    canvas.block(x - half, foot - 0.65 * height, x + half, foot, (58, 44, 36))
    canvas.disc(x, foot - 0.65 * height, 0.35 * height, (58, 44, 36))
