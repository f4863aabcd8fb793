"""The pool of photos, and the gallery of each sale drawn from it: hotels are sold again with the same photos."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from demo_shop.catalogue import Catalogue, possible_pictures
from demo_shop.painting import draw_photo
from demo_shop.vocabulary import PICTURE_COMPANIONS, PICTURES

FOLDER = "photos"
_QUALITY = 85
# How many photos have a second kind worked into them, and how much of such a photo it is.
_MIXED_SHARE, _SECOND_SHARE = 0.4, 0.3
_SHORTEST_GALLERY, _LONGEST_GALLERY = 3, 6
# The first photo is what the hotel is proudest of.
_COVER_SHARPNESS, _COVER_WEIGHT = 2.0, 2.0
_SALES_AT_ONCE = 512


def draw_mixtures(rng: np.random.Generator, n_photos: int) -> NDArray[np.float64]:
    """Decide what each photo of the pool shows: one kind of picture, or a second one within it.

    Returns:
        Shape (n_photos, n_picture_kinds); a row sums to 1. Every kind leads equally many photos, give or take one.
    """
    names = list(PICTURES)
    main = rng.permutation(np.arange(n_photos) % len(names))
    second = [names.index(str(rng.choice(PICTURE_COMPANIONS[names[kind]]))) for kind in main]
    share = _SECOND_SHARE * (rng.random(n_photos) < _MIXED_SHARE)
    kinds = np.eye(len(names))
    return (1 - share)[:, None] * kinds[main] + share[:, None] * kinds[second]


def hang(rng: np.random.Generator, catalogue: Catalogue, mixtures: NDArray[np.float64]) -> pd.DataFrame:
    """Choose three to six different photos for every sale, by what the catalogue wants its pictures to show.

    Args:
        rng: Where the draws come from.
        catalogue: All sales; no photo shows a landscape that the sale's region does not have.
        mixtures: What the photos show, as from `draw_mixtures`.

    Returns:
        One row per sale and photo: sale and photo (positions), place (from 0, the cover), in this order.
    """
    possible = possible_pictures(catalogue.sales["region"].to_numpy())
    parts = []
    for start in range(0, len(possible), _SALES_AT_ONCE):
        rows = slice(start, start + _SALES_AT_ONCE)
        part = _galleries(rng, catalogue.pictures[rows], possible[rows], mixtures)
        parts.append(part.assign(sale=part["sale"] + start))
    return pd.concat(parts, ignore_index=True)


def shown(galleries: pd.DataFrame, mixtures: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of each sale's photos, its cover counted twice: shape (n_sales, n_picture_kinds)."""
    weight = np.where(galleries["place"] == 0, _COVER_WEIGHT, 1.0)
    sums = np.zeros((galleries["sale"].max() + 1, mixtures.shape[1]))
    np.add.at(sums, galleries["sale"].to_numpy(), weight[:, None] * mixtures[galleries["photo"]])
    return sums / sums.sum(axis=1, keepdims=True)


def photo_paths(n_photos: int) -> list[str]:
    """Name the photos, relative to the shop's folder."""
    return [f"{FOLDER}/photo-{number:05d}.jpg" for number in range(1, n_photos + 1)]


def write_photos(
    rng: np.random.Generator,
    mixtures: NDArray[np.float64],
    folder: Path,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Paint the photos and write them as JPEG files under an existing shop's folder.

    Args:
        rng: Where the draws come from, a generator of its own for each photo.
        mixtures: What the photos show, as from `draw_mixtures`.
        folder: The shop's folder, with a folder for photos.
        progress: Called with the photos done and the photos in all, after each.
    """
    n_photos = len(mixtures)
    generators = rng.spawn(n_photos)
    for number, (path, mixture, generator) in enumerate(zip(photo_paths(n_photos), mixtures, generators, strict=True)):
        draw_photo(generator, mixture).save(folder / path, quality=_QUALITY)
        if progress is not None:
            progress(number + 1, n_photos)


def _galleries(
    rng: np.random.Generator,
    wanted: NDArray[np.float64],
    possible: NDArray[np.bool_],
    mixtures: NDArray[np.float64],
) -> pd.DataFrame:
    """Draw without replacement, in proportion to how much of a photo's main kind is wanted."""
    main = mixtures.argmax(axis=1)
    fits = (~possible).astype(np.float64) @ (mixtures > 0).T == 0
    appeal = np.log(np.maximum(wanted, 1e-12))[:, main] - np.log(np.bincount(main)[main])
    chances = np.where(fits, rng.gumbel(size=fits.shape), -np.inf)
    cover = (_COVER_SHARPNESS * appeal + chances).argmax(axis=1)
    chances = np.where(fits, rng.gumbel(size=fits.shape), -np.inf) + appeal
    chances[np.arange(len(cover)), cover] = np.inf
    order = np.argsort(-chances, axis=1)[:, :_LONGEST_GALLERY]
    lengths = rng.integers(_SHORTEST_GALLERY, _LONGEST_GALLERY, len(cover), endpoint=True)
    sale, place = np.nonzero(np.arange(order.shape[1]) < lengths[:, None])
    return pd.DataFrame({"sale": sale, "photo": order[sale, place], "place": place})
