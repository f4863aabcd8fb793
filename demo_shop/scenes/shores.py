"""Painters of beach, harbour and swimming pool."""

import numpy as np
from numpy.typing import NDArray

from demo_shop.scenes.canvas import Canvas, Material, Point
from demo_shop.scenes.kind import Kind, show_far
from demo_shop.scenes.light import Colour
from demo_shop.scenes.plants import foliage, hedge, leaf_green, palm, potted_plant, tree
from demo_shop.scenes.props import (
    facade,
    lounger,
    mirrored,
    parasol,
    quad_grid,
    sailing_boat,
    scaled,
    sky,
    water,
)

_TURQUOISE, _DEEP = (70, 185, 190), (25, 95, 150)
_SAND = (228, 205, 165)
_CLOTHS: tuple[Colour, ...] = ((240, 240, 235), (215, 70, 60), (60, 120, 190), (245, 190, 70), (70, 150, 120))


def beach(canvas: Canvas, second: Kind | None) -> None:
    """Paint sand, surf and sea under a wide sky."""
    horizon = canvas.between(0.3, 0.5)
    sky(canvas, horizon)
    if not show_far(canvas, horizon, second) and canvas.chance(0.35):
        _headland(canvas, horizon)
    water(canvas, horizon, 1, canvas.vary(_DEEP, 10), canvas.vary(_TURQUOISE, 15))
    shore = _shoreline(canvas, canvas.between(0.5, 0.66), canvas.between(0.66, 0.95))
    _surf(canvas, shore)
    _sand(canvas, shore)
    _beach_life(canvas)


def beach_far(canvas: Canvas, horizon: float) -> None:
    """Paint a bay with its strip of sand."""
    canvas.box(0, horizon - 0.1, 1, horizon - 0.03, Material(_DEEP, _TURQUOISE, "ripples", 0.1))
    canvas.box(0, horizon - 0.035, 1, horizon, Material((245, 240, 225), _SAND, "rough", 0.06))
    for x in canvas.rng.uniform(0.05, 0.95, 4):
        parasol(canvas, x, horizon, 0.06, _CLOTHS[canvas.rng.integers(5)])


def beach_near(canvas: Canvas) -> None:
    """Paint a strip of sand with a parasol and a deck chair."""
    top = canvas.between(0.72, 0.8)
    curve = [(x, top + 0.03 * np.sin(5 * x)) for x in np.linspace(0, 1, 12)]
    canvas.fill([*curve, (1, 1), (0, 1)], Material(canvas.vary(_SAND, 8), scaled(_SAND, 0.85), "rough", 0.08))
    _beach_life(canvas)


def _headland(canvas: Canvas, horizon: float) -> None:
    start, size = canvas.between(0, 0.7), canvas.between(0.05, 0.13)
    xs = np.linspace(start, start + 0.4, 12)
    ys = horizon - size * np.sin(np.linspace(0, np.pi, 12)) * canvas.rng.uniform(0.8, 1.1, 12)
    canvas.fill([*zip(xs, ys, strict=True), (xs[-1], horizon), (xs[0], horizon)], foliage((95, 120, 95), 0.12))


def _shoreline(canvas: Canvas, left: float, right: float) -> NDArray[np.float64]:
    x = np.linspace(-0.02, 1.02, 40)
    swing = 0.012 * np.sin(canvas.between(8, 16) * x + canvas.between(0, 6)) + 0.01 * np.sin(31 * x)
    fall = left + (right - left) * np.clip(x, 0, 1) ** canvas.between(0.7, 2.2)
    return np.column_stack([x, fall + swing])


def _surf(canvas: Canvas, shore: NDArray[np.float64]) -> None:
    for back, thick in ((0.11, 0.012), (0.06, 0.018)):
        crest = shore - [0, back] + canvas.rng.normal(0, 0.004, shore.shape)
        _band(canvas, crest, thick, Material((235, 248, 246), (190, 228, 226), "ripples", 0.1))


def _sand(canvas: Canvas, shore: NDArray[np.float64]) -> None:
    sand = canvas.vary(_SAND, 8)
    foot = [(1.02, 1.0), (-0.02, 1.0)]
    canvas.fill(_points(shore) + foot, Material(scaled(sand, 0.72), scaled(sand, 0.8), "soft", 0.04))
    foam = shore + canvas.rng.normal(0, 0.003, shore.shape)
    _band(canvas, foam - [0, 0.012], 0.026, Material((255, 255, 252), (235, 240, 236), "rough", 0.05))
    canvas.fill(_points(shore + np.array([0, 0.075])) + foot, Material(scaled(sand, 0.95), sand, "rough", 0.07))
    canvas.shadow(_points(shore + np.array([0, 0.07]))[::3] + foot, 0.06, 0.02)


