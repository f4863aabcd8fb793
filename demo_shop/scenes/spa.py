"""Painter of a spa."""

import numpy as np

from demo_shop.scenes.canvas import Canvas, Material
from demo_shop.scenes.kind import Kind, window
from demo_shop.scenes.plants import flowers, potted_plant
from demo_shop.scenes.props import candle, scaled


def spa(canvas: Canvas, second: Kind | None) -> None:
    """Paint a tub of warm water in a tiled room, with candles, towels and stones."""
    floor = canvas.between(0.5, 0.58)
    tile = ((190, 205, 205), (205, 195, 180), (150, 175, 165), (225, 222, 215))[canvas.rng.integers(4)]
    canvas.box(0, 0, 1, floor, Material(scaled(tile, 0.9), tile, "tiles", 0.07))
    canvas.box(0, floor, 1, 1, Material(scaled(tile, 0.85), scaled(tile, 0.7), "tiles", 0.08, receding=True))
    if second is not None or canvas.chance(0.4):
        window(canvas, 0.3, 0.07, 0.72, 0.4, second)
    _bathtub(canvas, canvas.between(0.42, 0.58), canvas.between(0.84, 0.9), canvas.between(0.42, 0.5))
    _spa_comforts(canvas)
    _steam(canvas)


def spa_near(canvas: Canvas) -> None:
    """Paint a tub with candles and towels in front of everything."""
    _bathtub(canvas, canvas.between(0.35, 0.65), 1.0, canvas.between(0.36, 0.42))
    _spa_comforts(canvas)


def _bathtub(canvas: Canvas, x: float, foot: float, size: float) -> None:
    half, rim = 0.8 * size * canvas.slim, foot - 0.72 * size
    canvas.shadow(
        [(x - half, foot - 0.03), (x + half, foot - 0.03), (x + half, foot + 0.03), (x - half, foot + 0.03)], 0.45
    )
    outline = [(x + half * np.cos(a), rim + (foot - rim) * abs(np.sin(a)) ** 0.6) for a in np.linspace(0, np.pi, 24)]
    canvas.fill(outline, Material((252, 252, 250), (175, 176, 178), "soft", 0.02))
    canvas.shine(
        [(x - 0.8 * half, rim), (x - 0.5 * half, rim), (x - 0.45 * half, foot - 0.05), (x - 0.6 * half, foot - 0.06)],
        (255, 255, 255),
        0.6,
        0.02,
    )
    canvas.blobs([(x, rim, half / canvas.slim)], Material((235, 235, 233), (255, 255, 255), "soft", 0.01), 0.2)
    canvas.blobs(
        [(x, rim + 0.006, 0.92 * half / canvas.slim)],
        Material((110, 165, 170), (150, 205, 205), "caustics", 0.08, veins=(240, 250, 250), vein_start=1.0),
        0.17,
    )
    if canvas.chance(0.5):
        flowers(canvas, x - 0.5 * half, rim - 0.02, x + 0.5 * half, rim + 0.04, 25)
    tap = x + canvas.between(-0.6, 0.6) * half
    canvas.line(
        [(tap, rim - 0.07), (tap, rim - 0.25 * size), (tap + 0.05, rim - 0.27 * size), (tap + 0.06, rim - 0.2 * size)],
        (195, 198, 202),
        0.016,
    )


def _spa_comforts(canvas: Canvas) -> None:
    for x in (canvas.between(0.04, 0.12), canvas.between(0.14, 0.2), canvas.between(0.86, 0.96)):
        if canvas.chance(0.75):
            candle(canvas, x, canvas.between(0.9, 0.97), canvas.between(0.09, 0.15))
    if canvas.chance(0.7):
        _towels(canvas, canvas.between(0.72, 0.8), 0.97)
    if canvas.chance(0.5):
        _stones(canvas, canvas.between(0.25, 0.35), 0.97)
    if canvas.chance(0.4):
        potted_plant(canvas, 0.93, 0.8, 0.36)


def _towels(canvas: Canvas, x: float, foot: float) -> None:
    cloth = canvas.vary((245, 240, 230), 8)
    for dx, dy in ((0.0, 0.0), (0.11, 0.0), (0.055, 0.075)):
        canvas.blobs([(x + dx, foot - 0.045 - dy, 0.045)], Material(cloth, scaled(cloth, 0.75), "grain", 0.06))
        canvas.disc(x + dx, foot - 0.045 - dy, 0.022, scaled(cloth, 0.8))
        canvas.disc(x + dx, foot - 0.045 - dy, 0.013, cloth)


def _stones(canvas: Canvas, x: float, foot: float) -> None:
    for step, size in enumerate((0.06, 0.048, 0.035)):
        canvas.blobs([(x, foot - 0.025 - 0.04 * step, size)], Material((95, 95, 98), (38, 38, 42), "rough", 0.1), 0.45)


def _steam(canvas: Canvas) -> None:
    x = canvas.between(0.3, 0.7)
    canvas.shine([(x - 0.1, 0.2), (x + 0.05, 0.15), (x + 0.15, 0.6), (x - 0.15, 0.6)], (255, 255, 255), 0.25, 0.08)
