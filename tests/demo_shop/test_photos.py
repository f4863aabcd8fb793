import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from demo_shop import photos
from demo_shop.catalogue import Catalogue, possible_pictures
from demo_shop.vocabulary import PICTURE_COMPANIONS, PICTURE_LANDSCAPES, PICTURES, REGIONS
from recsys.tables.night import SALE_IMAGES

NAMES = list(PICTURES)
VIENNA, SICILY = (next(i for i, region in enumerate(REGIONS) if region.name == name) for name in ("Vienna", "Sicily"))


def showing(**shares: float) -> np.ndarray:
    """The mixture of a photo, by names of kinds."""
    return np.array([shares.get(name, 0.0) for name in NAMES])


def wanting(regions: list[int], wanted: np.ndarray) -> Catalogue:
    """A catalogue of sales in regions that all want the same pictures, where these are possible."""
    pictures = wanted * possible_pictures(np.array(regions))
    return Catalogue(pd.DataFrame({"region": regions}), np.empty((0, 0)), pictures, np.empty(0))


def opened(path: Path) -> tuple[str | None, tuple[int, int]]:
    """The format and the size of an image file."""
    with Image.open(path) as picture:
        return picture.format, picture.size


@pytest.fixture(scope="module")
def truth(shop) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The true mixtures of all photos and of all sales."""
    photo, sale = (pd.read_parquet(shop.folder / f"truth/{name}_pictures.parquet") for name in ("photo", "sale"))
    return photo.set_index("photo"), sale.set_index("sale_id")


def test_pictures_of_a_sale_are_the_mean_of_its_photos_with_the_cover_counted_twice(shop, truth):
    photo_pictures, sale_pictures = truth
    for sale, gallery in list(shop.sale_images.groupby("offer_id"))[::40]:
        shares = photo_pictures.loc[gallery.sort_values("place_in_gallery")["photo"]].to_numpy()
        expected = (2 * shares[0] + shares[1:].sum(axis=0)) / (len(shares) + 1)
        assert sale_pictures.loc[sale].to_numpy() == pytest.approx(expected)


def test_the_mean_of_a_gallery_by_hand():
    mixtures = np.array([showing(beach=1), showing(spa=0.5, forest=0.5), showing(castle=1)])
    galleries = pd.DataFrame({"sale": [0, 0, 0, 1, 1], "photo": [1, 0, 2, 2, 0], "position": [0, 1, 2, 0, 1]})
    shown = photos.mean_mixtures(galleries, mixtures)
    assert shown[0] == pytest.approx(showing(spa=1 / 4, forest=1 / 4, beach=1 / 4, castle=1 / 4))
    assert shown[1] == pytest.approx(showing(castle=2 / 3, beach=1 / 3))


def test_every_sale_has_three_to_six_different_photos_at_positions_without_gaps(shop):
    galleries = shop.sale_images.groupby("offer_id")
    assert set(galleries.groups) == set(shop.sales["offer_id"])
    assert sorted(galleries.size().unique()) == [3, 4, 5, 6]
    assert (galleries["place_in_gallery"].apply(sorted) == galleries.size().map(lambda n: list(range(1, n + 1)))).all()
    assert not shop.sale_images.duplicated(["offer_id", "photo"]).any()


def test_every_photo_is_a_small_jpeg_file_of_either_orientation_and_most_are_used_again(shop):
    paths = sorted(str(path.relative_to(shop.folder)) for path in shop.folder.glob("photos/*"))
    assert paths == photos.photo_paths(shop.settings.photos)
    assert paths[0] == "photos/photo-00001.jpg"
    assert set(shop.sale_images["photo"]) <= set(paths)
    assert shop.sale_images["photo"].value_counts().median() > 1
    assert {opened(shop.folder / path) for path in paths} == {("JPEG", (320, 240)), ("JPEG", (240, 320))}


def test_no_photo_of_a_sale_shows_a_landscape_that_its_region_does_not_have(shop, truth):
    landscapes = {region.name: region.landscapes for region in REGIONS}
    regions = shop.sales.set_index("offer_id")["region"]
    images = shop.sale_images.join(truth[0], on="photo")
    for kind, needed in PICTURE_LANDSCAPES.items():
        offers = images.loc[images[kind] > 0, "offer_id"].unique()
        assert len(offers) > 0
        assert all(landscapes[regions[offer]] & needed for offer in offers), kind


def test_a_cover_shows_what_is_wanted_most_more_often_than_other_photos_do():
    mixtures = photos.draw_mixtures(np.random.default_rng(0), 240)
    wanted = showing(castle=0.6, spa=0.4)
    galleries = photos.draw_galleries(np.random.default_rng(1), wanting([VIENNA] * 2_000, wanted), mixtures)
    main = mixtures[galleries["photo"]].argmax(axis=1)
    is_cover = galleries["position"] == 0
    # 0.6² : 0.4² for covers; the others are drawn without replacement from what is left, near 0.6 : 0.4.
    assert (main[is_cover] == NAMES.index("castle")).mean() == pytest.approx(0.36 / 0.52, abs=0.04)
    assert (main[~is_cover] == NAMES.index("castle")).mean() == pytest.approx(0.58, abs=0.04)


def test_a_sale_by_the_sea_may_show_a_beach_and_one_far_from_it_may_not():
    mixtures = photos.draw_mixtures(np.random.default_rng(0), 60)
    catalogue = wanting([VIENNA, SICILY] * 50, showing(beach=0.9, spa=0.1))
    galleries = photos.draw_galleries(np.random.default_rng(1), catalogue, mixtures)
    beach = photos.mean_mixtures(galleries, mixtures)[:, NAMES.index("beach")]
    assert (beach[::2] == 0).all()
    assert (beach[1::2] > 0.3).all()
    assert (galleries.groupby("sale").size() >= 3).all()


def test_every_kind_leads_equally_many_photos_and_some_hold_a_companion():
    mixtures = photos.draw_mixtures(np.random.default_rng(0), 602)
    assert mixtures.sum(axis=1) == pytest.approx(1)
    assert sorted(np.bincount(mixtures.argmax(axis=1))) == [50] * 10 + [51] * 2
    is_mixed = (mixtures > 0).sum(axis=1) == 2
    assert is_mixed.mean() == pytest.approx(0.4, abs=0.06)
    for mixture in mixtures[is_mixed]:
        main, second = np.argsort(-mixture)[:2]
        assert NAMES[second] in PICTURE_COMPANIONS[NAMES[main]]
        assert mixture[[main, second]] == pytest.approx([0.7, 0.3])


def test_sql_counts_positions_from_zero_and_names_the_files(shop):
    sql = Path("conf/sources/demo/sale_images.sql").read_text().format(raw_sale_images="raw_sale_images")
    with closing(sqlite3.connect(":memory:")) as connection:
        shop.sale_images.to_sql("raw_sale_images", connection, index=False)
        images = pd.read_sql(sql, connection)
    assert list(images) == list(SALE_IMAGES.columns)
    assert images["position"].tolist() == (shop.sale_images["place_in_gallery"] - 1).tolist()
    assert images["sale_id"].tolist() == shop.sale_images["offer_id"].tolist()
    assert (shop.folder / images["image_uri"].iloc[-1]).is_file()
