"""Painters of old town, modern architecture and castle."""

from itertools import pairwise

import numpy as np

from recsys.demo_shop.scenes.canvas import Canvas, Material, Point
from recsys.demo_shop.scenes.kind import Kind, show_far
from recsys.demo_shop.scenes.light import Colour
from recsys.demo_shop.scenes.plants import conifers, foliage, leaf_green, potted_plant, tree
from recsys.demo_shop.scenes.props import WALLS, WINDOW_LIGHT, facade, parasol, quad_grid, scaled, sky

_STONE = (188, 172, 148)


def old_town(canvas: Canvas, second: Kind | None) -> None:
    """Paint a cobbled lane between old houses, a church tower at its end."""
    meeting: Point = (canvas.between(0.35, 0.65), canvas.between(0.5, 0.6))
    sky(canvas, meeting[1] + 0.05)
    if not show_far(canvas, meeting[1] + 0.03, second):
        _church(canvas, meeting[0] + canvas.between(-0.06, 0.06), meeting[1] + 0.03, canvas.between(0.3, 0.42))
        facade(canvas, meeting[0] - 0.15, meeting[1] - 0.12, meeting[0] + 0.15, meeting[1] + 0.03, 2)
    canvas.fill(
        [(0, 1.0), (meeting[0] - 0.06, meeting[1]), (meeting[0] + 0.06, meeting[1]), (1, 1.0), (1, 0.8), (0, 0.8)],
        Material((165, 150, 132), (135, 122, 108), "cobbles", 0.2),
    )
    canvas.box(0, meeting[1] + 0.02, 1, 1, Material((172, 158, 140), (140, 126, 110), "cobbles", 0.2, receding=True))
    for side in (-1, 1):
        _house_row(canvas, meeting, side)
    _street_life(canvas, meeting)


def old_town_far(canvas: Canvas, horizon: float) -> None:
    """Paint a crowd of old houses with a church above them."""
    size = canvas.between(0.3, 0.45) * horizon
    for row in (1.0, 0.6):
        x = -0.03
        while x < 1:
            width, height = canvas.between(0.3, 0.5) * size * canvas.slim, size * row * canvas.between(0.7, 1.0)
            facade(canvas, x, horizon - height, x + width, horizon, max(1, int(height / 0.06)))
            x += width
        if row == 1.0:
            _church(canvas, canvas.between(0.2, 0.8), horizon - 0.4 * size, 1.1 * size)


def _house_row(canvas: Canvas, meeting: Point, side: int) -> None:
    """Paint the houses of one side of a lane, from the meeting point of all lines to the picture's edge."""
    edge = 0.0 if side < 0 else 1.0
    nearness = np.array([0.18, 0.3, 0.52, 1.0, 1.6])
    for start, end in pairwise(nearness):
        near_x, far_x = (meeting[0] + (edge - meeting[0]) * n for n in (end, start))
        roof, foot = -canvas.between(0.42, 0.62), 0.42
        corners = tuple(
            (x, meeting[1] + height * n)
            for x, n, height in ((far_x, start, roof), (near_x, end, roof), (near_x, end, foot), (far_x, start, foot))
        )
        _slanted_house(canvas, (corners[0], corners[1], corners[2], corners[3]), side, 0.8 if side < 0 else 1.0)


def _slanted_house(canvas: Canvas, corners: tuple[Point, Point, Point, Point], side: int, brightness: float) -> None:
    wall = scaled(canvas.vary(WALLS[canvas.rng.integers(len(WALLS))], 8), brightness)
    canvas.fill(list(corners), Material(wall, scaled(wall, 0.75), "rough", 0.08))
    (far_x, far_top), (near_x, near_top), _, _ = corners
    canvas.shape(
        [(far_x, far_top), (near_x, near_top), (near_x - 0.04 * side, near_top + 0.03), (far_x, far_top + 0.02)],
        (120, 65, 48),
    )
    shutter = canvas.vary((70, 90, 85), 18)
    cells = quad_grid(corners, 2, 4)
    for number, cell in enumerate(cells):
        _slanted_window(canvas, np.array(cell), shutter, is_door=number == len(cells) - 2)


