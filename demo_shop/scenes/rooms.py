"""Painters of bedroom and restaurant."""

import numpy as np

from demo_shop.scenes.canvas import Canvas, Material, Point
from demo_shop.scenes.kind import Kind, window
from demo_shop.scenes.light import Colour
from demo_shop.scenes.plants import PETALS
from demo_shop.scenes.props import candle, quad_grid, scaled

_LINEN, _WOOD = (245, 242, 236), (125, 88, 60)
_FABRICS: tuple[Colour, ...] = (
    (150, 60, 55),
    (70, 95, 130),
    (190, 165, 120),
    (110, 125, 95),
    (140, 110, 140),
    (60, 70, 80),
)


def bedroom(canvas: Canvas, second: Kind | None) -> None:
    """Paint a made bed with its headboard, lamps and a window."""
    floor = canvas.between(0.58, 0.66)
    _walls(canvas, floor, canvas.vary((222, 208, 188), 14))
    left = canvas.between(0.28, 0.42)
    right = left + canvas.between(0.5, 0.6)
    if second is not None or canvas.chance(0.6):
        window(canvas, 0.03, 0.08, left - 0.06, 0.56, second)
        _curtains(canvas, 0.0, 0.04, left - 0.02, 0.66)
    _headboard(canvas, left, right, floor)
    for x in (left - 0.06, right + 0.05):
        _night_table(canvas, x, floor + 0.08)
    _bed(canvas, left, right, floor)
    if canvas.chance(0.2):
        _four_posts(canvas, left, right, floor)


def bedroom_near(canvas: Canvas) -> None:
    """Paint the foot of a day bed with cushions."""
    top, left = canvas.between(0.68, 0.74), canvas.between(-0.05, 0.3)
    right = left + 0.7
    canvas.shadow([(left - 0.03, 0.95), (right + 0.05, 0.95), (right + 0.05, 1.05), (left - 0.03, 1.05)], 0.4)
    _duvet(canvas, left, right, top + 0.06, 1.02)
    _pillows(canvas, left, right, top + 0.08, 0.13)


def _walls(canvas: Canvas, floor: float, wall: Colour) -> None:
    canvas.box(0, 0, 1, floor, Material(scaled(wall, 0.92), wall, "soft", 0.025))
    canvas.box(0, floor - 0.025, 1, floor, Material((238, 234, 226), (215, 210, 200), "soft", 0.02))
    canvas.box(0, floor, 1, 1, Material((165, 122, 85), (130, 92, 62), "planks", 0.12, receding=True))
    canvas.shadow([(0, 0), (0.08, 0), (0.02, 1), (0, 1)], 0.25, 0.05)


def _curtains(canvas: Canvas, left: float, top: float, right: float, foot: float) -> None:
    cloth = canvas.vary(_FABRICS[canvas.rng.integers(len(_FABRICS))], 10)
    wide = 0.22 * (right - left)
    for start in (left, right - wide):
        canvas.box(start, top, start + wide, foot, Material(scaled(cloth, 1.1), cloth, "folds", 0.2))


def _headboard(canvas: Canvas, left: float, right: float, floor: float) -> None:
    top = floor - canvas.between(0.24, 0.32)
    if canvas.chance(0.5):
        canvas.box(left, top, right, floor + 0.02, Material(scaled(_WOOD, 1.1), scaled(_WOOD, 0.8), "bark", 0.12))
        return
    cloth = canvas.vary(_FABRICS[canvas.rng.integers(len(_FABRICS))], 10)
    for start in np.linspace(left, right, 6)[:-1]:
        canvas.box(
            start,
            top,
            start + (right - left) / 5.3,
            floor,
            Material(scaled(cloth, 1.15), scaled(cloth, 0.8), "soft", 0.06),
        )


