import numpy as np
import pyarrow as pa
from numpy.testing import assert_array_equal

from recsys.shop.gallery import Gallery
from recsys.tables.night import IMAGE_THEMES, SALE_THEMES

POSITION = {"a": 0, "b": 1, "c": 2, "é": 3}
PHOTOS = [  # unordered, as Spark reads them
    ("c", 2, "c2.jpg", [0.5, 0.0]),
    ("é", 0, "e0.jpg", [0.0, 3.0]),
    ("c", 10, "c10.jpg", None),  # could not be tagged
    ("a", 5, "a5.jpg", [1.0, 2.0]),
    ("c", 0, "c0.jpg", [0.0, 4.0]),
]
THEMES = [("c", "ski", 2.0), ("a", "pool", 1.0), ("a", "ski", 2.0)]


def gallery_of(photos: list[tuple], themes: list[tuple], names: list[str]) -> Gallery:
    tables = [
        pa.Table.from_pylist([dict(zip(table.columns, row, strict=True)) for row in rows], schema)
        for table, rows, schema in ((IMAGE_THEMES, photos, _PHOTOS), (SALE_THEMES, themes, _THEMES))
    ]
    return Gallery.from_tables(*tables, names, POSITION)


_PHOTOS = pa.schema(
    [
        ("sale_id", pa.string()),
        ("position", pa.int32()),
        ("image_uri", pa.string()),
        ("weights", pa.list_(pa.float32())),
    ]
)
_THEMES = pa.schema([("sale_id", pa.string()), ("theme", pa.string()), ("weight", pa.float32())])
GALLERY = gallery_of(PHOTOS, THEMES, ["pool", "ski"])


def test_photos_of_a_sale_are_in_order_of_position() -> None:
    assert [GALLERY.photos(sale) for sale in range(4)] == [
        ("a5.jpg",),
        (),
        ("c0.jpg", "c2.jpg", "c10.jpg"),
        ("e0.jpg",),
    ]


def test_weights_are_those_of_their_photo_and_0_where_it_has_none() -> None:
    assert_array_equal(GALLERY.first, [0, 1, 1, 4, 5])
    assert_array_equal(GALLERY.photo_themes, [[1, 2], [0, 4], [0.5, 0], [0, 0], [0, 3]])


def test_themes_of_sales_are_in_the_order_of_the_names() -> None:
    assert_array_equal(GALLERY.sale_themes, [[1, 2], [0, 0], [0, 2], [0, 0]])
    assert_array_equal(gallery_of([], THEMES, ["ski", "pool"]).sale_themes, [[2, 1], [0, 0], [2, 0], [0, 0]])


def test_main_theme_is_the_one_with_the_largest_weight_if_there_is_any() -> None:
    assert [GALLERY.main_theme(sale) for sale in range(4)] == ["ski", None, "ski", None]
    assert gallery_of([], [("a", "pool", 2.0), ("a", "ski", 1.0)], ["pool", "ski"]).main_theme(0) == "pool"
    assert gallery_of([], [], []).main_theme(0) is None


def test_arrays_are_float32() -> None:
    assert GALLERY.photo_themes.dtype == GALLERY.sale_themes.dtype == np.float32


def test_gallery_may_have_no_photos() -> None:
    empty = gallery_of([], [], ["pool"])
    assert [empty.photos(sale) for sale in range(4)] == [()] * 4
    assert (empty.photo_themes.shape, empty.sale_themes.shape) == ((0, 1), (4, 1))


def test_without_tagged_photos_there_are_no_weights() -> None:
    found = gallery_of([(*photo[:3], None) for photo in PHOTOS], [], ["pool", "ski"])
    assert found.photos(2) == ("c0.jpg", "c2.jpg", "c10.jpg")
    assert not found.photo_themes.any()
