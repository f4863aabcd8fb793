"""Painters of snowy mountain, forest and garden."""

import numpy as np

from demo_shop.scenes.canvas import Canvas, Material, Point
from demo_shop.scenes.kind import Kind, show_far
from demo_shop.scenes.light import Colour
from demo_shop.scenes.plants import (
    blossoms,
    conifers,
    flowers,
    foliage,
    hedge,
    leaf_green,
    palm,
    potted_plant,
    tree,
)
from demo_shop.scenes.props import scaled, sky

_SNOW, _SHADED_SNOW, _ROCK = (248, 250, 255), (165, 185, 215), (92, 88, 90)
_FIR = (38, 66, 50)


def snowy_mountain(canvas: Canvas, second: Kind | None) -> None:
    """Paint snowy peaks above firs and a ski slope."""
    valley = canvas.between(0.6, 0.74)
    sky(canvas, valley)
    for depth in (0.35, 0.0):
        for x in canvas.rng.uniform(0, 1, 2):
            peak(canvas, x, valley, canvas.between(0.32, 0.48) + 0.1 * depth, 0.5 * depth)
    peak(canvas, canvas.between(0.3, 0.7), valley, canvas.between(0.48, 0.58), 0.0)
    if not show_far(canvas, valley + 0.02, second):
        conifers(canvas, -0.02, 1.02, valley + 0.03, canvas.between(0.08, 0.13), scaled(_FIR, 1.25))
    _slope(canvas, valley)
    if canvas.chance(0.35):
        _ski_lift(canvas)


def snowy_mountain_far(canvas: Canvas, horizon: float) -> None:
    """Paint a chain of snowy peaks."""
    for x in np.linspace(0.05, 0.95, 4):
        peak(canvas, x + canvas.between(-0.08, 0.08), horizon, canvas.between(0.55, 0.85) * horizon, 0.15)


def peak(canvas: Canvas, x: float, foot: float, height: float, haze: float) -> None:
    """Paint one peak: a lit and a shaded flank, rock where it is too steep for snow."""
    half = height * canvas.between(0.9, 1.25) * canvas.slim
    top = foot - height
    left, right = _ridge(canvas, (x, top), (x - half, foot)), _ridge(canvas, (x, top), (x + half, foot))
    crest = [
        (x + 0.05 * height * (-1) ** i + 0.1 * half * s, top + s * height) for i, s in enumerate(np.linspace(0, 1, 7))
    ]
    lit, dark, rock = (_hazy(canvas, colour, haze) for colour in (_SNOW, _SHADED_SNOW, _ROCK))
    canvas.fill([*left, (x, foot)], Material(lit, lit, "crags", 0.1, veins=rock, vein_start=0.9))
    canvas.fill(
        [*crest, *reversed(right)], Material(dark, dark, "crags", 0.14, veins=scaled(rock, 0.8), vein_start=0.5)
    )


def _ridge(canvas: Canvas, start: Point, end: Point) -> list[Point]:
    steps = np.linspace(0, 1, 12)
    rough = canvas.rng.normal(0, 0.016, (12, 2)) * np.sin(np.pi * steps)[:, None]
    points = np.array(start) + (np.array(end) - np.array(start)) * steps[:, None] + rough
    return [(float(x), float(y)) for x, y in points]


def _hazy(canvas: Canvas, colour: Colour, haze: float) -> Colour:
    red, green, blue = (c + (sky_c - c) * haze for c, sky_c in zip(colour, canvas.light.horizon, strict=True))
    return red, green, blue


def _slope(canvas: Canvas, valley: float) -> None:
    left, right = canvas.between(0.0, 0.1), canvas.between(0.0, 0.1)
    edge = [(x, valley + left + (right - left) * x + 0.02 * np.sin(5 * x)) for x in np.linspace(0, 1, 15)]
    canvas.fill([*edge, (1, 1), (0, 1)], Material((250, 251, 255), (205, 218, 238), "soft", 0.035))
    for start in canvas.rng.uniform(0.1, 0.9, 3):
        track = [
            (start + 0.03 * np.sin(9 * s) + 0.2 * s * (start - 0.5), valley + 0.12 + s * 0.3)
            for s in np.linspace(0, 1, 16)
        ]
        canvas.line(track, (188, 204, 230), 0.006)
    for side in (0.0, 1.0):
        if canvas.chance(0.65):
            start = side - canvas.between(0.1, 0.2)
            conifers(canvas, start, start + 0.3, canvas.between(0.9, 1.05), canvas.between(0.3, 0.5), _FIR)
    for _ in range(canvas.rng.integers(0, 4)):
        _skier(canvas, canvas.between(0.25, 0.75), canvas.between(valley + 0.13, 0.95))


