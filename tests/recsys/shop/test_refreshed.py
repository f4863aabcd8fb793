from dataclasses import replace

import numpy as np
import pytest

from recsys.shop.catalogue import Catalogue
from recsys.shop.gallery import Gallery
from recsys.shop.refreshed import content_digest, refreshed_catalogue, refreshed_horizon
from recsys.testing.shops import AS_OF, instant, make_shop, sale

NIGHT = [
    sale("b", title="before", price=10.0, country="FR"),
    sale("c", -9, -2),  # closed
    sale("d", 0.5, 3),  # opens at noon
    sale("f", -1, 0.2),
]


def catalogue_of(*rows: dict) -> Catalogue:
    return make_shop(list(rows), []).catalogue


def with_gallery(catalogue: Catalogue, photos: dict[str, list[str]], themes: int = 2) -> Catalogue:
    """Return a catalogue with photos; a photo's themes are the length of its name, a sale's those of its first."""
    uris = [photos.get(sale_id, []) for sale_id in catalogue.sale_ids]
    flat = [uri for some in uris for uri in some]
    weights = np.array([[len(uri)] * themes for uri in flat], np.float32).reshape(len(flat), themes)
    of_sales = np.array([[len(some[0]) if some else 0] * themes for some in uris], np.float32)
    first = np.cumsum([0, *map(len, uris)])
    return replace(catalogue, gallery=Gallery(first, flat, ["pool", "snow"][:themes], weights, of_sales))


def test_known_sales_keep_their_positions_and_new_ones_follow():
    now = catalogue_of(sale("a"), *NIGHT, sale("e", 0.4, 2))
    refreshed = refreshed_catalogue(catalogue_of(*NIGHT), now, AS_OF)
    assert refreshed.sale_ids == ["b", "c", "d", "f", "a", "e"]
    catalogue, horizon = refreshed_horizon(catalogue_of(*NIGHT).horizon(AS_OF, 24), refreshed)
    assert [catalogue.sale_ids[place] for place in horizon.sales] == ["b", "d", "f", "a", "e"]
    assert horizon.columns(np.arange(6, dtype=np.int32)).tolist() == [0, -1, 1, 2, 3, 4]


def test_known_sale_that_opens_again_follows_the_horizon_of_the_night():
    now = catalogue_of(NIGHT[0], sale("c", 0.5, 1), *NIGHT[2:])
    catalogue, horizon = refreshed_horizon(
        catalogue_of(*NIGHT).horizon(AS_OF, 24), refreshed_catalogue(catalogue_of(*NIGHT), now, AS_OF)
    )
    assert [catalogue.sale_ids[place] for place in horizon.sales] == ["b", "d", "f", "c"]
    assert horizon.columns(np.arange(5, dtype=np.int32)).tolist() == [0, 3, 1, 2, -1]  # 4 is not in the catalogue


def test_known_sale_is_as_the_table_has_it_now():
    now = catalogue_of(sale("b", 0, 2, title="after", description="x", price=12.0, country="IT"), *NIGHT[1:])
    refreshed = refreshed_catalogue(catalogue_of(*NIGHT), now, AS_OF)
    assert (refreshed.titles[0], refreshed.texts[0], refreshed.prices[0]) == ("after", "after x", 12.0)
    assert refreshed.attributes[0] == {"country": "IT"}
    assert (refreshed.opens_at[0], refreshed.closes_at[0]) == (instant(0), instant(2))


@pytest.mark.parametrize(("lost", "opens"), [("b", instant(-1)), ("d", AS_OF - 1), ("c", instant(-9))])
def test_sale_that_is_there_no_more_keeps_its_place_and_is_not_open(lost, opens):
    night = catalogue_of(*NIGHT)
    now = catalogue_of(*(row for row in NIGHT if row["sale_id"] != lost))
    catalogue, horizon = refreshed_horizon(night.horizon(AS_OF, 24), refreshed_catalogue(night, now, AS_OF))
    place = night.position[lost]
    assert catalogue.sale_ids == night.sale_ids
    assert horizon.sales.tolist() == [0, 2, 3]
    assert catalogue.closes_at[place] == min(AS_OF, night.closes_at[place])
    assert (catalogue.opens_at[place], catalogue.titles[place]) == (opens, night.titles[place])


