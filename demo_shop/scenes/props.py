"""Sky, water and the things that people build. Heights and radii are in fractions of the picture's height."""

import numpy as np
from PIL import Image

from demo_shop.scenes.canvas import Canvas, Material, Point
from demo_shop.scenes.light import Colour

WINDOW_LIGHT: Colour = (255, 225, 150)
WALLS: tuple[Colour, ...] = (
    (226, 190, 140),
    (214, 150, 110),
    (235, 220, 190),
    (200, 120, 95),
    (225, 205, 120),
    (190, 185, 175),
)
SHUTTERS: tuple[Colour, ...] = ((60, 95, 80), (70, 90, 120), (110, 70, 50), (120, 130, 120))


def sky(canvas: Canvas, horizon: float) -> None:
    """Paint the sky down to the horizon, sometimes with the sun in it."""
    light = canvas.light
    cover = canvas.between(-0.2, 1.4)
    canvas.box(
        0, 0, 1, horizon, Material(light.zenith, light.horizon, "clouds", 0.03, veins=light.clouds, vein_start=cover)
    )
    if not light.is_dark and canvas.chance(0.25):
        x, y = canvas.between(0.1, 0.9), canvas.between(0.2, 0.8) * horizon
        canvas.lamp(x, y, 0.22, light.clouds)


def water(canvas: Canvas, top: float, bottom: float, far: Colour, near: Colour) -> None:
    """Paint water that recedes to `top`, with a veil of the sky on it."""
    glint = tuple(0.5 * a + 0.5 * b for a, b in zip(canvas.light.horizon, near, strict=True))
    canvas.box(
        0,
        top,
        1,
        bottom,
        Material(far, near, "ripples", 0.09, receding=True, veins=(glint[0], glint[1], glint[2]), vein_start=1.0),
    )
    canvas.shine([(0, top), (1, top), (1, top + 0.02), (0, top + 0.02)], canvas.light.horizon, 0.5, 0.02)


def mirrored(canvas: Canvas, surface: float, depth: float, strength: float = 0.55) -> None:
    """Mirror what stands above the water's surface in the water below it."""
    height = canvas.height
    top, rows = round(surface * height), round(min(depth, surface, 1 - surface) * height)
    above = np.asarray(canvas.image.crop((0, top - rows, canvas.width, top)), dtype=np.float32)[::-1]
    below = np.asarray(canvas.image.crop((0, top, canvas.width, top + rows)), dtype=np.float32)
    waves = np.arange(rows) + (2.5 * np.sin(np.arange(rows) * 0.9)).astype(int)
    above = above[np.clip(waves, 0, rows - 1)]
    fading = np.linspace(strength, 0.1, rows, dtype=np.float32)[:, None, None]
    canvas.paste(Image.fromarray((below + (0.85 * above - below) * fading).astype(np.uint8)), 0, top / height)


def sailing_boat(canvas: Canvas, x: float, foot: float, height: float, *, sails: bool) -> None:
    """Paint a yacht: hull, mast, rigging and, if set, its sails."""
    half, deck = 0.3 * height * canvas.slim, foot - 0.1 * height
    stripe = canvas.vary((40, 60, 110), 25)
    _hull(canvas, x, foot, half, 0.1 * height, stripe)
    canvas.line([(x, deck), (x, foot - height)], (225, 225, 225), 0.012 * height + 0.002)
    for end in (x - half, x + 1.1 * half):
        canvas.line([(x, foot - height), (end, deck)], (170, 170, 175), 0.002)
    boom = foot - 0.19 * height
    if not sails:
        canvas.line([(x, boom), (x - 0.8 * half, boom)], stripe, 0.025 * height)
        return
    cloth = Material((250, 250, 246), (208, 212, 218), "folds", 0.04)
    canvas.fill([(x + 0.03 * half, foot - 0.97 * height), (x - 0.85 * half, boom), (x + 0.03 * half, boom)], cloth)
    jib = [(x + 0.1 * half, foot - 0.85 * height), (x + 1.05 * half, foot - 0.13 * height), (x + 0.1 * half, boom)]
    canvas.fill(jib, cloth)


def _hull(canvas: Canvas, x: float, foot: float, half: float, depth: float, stripe: Colour) -> None:
    def band(left: float, right: float, upper: float, low_left: float, low_right: float, lower: float) -> list[Point]:
        upper_y, lower_y = foot - upper * depth, foot - lower * depth
        return [
            (x + left * half, upper_y),
            (x + right * half, upper_y),
            (x + low_right * half, lower_y),
            (x + low_left * half, lower_y),
        ]

    canvas.shape(band(-1, 1.15, 1.05, -0.85, 0.85, 0), canvas.vary((240, 240, 236), 6))
    canvas.shape(band(-0.9, 0.95, 0.3, -0.85, 0.85, 0), stripe)
    canvas.shape(band(-0.4, 0.35, 1.5, -0.5, 0.5, 1), (215, 215, 215))


