"""Paints one photo from a mixture over the kinds of picture."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from demo_shop.scenes import buildings, castle, landscapes, rooms, shores, spa
from demo_shop.scenes.canvas import Canvas
from demo_shop.scenes.kind import Kind
from demo_shop.scenes.light import draw_light
from demo_shop.vocabulary import PICTURES

# A photo is painted larger than its final size: it is cropped at random, and scaled down smoothly.
_PAINTED, _SIZE = (352, 264), (320, 240)
_SMALLEST_CROP = 0.86
_PORTRAIT_SHARE = 0.25
KINDS = {
    "swimming_pool": Kind(shores.swimming_pool, near=shores.swimming_pool_near),
    "beach": Kind(shores.beach, shores.beach_far, shores.beach_near),
    "bedroom": Kind(rooms.bedroom, near=rooms.bedroom_near, is_room=True),
    "restaurant": Kind(rooms.restaurant, near=rooms.restaurant_near, is_room=True),
    "spa": Kind(spa.spa, near=spa.spa_near, is_room=True),
    "old_town": Kind(buildings.old_town, buildings.old_town_far),
    "snowy_mountain": Kind(landscapes.snowy_mountain, landscapes.snowy_mountain_far),
    "forest": Kind(landscapes.forest, landscapes.forest_far),
    "modern_architecture": Kind(buildings.modern_architecture, buildings.modern_architecture_far),
    "garden": Kind(landscapes.garden, near=landscapes.garden_near),
    "harbour": Kind(shores.harbour, shores.harbour_far),
    "castle": Kind(castle.castle, castle.castle_far),
}


def draw_photo(rng: np.random.Generator, mixture: NDArray[np.float64], *, portrait: bool | None = None) -> Image.Image:
    """Paint the kind with the largest share of the mixture, with the second largest, if any, worked into it.

    Args:
        rng: Decides on everything except the kinds.
        mixture: Shape (n_picture_kinds,), in the order of the vocabulary.
        portrait: Whether the photo is higher than wide; drawn if None.

    Returns:
        An RGB picture of 320 x 240 pixels, or 240 x 320.
    """
    names = list(PICTURES)
    ranked = np.argsort(-mixture, kind="stable")
    second = KINDS[names[ranked[1]]] if mixture[ranked[1]] > 0 else None
    is_portrait = rng.random() < _PORTRAIT_SHARE if portrait is None else portrait
    main, light = KINDS[names[ranked[0]]], draw_light(rng)
    canvas = Canvas(rng, _PAINTED[::-1] if is_portrait else _PAINTED, light.indoors() if main.is_room else light)
    paint(canvas, main, second)
    return _crop(canvas.finished(), rng, _SIZE[::-1] if is_portrait else _SIZE)


def paint(canvas: Canvas, main: Kind, second: Kind | None) -> None:
    """Paint a kind with a second one behind it, seen through its window, or in front of it."""
    if second is not None and second.near is not None and _is_in_front(canvas, main, second):
        main.scene(canvas, None)
        second.near(canvas)
    else:
        main.scene(canvas, second)


def _is_in_front(canvas: Canvas, main: Kind, second: Kind) -> bool:
    if main.is_room or second.is_room:
        return second.is_room
    return second.far is None or canvas.chance(0.5)


def _crop(picture: Image.Image, rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """Return a random crop of a picture, scaled to a size and mirrored in half of the cases."""
    share = rng.uniform(_SMALLEST_CROP, 1)
    width, height = share * picture.width, share * picture.height
    left, top = rng.random(2) * [picture.width - width, picture.height - height]
    cropped = picture.resize(size, Image.Resampling.BILINEAR, (left, top, left + width, top + height))
    return cropped.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else cropped
