"""Painters of old town and modern architecture."""

from itertools import pairwise

import numpy as np

from demo_shop.scenes.canvas import Canvas, Material, Point
from demo_shop.scenes.kind import Kind, show_far
from demo_shop.scenes.light import Colour
from demo_shop.scenes.plants import leaf_green, potted_plant, tree
from demo_shop.scenes.props import SHUTTERS, WALLS, WINDOW_LIGHT, facade, parasol, quad_grid, scaled, sky

_STONE = (188, 172, 148)


def old_town(canvas: Canvas, second: Kind | None) -> None:
    """Paint a cobbled lane between old houses, a church tower at its end."""
    meeting: Point = (canvas.between(0.35, 0.65), canvas.between(0.52, 0.62))
    sky(canvas, meeting[1] + 0.05)
    if not show_far(canvas, meeting[1] + 0.03, second):
        _church(canvas, meeting[0] + canvas.between(-0.06, 0.06), meeting[1] + 0.03, canvas.between(0.42, 0.56))
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
    nearness = np.array([0.3, 0.46, 0.72, 1.1, 1.7])
    for start, end in pairwise(nearness):
        near_x, far_x = (meeting[0] + (edge - meeting[0]) * n for n in (end, start))
        roof, foot = -canvas.between(0.6, 0.95), 0.42
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
    shutter = canvas.vary(SHUTTERS[canvas.rng.integers(len(SHUTTERS))], 15)
    cells = quad_grid(corners, int(canvas.rng.integers(1, 3)), 4)
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
    canvas.shape(inside((0.36, 0.64), (0.22, 0.78)), WINDOW_LIGHT if shines else canvas.vary((104, 118, 132), 14))
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
    """Paint volumes of concrete and glass above a plaza: a dome, towers or a low house."""
    ground = canvas.between(0.7, 0.82)
    sky(canvas, ground)
    show_far(canvas, ground, second)
    paving = Material((196, 196, 194), (164, 164, 164), "tiles", 0.07, receding=True)
    canvas.box(0, ground, 1, 1, paving)
    if canvas.chance(0.35):
        _dome(canvas, canvas.between(0.4, 0.6), ground, canvas.between(0.38, 0.5))
    elif canvas.chance(0.55):
        _glass_tower(canvas, canvas.between(-0.1, 0.05), canvas.between(0.4, 0.55), ground)
        _glass_tower(canvas, canvas.between(0.5, 0.6), canvas.between(0.3, 0.5), ground)
    else:
        _concrete_house(canvas, canvas.between(0.05, 0.2), ground, canvas.between(0.4, 0.55))
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


def _dome(canvas: Canvas, x: float, ground: float, radius: float) -> None:
    """Paint a ribbed half-sphere of glass on a ring of concrete."""
    wide, foot = radius * canvas.slim, ground - 0.07
    glass = canvas.vary((135, 165, 190), 15)
    angles = np.linspace(0, np.pi, 30)
    outline = [(x + wide * np.cos(a), foot - radius * np.sin(a)) for a in angles]
    canvas.fill(outline, Material(_mixed(canvas.light.clouds, glass), scaled(glass, 0.7), "soft", 0.12))
    rim = (226, 230, 233)
    for bend in np.linspace(-1, 1, 9):
        canvas.line([(x + bend * wide * np.cos(a), foot - radius * np.sin(a)) for a in angles[:16]], rim, 0.005)
    for lift in (0.25, 0.5, 0.72, 0.89):
        half = wide * np.sqrt(1 - lift**2)
        canvas.line([(x - half, foot - lift * radius), (x + half, foot - lift * radius)], rim, 0.005)
    canvas.shadow(
        [(x + 0.2 * wide, foot - radius), (x + wide, foot - 0.5 * radius), (x + wide, foot), (x + 0.4 * wide, foot)],
        0.3,
        0.05,
    )
    concrete = canvas.vary((214, 212, 207), 10)
    canvas.box(x - 1.2 * wide, foot, x + 1.2 * wide, ground, Material(concrete, scaled(concrete, 0.8), "soft", 0.04))
    left, right = x - 1.1 * wide, x + 1.1 * wide
    _glass_front(canvas, ((left, foot + 0.02), (right, foot + 0.02), (right, ground), (left, ground)), 12, 1)


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
    """Paint two storeys seen over their corner, each with a front and a flank of glass under a slab."""
    concrete, storey = canvas.vary((215, 213, 208), 12), canvas.between(0.2, 0.26)
    fall = canvas.between(0.15, 0.3)
    for floor in range(2):
        start = left + (canvas.between(-0.1, 0.12) if floor else 0.0)
        corner, end = start + width, start + width + canvas.between(0.25, 0.4)
        foot, top = ground - floor * storey, ground - (floor + 1) * storey
        shrink = fall * storey * (floor + 0.5)
        front = ((start, top + shrink), (corner, top), (corner, foot), (start, foot + 0.4 * shrink * floor))
        flank = ((corner, top), (end, top + shrink), (end, foot + 0.4 * shrink * floor), (corner, foot))
        _glazed(canvas, front, concrete, 6)
        _glazed(canvas, flank, scaled(concrete, 0.7), 4)


def _glazed(canvas: Canvas, corners: tuple[Point, Point, Point, Point], concrete: Colour, columns: int) -> None:
    """Paint a wall with a slab above and a row of glass below."""
    canvas.fill(list(corners), Material(concrete, scaled(concrete, 0.85), "soft", 0.05))
    (left, top), (right, right_top), (_, right_foot), (_, foot) = corners
    inset, reach = 0.05 * (right - left), (0.26, 0.94)
    glass = tuple(
        (x, high + share * (low - high))
        for x, high, low, share in (
            (left + inset, top, foot, reach[0]),
            (right - inset, right_top, right_foot, reach[0]),
            (right - inset, right_top, right_foot, reach[1]),
            (left + inset, top, foot, reach[1]),
        )
    )
    _glass_front(canvas, (glass[0], glass[1], glass[2], glass[3]), columns, 1)
    canvas.shadow(
        [glass[0], glass[1], (glass[1][0], glass[1][1] + 0.03), (glass[0][0], glass[0][1] + 0.03)], 0.45, 0.006
    )