def test_window_that_ended_before_the_night_ends_at_its_instant():
    night = catalogue_of(*NIGHT)
    now = catalogue_of(sale("b", -5, -4), *NIGHT[1:])
    catalogue, horizon = refreshed_horizon(night.horizon(AS_OF, 24), refreshed_catalogue(night, now, AS_OF))
    assert (catalogue.opens_at[0], catalogue.closes_at[0]) == (instant(-5), AS_OF)
    assert horizon.open_share[0] == 0
    assert horizon.sales.tolist() == [0, 2, 3]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (["x", "yy", "zzz"], ["x", "yy", "zzz"], ["x", "yy", "zzz"]),
        (["x", "yy", "zzz"], ["x", "zzz"], ["x", "x", "zzz"]),  # the second was removed: its place shows the cover
        (["x", "yy", "zzz"], ["new", "zzz", "x"], ["new", "new", "zzz", "x"]),  # another cover
        (["x"], ["x", "yy"], ["x", "yy"]),
        (["x", "yy"], [], ["x", "yy"]),  # none is left
        ([], ["x", "yy"], ["x", "yy"]),
        (["x", "yy", "x"], ["x", "yy", "x"], ["x", "yy", "x"]),  # the same photo twice
    ],
)
def test_photos_keep_their_positions_in_their_sale(before, after, expected):
    night = with_gallery(catalogue_of(*NIGHT), {"b": before, "f": ["other"]})
    now = with_gallery(catalogue_of(*NIGHT, sale("g")), {"b": after, "f": ["other"], "g": ["of g"]})
    gallery = refreshed_catalogue(night, now, AS_OF).gallery
    assert list(gallery.photos(0)) == expected
    rows = slice(gallery.first[0], gallery.first[1])
    assert gallery.photo_themes[rows].tolist() == [[len(uri)] * 2 for uri in expected]
    assert gallery.sale_themes[0].tolist() == [len((after or before)[0])] * 2
    assert [gallery.photos(place) for place in (3, 4)] == [("other",), ("of g",)]


def test_sale_that_is_there_no_more_keeps_its_photos():
    night = with_gallery(catalogue_of(*NIGHT), {"b": ["x"], "f": ["yy"]})
    now = with_gallery(catalogue_of(*NIGHT[1:]), {"f": ["yy"]})
    gallery = refreshed_catalogue(night, now, AS_OF).gallery
    assert (gallery.photos(0), gallery.photos(3)) == (("x",), ("yy",))
    assert gallery.sale_themes[:, 0].tolist() == [1, 0, 0, 2]


def test_first_photos_of_a_shop_are_shown_and_have_no_theme():
    now = with_gallery(catalogue_of(*NIGHT), {"b": ["x"]}, themes=0)
    refreshed = refreshed_catalogue(catalogue_of(*NIGHT), now, AS_OF)
    assert refreshed.gallery.photos(0) == ("x",)
    assert not refreshed.has_themes


def test_shop_that_lost_all_photos_keeps_the_features_of_the_night():
    night = with_gallery(catalogue_of(*NIGHT), {"b": ["x"]})
    assert refreshed_catalogue(night, catalogue_of(*NIGHT), AS_OF).has_themes


def test_digest_is_the_same_only_where_nothing_has_changed():
    night = with_gallery(catalogue_of(*NIGHT), {"b": ["x"]})
    assert content_digest(refreshed_catalogue(night, night, AS_OF)) == content_digest(night)
    others = [
        catalogue_of(*NIGHT),
        with_gallery(catalogue_of(*NIGHT), {"b": ["y"]}),
        *(
            with_gallery(catalogue_of(NIGHT[0] | change, *NIGHT[1:]), {"b": ["x"]})
            for change in ({"description": "more"}, {"price": 11.0}, {"attributes": None}, {"closes_at": instant(2)})
        ),
    ]
    assert len({content_digest(each) for each in (night, *others)}) == 7
