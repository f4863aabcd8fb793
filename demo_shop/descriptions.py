"""Titles and descriptions in English; their words name region, kind of stay and amenities.

They seldom say what the photos show: that must be learnt from the photos.
"""

import numpy as np
import pandas as pd

from demo_shop.catalogue import Catalogue
from demo_shop.vocabulary import AMENITIES, CATEGORIES, CLOSINGS, HOUSES, NAMES, PICTURES, REGIONS

_TITLES = (
    "{phrase} {place} with {amenity}",
    "{region}: {phrase}",
    "{house} {place}: {phrase}",
    "{phrase} {place}, {nights} nights",
)
_PICTURE_SENTENCE_SHARE = 0.25


def describe(rng: np.random.Generator, catalogue: Catalogue) -> pd.DataFrame:
    """Return the title and the description of every sale, in the order of the catalogue."""
    sales = catalogue.sales
    # One uniform draw per choice of words.
    draws = rng.random((len(sales), 6))
    rows = zip(
        sales["region"],
        sales["category"],
        sales["nights"],
        sales["discount"],
        catalogue.amenities,
        catalogue.pictures.argmax(axis=1),
        draws,
        strict=True,
    )
    return pd.DataFrame([_title_and_description(*row) for row in rows], columns=["title", "description"])


def _title_and_description(
    region: int,
    category: int,
    nights: int,
    discount: int,
    has_amenity: np.ndarray,
    leading_picture: int,
    draw: np.ndarray,
) -> tuple[str, str]:
    stay, place = CATEGORIES[category], REGIONS[region].place
    house = f"{_choose(HOUSES, draw[0])} {_choose(NAMES, draw[1])}"
    included = [AMENITIES[position] for position in np.flatnonzero(has_amenity)]
    title = _choose(_TITLES, draw[2]).format(
        phrase=_choose(stay.phrases, draw[3]),
        place=place,
        region=REGIONS[region].name,
        house=house,
        amenity=included[0],
        nights=nights,
    )
    in_words = [tuple(PICTURES.values())[leading_picture]] if draw[4] < _PICTURE_SENTENCE_SHARE else []
    sentences = [
        f"{house} welcomes you {place}, {REGIONS[region].country}, for {nights} nights.",
        stay.sentence,
        f"The stay includes {', '.join(included[:-1])} and {included[-1]}.",
        *in_words,
        _choose(CLOSINGS, draw[5]).format(discount=discount),
    ]
    return title[0].upper() + title[1:], " ".join(sentences)


def _choose(words: tuple[str, ...], draw: float) -> str:
    return words[int(draw * len(words))]
