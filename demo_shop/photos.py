"""The pool of photos, and the gallery of each sale drawn from it: several sales of a hotel share photos."""

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
# Share of the photos that show a second kind, and the share of that kind in such a photo.
_MIXED_SHARE, _SECOND_SHARE = 0.4, 0.3
_SHORTEST_GALLERY, _LONGEST_GALLERY = 3, 6
# The cover is drawn more sharply by what is wanted, and counts twice.
_COVER_SHARPNESS, _COVER_WEIGHT = 2.0, 2.0
_BATCH_OF_SALES = 512


def draw_mixtures(rng: np.random.Generator, n_photos: int) -> NDArray[np.float64]:
    """Draw the kinds of picture that each photo of the pool shows: one, or two.

    Returns:
        Shape (n_photos, n_picture_kinds); a row sums to 1. Numbers of photos by main kind differ by at most 1.
    """
    names = list(PICTURES)
    main = rng.permutation(np.arange(n_photos) % len(names))
    second = [names.index(str(rng.choice(PICTURE_COMPANIONS[names[kind]]))) for kind in main]
    share = _SECOND_SHARE * (rng.random(n_photos) < _MIXED_SHARE)
    kinds = np.eye(len(names))
    return (1 - share)[:, None] * kinds[main] + share[:, None] * kinds[second]


def draw_galleries(rng: np.random.Generator, catalogue: Catalogue, mixtures: NDArray[np.float64]) -> pd.DataFrame:
    """Draw three to six different photos for every sale, by the kinds of picture that the catalogue wants.

    Args:
        rng: The generator of all draws.
        catalogue: All sales; no photo shows a landscape that the sale's region does not have.
        mixtures: The kinds of picture of each photo, as from `draw_mixtures`.

    Returns:
        One row per sale and photo: sale and photo (indices), position (from 0, the cover), by sale and position.
    """
    possible = possible_pictures(catalogue.sales["region"].to_numpy())
    parts = []
    for start in range(0, len(possible), _BATCH_OF_SALES):
        rows = slice(start, start + _BATCH_OF_SALES)
        part = _draw_batch_of_galleries(rng, catalogue.pictures[rows], possible[rows], mixtures)
        parts.append(part.assign(sale=part["sale"] + start))
    return pd.concat(parts, ignore_index=True)


def mean_mixtures(galleries: pd.DataFrame, mixtures: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean mixture of each sale's photos, the cover counted twice, shape (n_sales, n_picture_kinds)."""
    weight = np.where(galleries["position"] == 0, _COVER_WEIGHT, 1.0)
    sums = np.zeros((galleries["sale"].max() + 1, mixtures.shape[1]))
    np.add.at(sums, galleries["sale"].to_numpy(), weight[:, None] * mixtures[galleries["photo"]])
    return sums / sums.sum(axis=1, keepdims=True)


def photo_paths(n_photos: int) -> list[str]:
    """Return the paths of the photos, relative to the shop's folder."""
    return [f"{FOLDER}/photo-{number:05d}.jpg" for number in range(1, n_photos + 1)]


def write_photos(
    rng: np.random.Generator,
    mixtures: NDArray[np.float64],
    folder: Path,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Paint the photos and write them as JPEG files under an existing shop's folder.

    Args:
        rng: The generator that a generator for each photo is spawned from.
        mixtures: The kinds of picture of each photo, as from `draw_mixtures`.
        folder: The shop's folder, with a folder for photos.
        progress: Called after each photo with the number done and the number in all.
    """
    n_photos = len(mixtures)
    generators = rng.spawn(n_photos)
    for number, (path, mixture, generator) in enumerate(zip(photo_paths(n_photos), mixtures, generators, strict=True)):
        draw_photo(generator, mixture).save(folder / path, quality=_QUALITY)
        if progress is not None:
            progress(number + 1, n_photos)


def _draw_batch_of_galleries(
    rng: np.random.Generator,
    wanted: NDArray[np.float64],
    possible: NDArray[np.bool_],
    mixtures: NDArray[np.float64],
) -> pd.DataFrame:
    """Draw photos without replacement, with probabilities in proportion to the wanted share of their main kind."""
    main = mixtures.argmax(axis=1)
    fits = (~possible).astype(np.float64) @ (mixtures > 0).T == 0
    appeal = np.log(np.maximum(wanted, 1e-12))[:, main] - np.log(np.bincount(main)[main])
    chances = np.where(fits, rng.gumbel(size=fits.shape), -np.inf)
    cover = (_COVER_SHARPNESS * appeal + chances).argmax(axis=1)
    chances = np.where(fits, rng.gumbel(size=fits.shape), -np.inf) + appeal
    chances[np.arange(len(cover)), cover] = np.inf
    order = np.argsort(-chances, axis=1)[:, :_LONGEST_GALLERY]
    lengths = rng.integers(_SHORTEST_GALLERY, _LONGEST_GALLERY, len(cover), endpoint=True)
    sale, position = np.nonzero(np.arange(order.shape[1]) < lengths[:, None])
    return pd.DataFrame({"sale": sale, "photo": order[sale, position], "position": position})