def _skier(canvas: Canvas, x: float, foot: float) -> None:
    size = 0.05 + 0.08 * (foot - 0.7)
    jacket = canvas.vary(((210, 50, 50), (40, 90, 180), (240, 170, 40))[canvas.rng.integers(3)], 10)
    canvas.line([(x - 0.4 * size, foot + 0.01), (x + 0.5 * size, foot)], (40, 40, 50), 0.006)
    canvas.line([(x, foot), (x, foot - 0.5 * size)], (40, 45, 60), 0.016)
    canvas.line([(x, foot - 0.4 * size), (x + 0.01, foot - 0.85 * size)], jacket, 0.022)
    canvas.disc(x + 0.01, foot - size, 0.01, (60, 50, 50))


def _ski_lift(canvas: Canvas) -> None:
    start, end = canvas.between(0.35, 0.5), canvas.between(0.1, 0.3)
    canvas.line([(0, start), (1, end)], (70, 75, 85), 0.003)
    for x in np.arange(0.1, 1, 0.22):
        y = start + (end - start) * x
        canvas.line([(x, y), (x, y + 0.05)], (60, 65, 75), 0.004)
        canvas.block(x - 0.018, y + 0.05, x + 0.018, y + 0.09, (190, 50, 45))


def forest(canvas: Canvas, second: Kind | None) -> None:
    """Paint a wood: from within, or along the stream that comes out of it."""
    if canvas.chance(0.45):
        _wooded_valley(canvas, second)
    else:
        _inside_forest(canvas, second)


def _inside_forest(canvas: Canvas, second: Kind | None) -> None:
    floor, green = canvas.between(0.52, 0.64), leaf_green(canvas)
    bright = (175, 195, 120) if canvas.chance(0.6) else (185, 200, 190)
    glade = Material(scaled(green, 1.2), bright, "leaves", 0.1, veins=canvas.light.horizon, vein_start=0.8)
    canvas.box(0, 0, 1, floor, glade)
    opening = show_far(canvas, floor, second)
    _trunks(canvas, floor, 10, 0.03, scaled(bright, 0.68), opening)
    if not opening:
        _boughs(canvas, canvas.between(0.0, 0.4), scaled(green, 1.2), 7)
    _undergrowth(canvas, floor, green)
    _trunks(canvas, floor + 0.1, 4, 0.06, (98, 82, 62), opening)
    if not opening:
        _boughs(canvas, canvas.between(0.0, 0.25), green, 6)
    _trunks(canvas, floor + 0.3, 2, 0.13, (72, 58, 46), opening)
    if not opening:
        _canopy(canvas, scaled(green, 0.85))
    if canvas.chance(0.5):
        _sunbeams(canvas)


def _wooded_valley(canvas: Canvas, second: Kind | None) -> None:
    """Paint wooded hills, one behind the other, above a stream between firs."""
    valley, green = canvas.between(0.5, 0.6), scaled(leaf_green(canvas), 0.8)
    sky(canvas, valley)
    show_far(canvas, valley - 0.1, second)
    for depth in (0.55, 0.3, 0.1):
        foot, colour = valley - 0.2 * depth, _hazy(canvas, green, depth)
        slopes = [
            (x, foot - (0.3 * abs(x - 0.5) ** 1.2 + 0.06) * canvas.between(0.8, 1.3)) for x in np.linspace(0, 1, 9)
        ]
        canvas.fill([*slopes, (1, foot + 0.1), (0, foot + 0.1)], foliage(colour, 0.16))
        conifers(canvas, -0.02, 1.02, foot + 0.06, 0.13 - 0.1 * depth, colour)
    canvas.box(0, valley + 0.02, 1, 1, Material(scaled(green, 1.3), scaled(green, 0.9), "leaves", 0.22))
    _stream(canvas, valley + 0.03)
    for start in (-0.1, 0.72):
        conifers(canvas, start, start + 0.4, canvas.between(0.92, 1.02), canvas.between(0.5, 0.8), scaled(green, 0.85))