def _night_table(canvas: Canvas, x: float, foot: float) -> None:
    half, top = 0.045 * canvas.slim, foot - 0.16
    canvas.box(x - half, top, x + half, foot, Material(_WOOD, scaled(_WOOD, 0.7), "bark", 0.12))
    canvas.line([(x, top), (x, top - 0.1)], (90, 80, 70), 0.012)
    canvas.shape(
        [
            (x - 0.5 * half, top - 0.18),
            (x + 0.5 * half, top - 0.18),
            (x + 0.9 * half, top - 0.08),
            (x - 0.9 * half, top - 0.08),
        ],
        (250, 228, 185),
    )
    canvas.lamp(x, top - 0.12, 0.2)


def _bed(canvas: Canvas, left: float, right: float, floor: float) -> None:
    canvas.shadow([(left - 0.1, 0.9), (right + 0.1, 0.9), (right + 0.14, 1), (left - 0.14, 1)], 0.4, 0.03)
    canvas.fill(
        [(left, floor - 0.06), (right, floor - 0.06), (right + 0.08, 0.98), (left - 0.08, 0.98)],
        Material(_LINEN, scaled(_LINEN, 0.8), "folds", 0.05),
    )
    _pillows(canvas, left, right, floor - 0.02, 0.15)
    _duvet(canvas, left - 0.02, right + 0.02, floor + 0.06, 0.96)


def _pillows(canvas: Canvas, left: float, right: float, foot: float, size: float) -> None:
    accent = canvas.vary(_FABRICS[canvas.rng.integers(len(_FABRICS))], 12)
    middle, reach = (left + right) / 2, (right - left) / 4
    for x in (middle - reach, middle + reach):
        _cushion(canvas, x, foot, 0.85 * reach, size, _LINEN)
    for x in (middle - 0.7 * reach, middle + 0.7 * reach):
        _cushion(canvas, x, foot + 0.035, 0.5 * reach, 0.75 * size, accent)


def _cushion(canvas: Canvas, x: float, foot: float, half: float, size: float, cloth: Colour) -> None:
    angles = np.linspace(0, 2 * np.pi, 20)
    across = np.sign(np.cos(angles)) * np.abs(np.cos(angles)) ** 0.5
    down = np.sign(np.sin(angles)) * np.abs(np.sin(angles)) ** 0.6
    outline = [(x + half * a, foot - size / 2 + size / 2 * d) for a, d in zip(across, down, strict=True)]
    canvas.shadow([(a, d + 0.015) for a, d in outline], 0.3, 0.01)
    canvas.fill(outline, Material(scaled(cloth, 1.05), scaled(cloth, 0.75), "soft", 0.05))


def _duvet(canvas: Canvas, left: float, right: float, top: float, foot: float) -> None:
    cloth = _LINEN if canvas.chance(0.35) else canvas.vary(_FABRICS[canvas.rng.integers(len(_FABRICS))], 12)
    corners: tuple[Point, Point, Point, Point] = ((left, top), (right, top), (right + 0.08, foot), (left - 0.08, foot))
    canvas.fill(list(corners), Material(scaled(cloth, 1.02), scaled(cloth, 0.78), "folds", 0.08))
    if canvas.chance(0.4):
        _patchwork(canvas, corners, cloth)
    canvas.fill(
        [(left, top), (right, top), (right + 0.01, top + 0.06), (left - 0.01, top + 0.06)],
        Material((252, 250, 246), (225, 220, 212), "folds", 0.04),
    )
    throw = canvas.vary(_FABRICS[canvas.rng.integers(len(_FABRICS))], 12)
    edge = foot - canvas.between(0.1, 0.16)
    canvas.fill(
        [(left - 0.055, edge - 0.1), (right + 0.055, edge - 0.1), (right + 0.08, edge), (left - 0.08, edge)],
        Material(scaled(throw, 1.1), scaled(throw, 0.85), "grain", 0.1),
    )
    canvas.shine(
        [(left, top + 0.05), (left + 0.3, top + 0.05), (left + 0.2, foot), (left - 0.05, foot)],
        (255, 245, 225),
        0.18,
        0.04,
    )


