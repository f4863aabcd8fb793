"""The painter of a kind of picture, and how a second kind is worked into a picture."""

from collections.abc import Callable
from typing import NamedTuple

from demo_shop.scenes.canvas import Canvas, Material


class Kind(NamedTuple):
    """A kind of picture: how it fills a picture, and how it is worked into one of another kind.

    A kind that is worked in has `far` or `near` or both.
    """

    scene: Callable[[Canvas, "Kind | None"], None]
    """Paints the whole picture; the second kind, if any, is seen far away or through a window."""
    far: Callable[[Canvas, float], None] | None = None
    """Paints it beyond everything else, standing on the horizon at the given height."""
    near: Callable[[Canvas], None] | None = None
    """Paints it over the lower part of the picture, before everything else."""
    is_room: bool = False


def show_far(canvas: Canvas, horizon: float, second: Kind | None) -> bool:
    """Paint the second kind on the horizon, if it has `far`, and return whether it was painted."""
    if second is None or second.far is None:
        return False
    second.far(canvas, horizon)
    return True


def window(canvas: Canvas, left: float, top: float, right: float, bottom: float, second: Kind | None) -> None:
    """Paint a window that shows the second kind, or only the sky outside."""
    width, height = round((right - left) * canvas.width), round((bottom - top) * canvas.height)
    outside = Canvas(canvas.rng, (max(16, width), max(16, height)), canvas.light)
    if second is not None and not second.is_room:
        second.scene(outside, None)
    else:
        _plain_day(outside)
    canvas.paste(outside.image, left, top)
    _frame(canvas, left, top, right, bottom)


def _plain_day(canvas: Canvas) -> None:
    green = canvas.vary((110, 140, 90))
    canvas.box(0, 0, 1, 1, Material(canvas.light.horizon, canvas.light.clouds, "clouds", 0.05))
    canvas.box(0, canvas.between(0.5, 0.8), 1, 1, Material(green, green, "leaves", 0.15))


def _frame(canvas: Canvas, left: float, top: float, right: float, bottom: float) -> None:
    wood = canvas.vary((225, 220, 210), 15)
    corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    canvas.line(corners, wood, 0.018)
    middle = (left + right) / 2
    canvas.line([(middle, top), (middle, bottom)], wood, 0.012)