def _stream(canvas: Canvas, top: float) -> None:
    steps = np.linspace(0, 1, 12)
    middle = 0.5 + canvas.between(-0.12, 0.12) * np.sin(4 * steps)
    bank = 0.02 + 0.28 * steps**1.6
    y = top + (1.02 - top) * steps
    left, right = list(zip(middle - bank, y, strict=True)), list(zip(middle + bank, y, strict=True))
    stream = Material(
        canvas.light.horizon, (70, 100, 95), "ripples", 0.15, receding=True, veins=(235, 242, 240), vein_start=1.1
    )
    canvas.fill([*left, *reversed(right)], stream)
    for x, depth in canvas.rng.random((7, 2)):
        place = int(11 * depth)
        radius = 0.012 + 0.04 * depth
        rock = Material((165, 162, 155), (85, 82, 78), "rough", 0.12)
        canvas.blobs([(middle[place] + (2.2 * x - 1.1) * bank[place], y[place], radius)], rock, 0.6)


def _boughs(canvas: Canvas, y: float, green: Colour, n_boughs: int) -> None:
    for x in canvas.rng.random(n_boughs):
        around = canvas.rng.normal(0, 0.05, (5, 2))
        middle = y + canvas.between(-0.12, 0.12)
        canvas.blobs([(x + dx, middle + 0.6 * dy, 0.05) for dx, dy in around], foliage(canvas.vary(green, 10)), 0.7)


def forest_far(canvas: Canvas, horizon: float) -> None:
    """Paint wooded hills: leaves behind, firs before."""
    green = leaf_green(canvas)
    size = canvas.between(0.3, 0.5) * horizon
    xs = np.linspace(-0.05, 1.05, 14)
    canvas.blobs([(x, horizon - 0.35 * size, size * canvas.between(0.4, 0.6)) for x in xs], foliage(green))
    conifers(canvas, -0.02, 1.02, horizon, 0.8 * size, scaled(green, 0.6))


def _trunks(canvas: Canvas, foot: float, n_trunks: int, width: float, bark: Colour, opening: bool) -> None:
    for x in canvas.rng.uniform(-0.02, 1.02, n_trunks):
        if opening and 0.25 < x < 0.75:
            continue
        half, lean = width * canvas.between(0.25, 0.6) * canvas.slim, 0.03 * canvas.rng.standard_normal()
        colour, base = canvas.vary(bark, 6), foot + canvas.between(-0.03, 0.05)
        canvas.fill(
            [
                (x + lean - 0.7 * half, -0.02),
                (x + lean + 0.7 * half, -0.02),
                (x + 0.9 * half, base - 0.05),
                (x + 1.5 * half, base),
                (x - 1.5 * half, base),
                (x - 0.9 * half, base - 0.05),
            ],
            Material(colour, scaled(colour, 0.8), "bark", 0.25),
        )
        canvas.line([(x + lean - 0.5 * half, 0), (x - 0.6 * half, base - 0.05)], scaled(colour, 1.35), 0.12 * width)


def _undergrowth(canvas: Canvas, floor: float, green: Colour) -> None:
    soil = canvas.vary((120, 98, 62), 10)
    canvas.box(0, floor, 1, 1, Material(scaled(green, 1.1), scaled(soil, 0.8), "leaves", 0.25))
    middle, swing = canvas.between(0.3, 0.7), canvas.between(-0.15, 0.15)
    steps = np.linspace(0, 1, 8)
    left = [(middle + swing * np.sin(3 * s) - 0.015 - 0.2 * s**1.5, floor + s * (1 - floor)) for s in steps]
    right = [(middle + swing * np.sin(3 * s) + 0.015 + 0.2 * s**1.5, floor + s * (1 - floor)) for s in steps]
    canvas.fill([*left, *reversed(right)], Material(scaled(soil, 1.3), scaled(soil, 1.15), "rough", 0.12))
    for x, depth in zip(canvas.rng.random(9), canvas.rng.random(9), strict=True):
        if abs(x - middle) > 0.1 + 0.25 * depth:
            canvas.blobs([(x, floor + 0.05 + depth * (0.95 - floor), 0.03 + 0.08 * depth)], foliage(green), 0.7)


def _canopy(canvas: Canvas, green: Colour) -> None:
    centres = [(x, canvas.between(-0.06, 0.1), canvas.between(0.09, 0.17)) for x in np.linspace(0, 1, 9)]
    canvas.blobs(centres, foliage(green, 0.35))


def _sunbeams(canvas: Canvas) -> None:
    x = canvas.between(0.1, 0.9)
    for shift in (-0.12, 0.02, 0.15):
        canvas.shine(
            [(x, -0.05), (x + 0.04, -0.05), (x + 3 * shift + 0.12, 0.8), (x + 3 * shift, 0.8)],
            (255, 250, 210),
            0.2,
            0.02,
        )


