import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from recsys.ranking.covers import CHOICES, SAME, Covers
from recsys.shop.catalogue import Horizon
from recsys.shop.gallery import Gallery


def gallery_of(*sales: list[list[float]]) -> Gallery:
    """Return the gallery of sales, each given by the themes of its photos."""
    photos = [photo for sale in sales for photo in sale]
    n_themes = max(len(photo) for photo in photos)
    first = np.cumsum([0, *map(len, sales)])
    themes = np.array(photos, np.float32).reshape(len(photos), n_themes)
    names, uris = [f"theme {number}" for number in range(n_themes)], [f"{number}.jpg" for number in range(len(photos))]
    return Gallery(first, uris, names, themes, np.zeros((len(sales), n_themes), np.float32))


def horizon_of(*sales: int) -> Horizon:
    return Horizon(0, 1, np.array(sales, np.int32), np.ones(len(sales), np.float32))


def chosen(gallery: Gallery, users: list[list[float]], sales: tuple[int, ...] | None = None) -> list[list[int]]:
    """Return the position of the photo of each sale of a horizon, all by default, for each user."""
    sales = tuple(range(len(gallery.first) - 1)) if sales is None else sales
    columns = np.tile(np.arange(len(sales)), (len(users), 1))
    profiles = np.array(users, np.float32).reshape(len(users), len(gallery.theme_names))
    return Covers(gallery, horizon_of(*sales)).choose(profiles, columns.reshape(len(users), len(sales))).tolist()


GALLERY = gallery_of(
    [[1, 0], [0, 1]],
    [],  # a sale without photos
    [[3, 4]],
    [[0, 2], [0.1, 0], [5, 5]],
)


def test_photo_is_the_one_most_similar_to_the_user() -> None:
    users = [[1, 0], [0, 9], [2, 2]]
    assert chosen(GALLERY, users) == [
        [0, 0, 0, 1],  # its length does not matter: a profile of 0.1 has the same cosines as one of 1
        [1, 0, 0, 0],
        [0, 0, 0, 2],
    ]


def test_user_without_a_profile_gets_the_cover() -> None:
    assert chosen(GALLERY, [[0, 0]]) == [[0, 0, 0, 0]]


def test_cover_is_chosen_where_no_photo_is_similar_to_the_user() -> None:
    assert chosen(gallery_of([[0, 1, 0], [0, 0, 1]]), [[1, 0, 0]]) == [[0]]


def test_photo_that_could_not_be_tagged_is_not_chosen_over_a_similar_one() -> None:
    assert chosen(gallery_of([[0, 0], [0, 1]]), [[1, 1], [1, 0]]) == [[1], [0]]


def test_sales_are_columns_of_the_horizon_in_any_order() -> None:
    covers = Covers(GALLERY, horizon_of(0, 3))
    users = np.array([[1, 0], [0, 9]], np.float32)
    assert_array_equal(covers.choose(users, np.array([[1, 0], [0, 1]])), [[1, 0], [1, 0]])
    assert covers.choose(users, np.array([[1], [1]])).dtype == np.uint8


def test_photo_is_chosen_among_the_first_ones() -> None:
    themes = np.eye(CHOICES + 2).tolist()
    gallery = gallery_of(themes)
    assert chosen(gallery, [themes[CHOICES - 1]]) == [[CHOICES - 1]]
    assert chosen(gallery, [themes[CHOICES]]) == [[0]]


def test_horizon_without_photos_has_covers() -> None:
    assert chosen(GALLERY, [[1, 0]], (1,)) == [[0]]


@pytest.mark.parametrize("n_users", [1, 2, 7, 64])
def test_of_equal_photos_the_first_is_chosen_for_blocks_of_any_size(n_users: int) -> None:
    rng = np.random.default_rng(0)
    photo, other = rng.random((2, 31)).astype(np.float32)
    gallery = gallery_of(*[[(1 + sale) * photo, other, photo, 7 * photo] for sale in range(40)])
    users = photo + 0.01 * rng.random((n_users, 31))
    assert_array_equal(chosen(gallery, users), np.zeros((n_users, 40)))


@given(seed=st.integers(0, 10_000))
def test_photos_agree_with_cosines_one_by_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n_themes = int(rng.integers(1, 6))

    def some(n_rows: int) -> np.ndarray:
        return (rng.random((n_rows, n_themes)) * (rng.random((n_rows, n_themes)) < 0.5)).astype(np.float32)

    counts = [*rng.integers(0, CHOICES + 4, 5), 1]
    photos = [some(count) for count in counts]
    gallery = Gallery(np.cumsum([0, *counts]), [], ["t"] * n_themes, np.concatenate(photos), np.zeros((6, n_themes)))
    sales = np.flatnonzero(rng.random(6) < 0.7) if rng.random() < 0.8 else np.array([5])
    sales = sales if len(sales) else np.array([0])
    users, columns = some(4), rng.integers(0, len(sales), (4, 3))
    found = Covers(gallery, horizon_of(*sales)).choose(users, columns)
    for user, column in np.ndindex(4, 3):
        of_sale = photos[sales[columns[user, column]]][:CHOICES]
        cosines = [
            float(users[user] @ photo / (np.linalg.norm(photo) or 1) / (np.linalg.norm(users[user]) or 1))
            for photo in of_sale
        ]
        # Photos that differ by no more than SAME are equal, give and take the rounding of float32.
        most = max(cosines, default=0.0)
        first = {
            next((n for n, value in enumerate(cosines) if value >= most * (1 - share * SAME)), 0)
            for share in (0.8, 1.2)
        }
        assert found[user, column] in first


@pytest.mark.parametrize("users", [0, 1, 2])
def test_photos_without_a_theme_are_shown_cover_first(users: int) -> None:
    assert chosen(gallery_of([[], []], [], [[]]), [[]] * users) == [[0, 0, 0]] * users