def _patchwork(canvas: Canvas, corners: tuple[Point, Point, Point, Point], cloth: Colour) -> None:
    other = canvas.vary(_FABRICS[canvas.rng.integers(len(_FABRICS))], 12)
    for number, cell in enumerate(quad_grid(corners, 8, 5)):
        if number % 2 == 0:
            canvas.shape(cell, canvas.vary(scaled(other, 1.1), 6))
        canvas.line([*cell, cell[0]], scaled(cloth, 0.8), 0.003)


def _four_posts(canvas: Canvas, left: float, right: float, floor: float) -> None:
    """Hang white curtains from a canopy at the four corners of the bed."""
    veil = Material(_LINEN, scaled(_LINEN, 0.82), "folds", 0.09)
    top = floor - canvas.between(0.5, 0.56)
    for x, foot in ((left, floor + 0.02), (right, floor + 0.02), (left - 0.08, 0.94), (right + 0.08, 0.94)):
        canvas.line([(x, top - 0.04), (x, foot)], _WOOD, 0.014)
        canvas.fill([(x - 0.012, top), (x + 0.03, top), (x + 0.014, foot - 0.1), (x - 0.008, foot - 0.1)], veil)
    canvas.fill([(left, top), (right, top), (right + 0.09, top - 0.06), (left - 0.09, top - 0.06)], veil)
    edge = [
        (left - 0.09 + (right - left + 0.18) * s, top - 0.01 - 0.015 * np.cos(40 * s)) for s in np.linspace(1, 0, 30)
    ]
    canvas.fill([(left - 0.09, top - 0.07), (right + 0.09, top - 0.07), *edge], veil)


def restaurant(canvas: Canvas, second: Kind | None) -> None:
    """Paint laid tables with white cloths, glasses and chairs under hanging lamps."""
    floor = canvas.between(0.5, 0.58)
    wall = ((196, 160, 120), (150, 70, 60), (110, 118, 105), (215, 200, 175))[canvas.rng.integers(4)]
    _walls(canvas, floor, canvas.vary(wall, 10))
    if second is not None or canvas.chance(0.5):
        window(canvas, 0.28, 0.08, 0.72, 0.46, second)
    else:
        _shelf_of_bottles(canvas, 0.25, 0.12, 0.75)
    for x in np.linspace(0.08, 0.92, 4):
        _laid_table(canvas, x + canvas.between(-0.03, 0.03), floor + 0.1, 0.2)
    for x in np.linspace(0.15, 0.85, 3):
        _pendant(canvas, x + canvas.between(-0.05, 0.05), canvas.between(0.12, 0.24))
    for x in (canvas.between(0.15, 0.3), canvas.between(0.7, 0.85)):
        _laid_table(canvas, x, 0.98, 0.44)


def restaurant_near(canvas: Canvas) -> None:
    """Paint one laid table."""
    _laid_table(canvas, canvas.between(0.3, 0.7), 1.05, canvas.between(0.5, 0.6))


def _shelf_of_bottles(canvas: Canvas, left: float, top: float, right: float) -> None:
    for row in range(2):
        foot = top + 0.14 * (row + 1)
        canvas.block(left, foot, right, foot + 0.015, scaled(_WOOD, 0.7))
        for x in np.arange(left + 0.02, right - 0.02, 0.03):
            glass = canvas.vary((45, 60, 40) if canvas.chance(0.6) else (110, 40, 30), 10)
            canvas.block(x - 0.009, foot - 0.075, x + 0.009, foot, glass)
            canvas.block(x - 0.003, foot - 0.11, x + 0.003, foot - 0.07, glass)


def _pendant(canvas: Canvas, x: float, y: float) -> None:
    canvas.line([(x, 0), (x, y)], (50, 45, 40), 0.004)
    canvas.shape([(x - 0.01, y), (x + 0.01, y), (x + 0.045, y + 0.05), (x - 0.045, y + 0.05)], (60, 55, 50))
    canvas.lamp(x, y + 0.06, 0.17)


