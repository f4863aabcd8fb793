"""Trees, shrubs and flowers. Heights and radii are in fractions of the picture's height."""

import numpy as np

from demo_shop.scenes.canvas import Canvas, Material
from demo_shop.scenes.light import Colour

PETALS: tuple[Colour, ...] = (
    (225, 60, 80),
    (240, 160, 190),
    (250, 215, 80),
    (150, 90, 190),
    (250, 245, 240),
    (240, 120, 50),
)


def leaf_green(canvas: Canvas) -> Colour:
    """Draw a green."""
    return canvas.vary((78, 118, 52), 14)


def foliage(green: Colour, contrast: float = 0.28) -> Material:
    """Return what a mass of leaves looks like: lighter above."""
    red, dark_green, blue = green
    return Material(
        (red * 1.25, dark_green * 1.2, blue * 1.1), (red * 0.6, dark_green * 0.6, blue * 0.6), "leaves", contrast
    )


def tree(canvas: Canvas, x: float, foot: float, height: float, green: Colour) -> None:
    """Paint a broad-leaved tree."""
    wide = 0.035 * height * canvas.slim
    trunk = Material((105, 82, 60), (70, 54, 40), "bark", 0.2)
    canvas.fill(
        [(x - wide, foot), (x - wide / 2, foot - height / 2), (x + wide / 2, foot - height / 2), (x + wide, foot)],
        trunk,
    )
    crown = canvas.rng.normal(0, 0.17 * height, (9, 2)) * [canvas.slim, 0.8]
    middle = foot - 0.68 * height
    canvas.blobs([(x + dx, middle + dy, 0.19 * height) for dx, dy in crown], foliage(green))


def hedge(canvas: Canvas, left: float, right: float, foot: float, height: float, green: Colour) -> None:
    """Paint a row of shrubs that grow into each other."""
    steps = np.arange(left, right, 0.4 * height * canvas.slim)
    sizes = canvas.rng.uniform(0.45, 0.65, len(steps)) * height
    canvas.box(left, foot - 0.5 * height, right, foot, foliage(green))
    canvas.blobs([(x, foot - 0.5 * height, size) for x, size in zip(steps, sizes, strict=True)], foliage(green))


def conifer(canvas: Canvas, x: float, foot: float, height: float, green: Colour) -> None:
    """Paint a fir: jagged steps, lit from the left."""
    wide = 0.2 * height * canvas.slim
    levels = np.linspace(0, 1, 6)
    jitter = canvas.rng.uniform(0.8, 1.2, len(levels))
    left = [(x, foot - height)]
    right = [(x, foot - height)]
    for level, stretch in zip(levels[1:], jitter, strict=False):
        y = foot - height * (1 - level)
        out, back = wide * level * stretch, 0.55 * wide * level
        left += [(x - out, y), (x - back, y - 0.02 * height)]
        right += [(x + out, y), (x + back, y - 0.02 * height)]
    red, middle, blue = green
    canvas.shape([*left, (x, foot)], (red * 1.15, middle * 1.15, blue * 1.1))
    canvas.shape([*right, (x, foot)], (red * 0.7, middle * 0.7, blue * 0.75))


def conifers(canvas: Canvas, left: float, right: float, foot: float, height: float, green: Colour) -> None:
    """Paint a closed row of firs of uneven height."""
    n_trees = max(2, int((right - left) / (0.17 * height * canvas.slim)))
    for x in np.linspace(left, right, n_trees):
        jitter = 0.03 * canvas.rng.standard_normal()
        size = height * canvas.between(0.65, 1.1)
        conifer(canvas, x + jitter, foot + canvas.between(0, 0.03), size, canvas.vary(green, 7))


def palm(canvas: Canvas, x: float, foot: float, height: float, lean: float) -> None:
    """Paint a palm whose trunk leans by `lean` heights."""
    steps = np.linspace(0, 1, 7)
    trunk = [(x + lean * canvas.slim * s**1.6, foot - height * s) for s in steps]
    canvas.line(trunk, (95, 75, 55), 0.028 * height + 0.006)
    canvas.line([(px - 0.004, y) for px, y in trunk], (140, 115, 85), 0.008 * height + 0.003)
    top_x, top_y = trunk[-1]
    green = canvas.vary((60, 105, 45), 8)
    for angle in np.linspace(-0.3, np.pi + 0.3, 10):
        _frond(canvas, top_x, top_y, angle + 0.12 * canvas.rng.standard_normal(), 0.42 * height, canvas.vary(green, 14))


def _frond(canvas: Canvas, x: float, y: float, angle: float, length: float, green: Colour) -> None:
    steps = np.linspace(0, 1, 7)
    rib_x = x + np.cos(angle) * length * steps * canvas.slim
    rib_y = y - np.sin(angle) * length * steps * 0.6 + 0.55 * length * steps**2
    width = 0.1 * length * np.sin(np.pi * np.clip(steps + 0.08, 0, 1))
    upper = list(zip(rib_x, rib_y - width / 2, strict=True))
    lower = list(zip(rib_x, rib_y + width * 1.6, strict=True))
    canvas.shape([*upper, *reversed(lower)], green)


def flowers(canvas: Canvas, left: float, top: float, right: float, bottom: float, n_flowers: int) -> None:
    """Strew flowers of two or three colours over a rectangle, larger below."""
    chosen = [PETALS[i] for i in canvas.rng.choice(len(PETALS), 3, replace=False)]
    depth = np.sort(canvas.rng.random(n_flowers))
    xs = canvas.rng.uniform(left, right, n_flowers)
    for part, radius in zip(np.array_split(np.arange(n_flowers), 3), (0.006, 0.009, 0.013), strict=True):
        ys = top + (bottom - top) * depth[part]
        canvas.dots(xs[part] + 0.004, ys + 0.006, radius, [(45, 70, 35)])
        canvas.dots(xs[part], ys, radius, chosen)


def blossoms(canvas: Canvas, left: float, right: float, foot: float, height: float, green: Colour) -> None:
    """Paint shrubs in bloom, each in a colour of its own."""
    wide = 0.8 * height * canvas.slim
    for x in np.arange(left, right + 0.5 * wide, wide):
        size, leaves = height * canvas.between(0.4, 0.6), foliage(canvas.vary(green, 8))
        petal = canvas.vary(PETALS[canvas.rng.integers(len(PETALS))], 12)
        shrub = leaves._replace(veins=petal, vein_start=canvas.between(0.0, 0.8))
        around = canvas.rng.normal(0, 0.3 * size, (4, 2)) * [canvas.slim, 0.6]
        canvas.blobs([(x + dx, foot - 0.6 * size + dy, 0.7 * size) for dx, dy in around], shrub, 0.8)


def potted_plant(canvas: Canvas, x: float, foot: float, height: float) -> None:
    """Paint a shrub in a terracotta pot."""
    wide = 0.2 * height * canvas.slim
    rim = foot - 0.35 * height
    clay = Material((205, 120, 80), (135, 70, 45), "folds", 0.08)
    canvas.fill([(x - wide, rim), (x + wide, rim), (x + 0.7 * wide, foot), (x - 0.7 * wide, foot)], clay)
    canvas.block(x - 1.12 * wide, rim - 0.03 * height, x + 1.12 * wide, rim + 0.04 * height, (215, 135, 95))
    crown = canvas.rng.normal(0, 0.1 * height, (6, 2)) * [canvas.slim, 1]
    canvas.blobs([(x + dx, rim - 0.25 * height + dy, 0.16 * height) for dx, dy in crown], foliage(leaf_green(canvas)))