def _slanted_window(canvas: Canvas, cell: np.ndarray, shutter: Colour, *, is_door: bool) -> None:
    def inside(across: tuple[float, float], down: tuple[float, float]) -> list[Point]:
        corners = [(across[0], down[0]), (across[1], down[0]), (across[1], down[1]), (across[0], down[1])]
        points = [
            (1 - d) * ((1 - a) * cell[0] + a * cell[1]) + d * ((1 - a) * cell[3] + a * cell[2]) for a, d in corners
        ]
        return [(float(x), float(y)) for x, y in points]

    if is_door:
        canvas.shape(inside((0.3, 0.7), (0.15, 1.0)), (70, 48, 35))
        return
    shines = canvas.chance(0.6) if canvas.light.is_dark else False
    canvas.shape(inside((0.18, 0.82), (0.22, 0.78)), shutter)
    canvas.shape(inside((0.12, 0.88), (0.78, 0.83)), (230, 222, 208))
    canvas.shape(inside((0.36, 0.64), (0.22, 0.78)), WINDOW_LIGHT if shines else canvas.vary((52, 55, 62), 8))
    if shines:
        middle = cell.mean(axis=0)
        canvas.lamp(float(middle[0]), float(middle[1]), 0.08, WINDOW_LIGHT)


def _church(canvas: Canvas, x: float, foot: float, height: float) -> None:
    half = 0.1 * height * canvas.slim
    belfry = foot - 0.68 * height
    canvas.box(x - half, belfry, x + half, foot, Material(scaled(_STONE, 1.1), _STONE, "masonry", 0.08))
    canvas.shape([(x - 1.2 * half, belfry), (x, foot - height), (x + 1.2 * half, belfry)], (150, 80, 60))
    canvas.block(x - 0.35 * half, belfry + 0.05 * height, x + 0.35 * half, belfry + 0.18 * height, (60, 55, 55))
    canvas.disc(x, belfry + 0.27 * height, 0.035 * height, (240, 235, 220))


def _street_life(canvas: Canvas, meeting: Point) -> None:
    for side in (-1, 1):
        if canvas.chance(0.55):
            potted_plant(canvas, meeting[0] + side * canvas.between(0.25, 0.36), canvas.between(0.84, 0.92), 0.2)
        if canvas.chance(0.3):
            parasol(canvas, meeting[0] + side * 0.2, 0.82, 0.28, canvas.vary((230, 220, 195), 15))
        lamp_x = meeting[0] + side * 0.14
        canvas.line([(lamp_x, meeting[1] - 0.08), (lamp_x + side * 0.03, meeting[1] - 0.08)], (40, 40, 42), 0.008)
        if canvas.light.is_dark:
            canvas.lamp(lamp_x, meeting[1] - 0.06, 0.18)
    shade = 0.5 if canvas.chance(0.5) else 1.0
    canvas.shadow([meeting, (meeting[0] + 0.02, meeting[1]), (shade, 1.1), (0, 1.1), (0, 0.9)], 0.3, 0.02)


def modern_architecture(canvas: Canvas, second: Kind | None) -> None:
    """Paint stacked volumes of concrete and glass above a plaza."""
    ground = canvas.between(0.7, 0.82)
    sky(canvas, ground)
    show_far(canvas, ground, second)
    paving = Material((196, 196, 194), (164, 164, 164), "tiles", 0.07, receding=True)
    canvas.box(0, ground, 1, 1, paving)
    if canvas.chance(0.5):
        _glass_tower(canvas, canvas.between(0.0, 0.2), canvas.between(0.3, 0.5), ground)
        _concrete_house(canvas, canvas.between(0.35, 0.55), ground, canvas.between(0.25, 0.4))
    else:
        _concrete_house(canvas, canvas.between(0.05, 0.3), ground, canvas.between(0.42, 0.6))
    canvas.shadow([(0, ground), (1, ground), (1, ground + 0.05), (0, ground + 0.03)], 0.3, 0.02)
    if canvas.chance(0.4):
        tree(canvas, canvas.between(0.85, 0.98), ground + 0.04, 0.3, leaf_green(canvas))