def facade(canvas: Canvas, left: float, top: float, right: float, foot: float, floors: int) -> None:
    """Paint the front of an old house: plaster, shutters and a tiled roof."""
    wall = canvas.vary(WALLS[canvas.rng.integers(len(WALLS))], 10)
    canvas.box(left, top, right, foot, Material(wall, scaled(wall, 0.82), "rough", 0.06))
    roof = 0.05 * (foot - top) + 0.01
    canvas.fill(
        [(left - 0.005, top), (left + 0.01, top - roof), (right - 0.01, top - roof), (right + 0.005, top)],
        Material((185, 100, 70), (140, 70, 50), "masonry", 0.15),
    )
    shutter = canvas.vary(SHUTTERS[canvas.rng.integers(len(SHUTTERS))], 10)
    storey = (foot - top) / (floors + 0.4)
    columns = max(1, round((right - left) / (0.55 * storey * canvas.slim)))
    step = (right - left) / columns
    for floor in range(floors):
        for column in range(columns):
            old_window(
                canvas, left + (column + 0.5) * step, top + (floor + 0.65) * storey, 0.16 * step, 0.3 * storey, shutter
            )


def old_window(canvas: Canvas, x: float, y: float, half_width: float, half_height: float, shutter: Colour) -> None:
    """Paint a window between its shutters."""
    shines = canvas.chance(0.6) if canvas.light.is_dark else canvas.chance(0.03)
    pane = WINDOW_LIGHT if shines else canvas.vary((62, 66, 74), 10)
    canvas.block(x - half_width, y - half_height, x + half_width, y + half_height, pane)
    canvas.block(x - 1.9 * half_width, y - half_height, x - half_width, y + half_height, shutter)
    canvas.block(x + half_width, y - half_height, x + 1.9 * half_width, y + half_height, shutter)
    canvas.line([(x - half_width, y + half_height), (x + half_width, y + half_height)], (235, 230, 220), 0.004)
    if shines:
        canvas.lamp(x, y, 3 * half_height, WINDOW_LIGHT)


def parasol(canvas: Canvas, x: float, foot: float, height: float, colour: Colour) -> None:
    """Paint an open parasol."""
    canvas.line([(x, foot), (x, foot - height)], (235, 230, 220), 0.01)
    half, rim = 0.5 * height * canvas.slim, foot - 0.72 * height
    for start, end, shade in ((-1.0, -0.35, 1.0), (-0.35, 0.35, 1.15), (0.35, 1.0, 0.75)):
        canvas.shape([(x, foot - height), (x + start * half, rim), (x + end * half, rim)], scaled(colour, shade))


def lounger(canvas: Canvas, x: float, foot: float, length: float, colour: Colour) -> None:
    """Paint a deck chair seen from the side."""
    wide = length * canvas.slim
    canvas.shadow([(x, foot), (x + wide, foot), (x + 1.1 * wide, foot + 0.02), (x, foot + 0.02)], 0.35, 0.008)
    canvas.line(
        [(x, foot), (x, foot - 0.18 * length), (x + wide, foot - 0.18 * length), (x + wide, foot)], (120, 90, 60), 0.008
    )
    canvas.line(
        [(x, foot - 0.22 * length), (x + 0.62 * wide, foot - 0.22 * length), (x + wide, foot - 0.55 * length)],
        colour,
        0.022,
    )


def quad_grid(corners: tuple[Point, Point, Point, Point], columns: int, rows: int) -> list[list[Point]]:
    """Divide a quadrilateral (upper left, upper right, lower right, lower left) into cells, row by row."""
    upper_left, upper_right, lower_right, lower_left = (np.array(corner) for corner in corners)
    across, down = np.linspace(0, 1, columns + 1)[:, None], np.linspace(0, 1, rows + 1)
    lines = [
        (1 - d) * ((1 - across) * upper_left + across * upper_right)
        + d * ((1 - across) * lower_left + across * lower_right)
        for d in down
    ]
    points = [[(float(x), float(y)) for x, y in line] for line in lines]
    return [
        [points[r][c], points[r][c + 1], points[r + 1][c + 1], points[r + 1][c]]
        for r in range(rows)
        for c in range(columns)
    ]


def candle(canvas: Canvas, x: float, foot: float, height: float) -> None:
    """Paint a burning candle."""
    wide = 0.16 * height * canvas.slim
    canvas.box(x - wide, foot - height, x + wide, foot, Material((245, 235, 210), (215, 195, 160), "soft", 0.03))
    canvas.disc(x, foot - 1.1 * height, 0.1 * height, (255, 235, 170), 1.8)
    canvas.lamp(x, foot - 1.1 * height, 0.9 * height, (255, 190, 90))


def scaled(colour: Colour, factor: float) -> Colour:
    """Darken or lighten a colour."""
    return colour[0] * factor, colour[1] * factor, colour[2] * factor
