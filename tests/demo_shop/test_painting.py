import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from demo_shop.painting import KINDS, draw_photo
from demo_shop.vocabulary import PICTURE_COMPANIONS, PICTURES

NAMES = list(PICTURES)


def photo(kind: str, seed: int, second: str | None = None, portrait: bool | None = None) -> Image.Image:
    mixture = np.zeros(len(NAMES))
    mixture[NAMES.index(kind)] = 0.7 if second else 1.0
    if second:
        mixture[NAMES.index(second)] = 0.3
    return draw_photo(np.random.default_rng(seed), mixture, portrait=portrait)


def pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture, dtype=np.float64)


def features(picture: Image.Image) -> np.ndarray:
    """Mean colour and mean local contrast of 4 x 4 parts of the picture."""
    small = pixels(picture.resize((64, 64))).reshape(4, 16, 4, 16, 3)
    return np.concatenate([small.mean(axis=(1, 3)).ravel(), small.std(axis=(1, 3)).ravel()])


def test_there_is_a_painter_for_every_kind_of_picture():
    assert KINDS.keys() == PICTURES.keys() == PICTURE_COMPANIONS.keys()


@pytest.mark.parametrize("kind", NAMES)
def test_a_painter_draws_at_any_seed_in_both_orientations(kind):
    for seed in range(12):
        portrait = seed % 2 == 1
        picture = photo(kind, seed, portrait=portrait)
        assert picture.size == ((240, 320) if portrait else (320, 240))
        assert pixels(picture).std() > 15


@pytest.mark.parametrize("kind", NAMES)
def test_every_companion_can_be_seen(kind):
    for second in PICTURE_COMPANIONS[kind]:
        changed = np.abs(pixels(photo(kind, 3, second, portrait=False)) - pixels(photo(kind, 3, portrait=False)))
        assert changed.mean() > 2, second


@pytest.mark.parametrize("kind", NAMES)
def test_two_photos_of_a_kind_differ_and_the_same_seed_draws_the_same(kind):
    one, again, other = (pixels(photo(kind, seed, portrait=False)) for seed in (1, 1, 2))
    assert (one == again).all()
    assert np.abs(one - other).mean() > 10


def test_kinds_can_be_told_apart_by_coarse_colour_and_contrast():
    n_photos, n_learnt = 24, 16
    kind = np.repeat(np.arange(len(NAMES)), n_photos)
    rows = np.array([features(photo(NAMES[k], 100 + i)) for i, k in enumerate(kind)])
    learns = np.tile(np.arange(n_photos) < n_learnt, len(NAMES))
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500)).fit(rows[learns], kind[learns])
    # Chance is 1 / 12.
    assert model.score(rows[~learns], kind[~learns]) > 0.7