def _band(canvas: Canvas, line: NDArray[np.float64], thick: float, material: Material) -> None:
    canvas.fill(_points(line) + _points(line + np.array([0, thick]))[::-1], material)


def _points(line: NDArray[np.float64]) -> list[Point]:
    return [(float(x), float(y)) for x, y in line]


def _beach_life(canvas: Canvas) -> None:
    cloth = _CLOTHS[canvas.rng.integers(len(_CLOTHS))]
    if canvas.chance(0.45):
        palm(canvas, canvas.between(0.02, 0.2), 0.98, canvas.between(0.6, 0.85), canvas.between(-0.05, 0.25))
    for _ in range(canvas.rng.integers(0, 3)):
        x, foot = canvas.between(0.2, 0.75), canvas.between(0.86, 0.95)
        canvas.shadow([(x - 0.05, foot), (x + 0.2, foot - 0.01), (x + 0.2, foot + 0.02), (x - 0.05, foot + 0.02)], 0.3)
        lounger(canvas, x, foot, 0.2, (245, 245, 240))
        parasol(canvas, x + 0.06, foot, 0.32, cloth)


def harbour(canvas: Canvas, second: Kind | None) -> None:
    """Paint yachts at their moorings at a quay."""
    quay = canvas.between(0.42, 0.56)
    sky(canvas, quay)
    if not show_far(canvas, quay - 0.01, second):
        _quay_houses(canvas, quay)
    canvas.box(0, quay - 0.02, 1, quay, Material((190, 180, 165), (120, 112, 102), "masonry", 0.12))
    water(canvas, quay, 1, canvas.vary((60, 105, 125), 10), canvas.vary((25, 65, 85), 8))
    _moored(canvas, quay)
    if canvas.chance(0.75):
        _pier(canvas)
    size = canvas.between(0.6, 0.95)
    sailing_boat(canvas, canvas.between(0.2, 0.7), canvas.between(0.85, 0.95), size, sails=canvas.chance(0.35))


def harbour_far(canvas: Canvas, horizon: float) -> None:
    """Paint a strip of water full of masts."""
    canvas.box(0, horizon - 0.05, 1, horizon, Material((70, 120, 150), (45, 95, 125), "ripples", 0.12))
    for x in np.linspace(0.04, 0.96, 7):
        height = canvas.between(0.2, 0.32)
        sailing_boat(canvas, x + canvas.between(-0.03, 0.03), horizon, height, sails=canvas.chance(0.3))


def _quay_houses(canvas: Canvas, quay: float) -> None:
    """Paint bare hills and some boathouses; a whole town would be a picture of another kind."""
    haze = canvas.vary((140, 150, 160), 8)
    hills = [(x, quay - canvas.between(0.08, 0.2)) for x in np.linspace(0, 1, 6)]
    canvas.fill([*hills, (1, quay), (0, quay)], Material(haze, scaled(haze, 0.9), "soft", 0.06))
    x = canvas.between(-0.1, 0.1)
    while x < 0.95:
        width, height = canvas.between(0.1, 0.16) * canvas.slim, canvas.between(0.06, 0.1)
        _boathouse(canvas, x, x + width, quay, height)
        x += width + canvas.between(0.02, 0.3)


def _boathouse(canvas: Canvas, left: float, right: float, foot: float, height: float) -> None:
    wall = canvas.vary(((150, 60, 50), (235, 232, 225), (90, 110, 130))[canvas.rng.integers(3)], 10)
    canvas.box(left, foot - height, right, foot, Material(wall, scaled(wall, 0.8), "bark", 0.1))
    middle, eaves = (left + right) / 2, foot - height
    canvas.shape(
        [(left - 0.01, eaves), (middle, eaves - 0.6 * height), (right + 0.01, eaves)], canvas.vary((95, 85, 82), 8)
    )
    canvas.block(
        middle - 0.2 * (right - left), foot - 0.7 * height, middle + 0.2 * (right - left), foot, scaled(wall, 0.45)
    )


def _moored(canvas: Canvas, quay: float) -> None:
    for x in np.linspace(0.03, 0.97, canvas.rng.integers(5, 9)):
        foot = quay + canvas.between(0.03, 0.07)
        sailing_boat(canvas, x + canvas.between(-0.03, 0.03), foot, canvas.between(0.28, 0.48), sails=False)
    mirrored(canvas, quay + 0.05, 0.45)