def garden(canvas: Canvas, second: Kind | None) -> None:
    """Paint flower beds along a gravel path, hedges, shrubs and an arch or a fountain."""
    lawn, green = canvas.between(0.36, 0.46), leaf_green(canvas)
    sky(canvas, lawn)
    if not show_far(canvas, lawn, second):
        for x in canvas.rng.uniform(0, 1, 5):
            tree(canvas, x, lawn + 0.02, canvas.between(0.25, 0.42), canvas.vary(green, 8))
    hedge(canvas, -0.02, 1.02, lawn + 0.03, canvas.between(0.06, 0.12), scaled(green, 0.85))
    canvas.box(0, lawn + 0.02, 1, 1, Material((122, 158, 72), (92, 138, 52), "rough", 0.1))
    middle = canvas.between(0.35, 0.65)
    canvas.fill(
        [(middle - 0.03, lawn + 0.03), (middle + 0.03, lawn + 0.03), (middle + 0.16, 1), (middle - 0.16, 1)],
        Material((222, 208, 180), (200, 182, 150), "rough", 0.06, receding=True),
    )
    _arch_or_fountain(canvas, middle, lawn, green)
    _beds(canvas, middle, lawn, green)
    if canvas.chance(0.5):
        potted_plant(canvas, middle + (0.25 if canvas.chance(0.5) else -0.25), 0.93, canvas.between(0.3, 0.4))


def garden_near(canvas: Canvas) -> None:
    """Paint a border of flowers and shrubs."""
    green, top = leaf_green(canvas), canvas.between(0.72, 0.8)
    hedge(canvas, -0.02, 1.02, 1.02, 1.02 - top, green)
    blossoms(canvas, 0, 1, top + 0.1, 0.16, green)
    blossoms(canvas, 0, 1, 1.0, 0.22, green)
    flowers(canvas, 0, top, 1, 1, 40)
    if canvas.chance(0.4):
        palm(canvas, canvas.between(0.02, 0.12), 1.0, 0.6, 0.05)


def _arch_or_fountain(canvas: Canvas, middle: float, lawn: float, green: Colour) -> None:
    if canvas.chance(0.5):
        angles = np.linspace(0, np.pi, 14)
        arch = [(middle + 0.13 * canvas.slim * np.cos(a), lawn + 0.02 - 0.16 * np.sin(a), 0.035) for a in angles]
        posts = [(middle + side * 0.13 * canvas.slim, lawn + 0.04 * i, 0.035) for side in (-1, 1) for i in range(5)]
        canvas.blobs(arch + posts, foliage(green))
        flowers(canvas, middle - 0.13 * canvas.slim, lawn - 0.15, middle + 0.13 * canvas.slim, lawn - 0.08, 25)
        return
    stone = Material((215, 210, 200), (150, 145, 135), "rough", 0.1)
    canvas.blobs([(middle, lawn + 0.16, 0.14)], stone, 0.35)
    canvas.blobs([(middle, lawn + 0.145, 0.12)], Material((150, 195, 205), (110, 165, 185), "ripples", 0.1), 0.3)
    canvas.box(middle - 0.015, lawn, middle + 0.015, lawn + 0.15, stone)
    canvas.blobs([(middle, lawn, 0.06)], stone, 0.3)
    canvas.shine(
        [(middle, lawn - 0.1), (middle + 0.05, lawn + 0.14), (middle - 0.05, lawn + 0.14)], (245, 250, 255), 0.6, 0.012
    )


def _beds(canvas: Canvas, middle: float, lawn: float, green: Colour) -> None:
    for side in (-1, 1):
        far, near = middle + side * 0.05, middle + side * 0.22
        outer = (near + side * 0.5, 1.0)
        canvas.fill(
            [(far, lawn + 0.07), (far + side * 0.08, lawn + 0.07), outer, (near, 1)], foliage(scaled(green, 0.9))
        )
        for depth in (0.15, 0.45, 0.8):
            x, y = far + depth * (near - far), lawn + 0.05 + depth * (0.9 - lawn)
            width = 0.1 + 0.3 * depth
            left, right = sorted((x + side * 0.02, x + side * (0.02 + width)))
            blossoms(canvas, left, right, y + 0.08, 0.07 + 0.1 * depth, canvas.vary(green, 10))
            flowers(canvas, left, y - 0.02, right, y + 0.07, 14)