def _laid_table(canvas: Canvas, x: float, foot: float, size: float) -> None:
    half, top = 0.55 * size * canvas.slim, foot - 0.62 * size
    for side in (-1, 1):
        _chair(canvas, x + side * 1.25 * half, foot, size, side)
    canvas.shadow(
        [(x - half, foot - 0.03), (x + half, foot - 0.03), (x + half, foot + 0.03), (x - half, foot + 0.03)], 0.4
    )
    cloth = canvas.vary((248, 246, 242), 4)
    hem = [(x + half * s, foot - 0.1 * size + 0.03 * size * np.sin(9 * s)) for s in np.linspace(-1, 1, 14)]
    canvas.fill(
        [(x - half, top), (x + half, top), *reversed(hem)],
        Material(scaled(cloth, 0.95), scaled(cloth, 0.75), "folds", 0.09),
    )
    canvas.blobs([(x, top, half / canvas.slim)], Material(cloth, cloth, "soft", 0.02), 0.24)
    for share in (-0.5, 0.5):
        canvas.disc(x + share * half, top + 0.02 * size, 0.14 * size, (222, 222, 222), 0.3)
        canvas.disc(x + share * half, top + 0.015 * size, 0.11 * size, (252, 252, 252), 0.3)
        _wine_glass(canvas, x + 0.45 * share * half, top - 0.02 * size, 0.28 * size)
    if canvas.chance(0.6):
        candle(canvas, x, top, 0.16 * size)
    else:
        _bouquet(canvas, x, top, 0.3 * size)


def _chair(canvas: Canvas, x: float, foot: float, size: float, side: int) -> None:
    half, seat = 0.13 * size * canvas.slim, foot - 0.4 * size
    wood = Material(scaled(_WOOD, 0.85), scaled(_WOOD, 0.55), "bark", 0.12)
    canvas.box(x - half, seat, x + half, seat + 0.06 * size, wood)
    back = x + side * half
    canvas.fill(
        [
            (back - 0.02 * side, foot),
            (back, foot),
            (back + 0.03 * side, foot - 0.9 * size),
            (back - 0.01 * side, foot - 0.9 * size),
        ],
        wood,
    )
    canvas.line([(x - side * half, seat), (x - side * half, foot)], scaled(_WOOD, 0.6), 0.03 * size)


def _wine_glass(canvas: Canvas, x: float, foot: float, height: float) -> None:
    glass, half = (222, 230, 234), 0.16 * height * canvas.slim
    canvas.line([(x, foot), (x, foot - 0.55 * height)], glass, 0.003)
    canvas.line([(x - half, foot), (x + half, foot)], glass, 0.004)
    canvas.shape(
        [
            (x - half, foot - height),
            (x + half, foot - height),
            (x + 0.5 * half, foot - 0.5 * height),
            (x - 0.5 * half, foot - 0.5 * height),
        ],
        (205, 215, 222),
    )
    wine = (130, 25, 45) if canvas.chance(0.6) else (235, 215, 140)
    canvas.shape(
        [
            (x - 0.85 * half, foot - 0.8 * height),
            (x + 0.85 * half, foot - 0.8 * height),
            (x + 0.45 * half, foot - 0.52 * height),
            (x - 0.45 * half, foot - 0.52 * height),
        ],
        wine,
    )


def _bouquet(canvas: Canvas, x: float, foot: float, height: float) -> None:
    half = 0.14 * height * canvas.slim
    canvas.shape(
        [
            (x - half, foot - 0.45 * height),
            (x + half, foot - 0.45 * height),
            (x + 0.7 * half, foot),
            (x - 0.7 * half, foot),
        ],
        (225, 232, 236),
    )
    petal = PETALS[canvas.rng.integers(len(PETALS))]
    for dx, dy in canvas.rng.normal(0, 0.1 * height, (12, 2)):
        canvas.disc(x + dx * canvas.slim, foot - 0.65 * height + dy, 0.05 * height, canvas.vary(petal, 15))