def _pier(canvas: Canvas) -> None:
    wood = Material((165, 140, 112), (115, 92, 70), "planks", 0.2, receding=True)
    start = canvas.between(0.62, 0.8)
    canvas.fill([(start, 0.64), (start + 0.08, 0.64), (1.2, 1), (start - 0.1, 1)], wood)
    for depth in np.linspace(0, 1, 5):
        x, foot, size = start - 0.1 * depth**2, 0.66 + 0.34 * depth**2, 0.05 + 0.13 * depth**2
        half = 0.06 * size * canvas.slim
        canvas.box(
            x - half, foot - size, x + half, foot + 0.3 * size, Material((110, 88, 66), (60, 48, 38), "bark", 0.2)
        )


def swimming_pool(canvas: Canvas, second: Kind | None) -> None:
    """Paint a tiled pool with its terrace, deck chairs and a hedge behind."""
    terrace = canvas.between(0.36, 0.46)
    sky(canvas, terrace)
    if not show_far(canvas, terrace, second):
        _pool_surroundings(canvas, terrace)
    canvas.box(0, terrace, 1, 1, Material((222, 212, 196), (205, 192, 172), "tiles", 0.06, receding=True))
    edge = terrace + canvas.between(0.12, 0.18)
    _loungers(canvas, edge - 0.035)
    lean = canvas.between(-0.15, 0.15)
    _basin(canvas, ((0.18 + lean, edge), (0.82 + lean, edge), (1.25 + lean, 1.05), (-0.25 + lean, 1.05)))


def swimming_pool_near(canvas: Canvas) -> None:
    """Paint a pool that reaches the viewer's feet."""
    edge, lean = canvas.between(0.66, 0.74), canvas.between(-0.1, 0.1)
    canvas.box(0, edge - 0.05, 1, 1, Material((222, 212, 196), (205, 192, 172), "tiles", 0.06, receding=True))
    _basin(canvas, ((0.12 + lean, edge), (0.88 + lean, edge), (1.1 + lean, 1.05), (-0.1 + lean, 1.05)))


def _pool_surroundings(canvas: Canvas, terrace: float) -> None:
    green = leaf_green(canvas)
    if canvas.chance(0.5):
        left, height = canvas.between(-0.1, 0.5), canvas.between(0.2, 0.3)
        facade(canvas, left, terrace - height, left + 0.55, terrace, 2)
    for x in canvas.rng.uniform(0, 1, 2):
        if canvas.chance(0.5):
            palm(canvas, x, terrace, canvas.between(0.3, 0.4), canvas.between(-0.05, 0.05))
        else:
            tree(canvas, x, terrace, canvas.between(0.2, 0.35), green)
    hedge(canvas, -0.02, 1.02, terrace + 0.01, canvas.between(0.06, 0.1), green)


def _loungers(canvas: Canvas, foot: float) -> None:
    cloth = _CLOTHS[canvas.rng.integers(len(_CLOTHS))]
    for x in (0.08, 0.32, 0.58, 0.82):
        if canvas.chance(0.7):
            lounger(canvas, x, foot, 0.12, (245, 245, 242))
        if canvas.chance(0.5):
            parasol(canvas, x + 0.05, foot, 0.2, cloth)
    if canvas.chance(0.4):
        potted_plant(canvas, canvas.between(0.02, 0.1), foot + 0.06, 0.2)


def _basin(canvas: Canvas, corners: tuple[Point, Point, Point, Point]) -> None:
    (left, top), (right, _), (far_right, _), (far_left, _) = corners
    stone = (246, 241, 230)
    canvas.fill(
        [(left - 0.03, top - 0.02), (right + 0.03, top - 0.02), (far_right + 0.1, 1.05), (far_left - 0.1, 1.05)],
        Material(stone, stone, "rough", 0.04),
    )
    blue = canvas.vary((70, 190, 215), 12)
    canvas.fill(
        list(corners),
        Material(scaled(blue, 0.8), blue, "caustics", 0.05, receding=True, veins=(200, 240, 245), vein_start=1.5),
    )
    for cell in quad_grid(corners, 1, 5)[1::2]:
        canvas.line(cell[:2], scaled(blue, 0.9), 0.003)
    canvas.fill(
        [(left, top), (right, top), (right + 0.015, top + 0.035), (left - 0.015, top + 0.035)],
        Material(scaled(blue, 0.62), scaled(blue, 0.75), "tiles", 0.1),
    )
    _ladder(canvas, left + 0.1 * (right - left), top)


def _ladder(canvas: Canvas, x: float, top: float) -> None:
    for shift in (0.0, 0.045):
        canvas.line(
            [
                (x + shift, top + 0.09),
                (x + shift, top - 0.06),
                (x + shift + 0.012, top - 0.065),
                (x + shift + 0.02, top),
            ],
            (225, 230, 232),
            0.008,
        )