def modern_architecture_far(canvas: Canvas, horizon: float) -> None:
    """Paint a skyline of glass towers."""
    for left in np.linspace(0.0, 0.85, 6):
        width, height = canvas.between(0.07, 0.13), canvas.between(0.4, 0.9) * horizon
        _glass_front(
            canvas,
            (
                (left, horizon - height),
                (left + width, horizon - 0.97 * height),
                (left + width, horizon),
                (left, horizon),
            ),
            4,
            int(30 * height),
        )


def _glass_front(canvas: Canvas, corners: tuple[Point, Point, Point, Point], columns: int, rows: int) -> None:
    glass = canvas.vary((105, 140, 165), 12)
    canvas.fill(list(corners), Material(_mixed(canvas.light.horizon, glass), scaled(glass, 0.75), "soft", 0.15))
    for cell in quad_grid(corners, columns, rows):
        draw = canvas.rng.random()
        if canvas.light.is_dark and draw < 0.45:
            canvas.shape(cell, WINDOW_LIGHT)
        elif draw < 0.18:
            canvas.shape(cell, scaled(glass, 0.6 + 4 * draw))
        canvas.line([*cell[:2], cell[2]], (222, 228, 232), 0.005)


def _mixed(one: Colour, other: Colour) -> Colour:
    return (one[0] + other[0]) / 2, (one[1] + other[1]) / 2, (one[2] + other[2]) / 2


def _glass_tower(canvas: Canvas, left: float, width: float, ground: float) -> None:
    edge, top = left + 0.6 * width, canvas.between(-0.1, 0.12)
    sloped = top + canvas.between(0.04, 0.12)
    _glass_front(canvas, ((left, sloped), (edge, top), (edge, ground), (left, ground)), 6, 14)
    _glass_front(canvas, ((edge, top), (left + width, sloped), (left + width, ground), (edge, ground)), 4, 14)
    canvas.shadow([(edge, top), (left + width, sloped), (left + width, ground), (edge, ground)], 0.3, 0.002)


def _concrete_house(canvas: Canvas, left: float, ground: float, width: float) -> None:
    """Paint storeys that jut out over each other, each with a band of glass."""
    n_storeys = int(canvas.rng.integers(2, 4))
    storey = canvas.between(0.16, 0.2)
    concrete = canvas.vary((215, 213, 208), 12)
    for floor in range(n_storeys):
        foot = ground - floor * storey
        shift = canvas.between(-0.1, 0.12) if floor else 0.0
        start, end, top = left + shift, left + shift + width * canvas.between(0.9, 1.25), foot - storey
        canvas.box(start, top, end, foot, Material(concrete, scaled(concrete, 0.88), "soft", 0.04))
        _glass_front(
            canvas,
            (
                (start + 0.02, top + 0.05),
                (end - 0.06, top + 0.05),
                (end - 0.06, foot - 0.01),
                (start + 0.02, foot - 0.01),
            ),
            7,
            1,
        )
        canvas.block(start - 0.02, top, end + 0.02, top + 0.028, scaled(concrete, 1.08))
        canvas.shadow([(start, top + 0.03), (end, top + 0.03), (end, top + 0.07), (start, top + 0.06)], 0.45, 0.008)


def castle(canvas: Canvas, second: Kind | None) -> None:
    """Paint walls and round towers on a hill."""
    foot = canvas.between(0.62, 0.74)
    sky(canvas, foot + 0.05)
    show_far(canvas, foot + 0.02, second)
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
