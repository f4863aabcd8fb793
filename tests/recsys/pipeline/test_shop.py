import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.testing import assert_array_equal

from recsys.errors import EmptyInputError, ModelError
from recsys.images.themes import theme_store
from recsys.images.themes.themes import THEME_MODEL, no_themes
from recsys.instants import DAY
from recsys.meta_model import LogisticModel
from recsys.pipeline.shop import Shop
from recsys.ranking.ranker import Ranker
from recsys.ranking.scorer import pack
from recsys.recommenders import RecommenderSettings
from recsys.shop.histories import Histories
from recsys.storage.outputs import Outputs
from recsys.testing.shops import AS_OF, HISTORY, ShopData, make_shop, random_shop, sale, visit
from tests.helpers.shops import with_photos, write_photos


def test_catalogue_is_read_from_the_folder(fitted):
    assert fitted.shop.catalogue.sale_ids == fitted.data.catalogue.sale_ids
    assert fitted.shop.catalogue is replace(fitted.shop).catalogue  # kept between tasks of a worker


def test_changed_table_is_read_again(fitted_shop):
    shop = fitted_shop(make_shop([sale("a", -9, 9)], [visit("u", "a", -1)])).shop
    assert shop.catalogue.sale_ids == ["a"]
    other = Path(shop.outputs.folder) / "data/later"
    other.mkdir(parents=True)
    pq.write_table(make_shop([sale("b", -9, 9)], []).sales, other / "part.parquet")
    assert shop.catalogue.sale_ids == ["a"]
    assert replace(shop, outputs=Outputs(shop.outputs.folder, (("sales", "data/later"),))).catalogue.sale_ids == ["b"]


def test_scorer_is_that_of_the_instant(fitted):
    for as_of in fitted.instants:
        scorer = fitted.shop.scorer(as_of)
        assert scorer.horizon.as_of == as_of
        known = fitted.data.block.as_of(as_of, fitted.shop.history)
        for found, expected in zip(scorer.features(known), fitted.scorer(as_of).features(known), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_recommenders_that_are_left_out_are_not_loaded(fitted):
    shop = replace(fitted.shop, recommender_settings=RecommenderSettings(without=("collaborative", "activity")))
    names = [recommender.name for recommender in shop.recommenders]
    assert shop.scorer(AS_OF).names == names
    assert {"collaborative", "activity"}.isdisjoint(names)


def test_instant_at_which_no_sale_is_open_is_an_error_that_names_its_window(fitted):
    with pytest.raises(EmptyInputError, match=r"no sale is open in \[2027-03-01 00:00, 2027-03-02 12:00\) UTC"):
        fitted.shop.horizon(AS_OF + 365 * DAY)


# A shop with photos.

DATA = with_photos(random_shop(5))


def shop_in(folder: Path, data: ShopData, version: str = "1") -> Shop:
    (folder / "sales").mkdir(parents=True, exist_ok=True)
    pq.write_table(data.sales, folder / "sales/part.parquet")
    return Shop(Outputs(str(folder), (("changed", version),)), HISTORY, RecommenderSettings(), horizon_hours=36)


@pytest.fixture
def illustrated(tmp_path) -> Shop:
    write_photos(tmp_path, DATA.catalogue)
    return shop_in(tmp_path, DATA)


def names_of(shop: Shop) -> list[str]:
    return [recommender.name for recommender in shop.recommenders]


def test_gallery_is_read_from_the_folder(illustrated):
    found, expected = illustrated.catalogue.gallery, DATA.catalogue.gallery
    assert (found.uris, found.theme_names) == (expected.uris, expected.theme_names)
    for name in ("first", "photo_themes", "sale_themes"):
        assert_array_equal(getattr(found, name), getattr(expected, name))
    assert "content_images" in names_of(illustrated)
    ranker, again = ranker_of(illustrated), illustrated.ranker(AS_OF, NOTHING_WEIGHS)
    assert ranker.covers is again.covers is not None  # kept between tasks of a worker
    assert ranker.scorer is again.scorer


NOTHING_WEIGHS = LogisticModel([], [], [], [], 0.0)


def ranker_of(shop: Shop) -> Ranker:
    """The ranker of the night at AS_OF, from a table written without Spark."""
    horizon = shop.horizon(AS_OF)
    nobody = Histories.of_unknown_user(AS_OF, len(shop.catalogue))  # models fitted to no events are enough
    rows = [
        {"recommender": each.name, "arrays": pack(each.fit(each.count(nobody, horizon), horizon).arrays())}
        for each in shop.recommenders
    ]
    folder = Path(shop.outputs.folder) / f"fitted_recommenders/as_of={AS_OF}"
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "part.parquet")
    return shop.ranker(AS_OF, NOTHING_WEIGHS)


def assert_has_no_photos(shop: Shop) -> None:
    assert shop.catalogue.gallery is None
    assert ranker_of(shop).covers is None
    assert "content_images" not in names_of(shop)
    assert len(shop.horizon(AS_OF)) > 0


def test_shop_without_themes_has_no_gallery(tmp_path):
    assert_has_no_photos(shop_in(tmp_path, DATA))


def test_shop_whose_theme_model_is_empty_has_no_gallery(illustrated):
    theme_store.save(no_themes(), Path(illustrated.outputs.folder) / THEME_MODEL)
    assert_has_no_photos(illustrated)


def test_themes_of_removed_sales_are_not_read(illustrated):
    fewer = make_shop(DATA.sale_rows[:-1], [])
    gone = DATA.sale_rows[-1]["sale_id"]
    assert DATA.catalogue.gallery.photos(DATA.catalogue.position[gone])
    assert_has_no_photos(shop_in(Path(illustrated.outputs.folder), fewer, "2"))


def test_themes_are_read_if_sales_without_photos_were_added(illustrated):
    more = make_shop([*DATA.sale_rows, sale("zz", -1, 1)], [])
    shop = shop_in(Path(illustrated.outputs.folder), more, "2")
    assert shop.catalogue.gallery.photos(shop.catalogue.position["zz"]) == ()
    assert shop.catalogue.gallery.uris == DATA.catalogue.gallery.uris


@pytest.mark.parametrize("lost", [THEME_MODEL, "image_themes", "sale_themes"])
def test_incomplete_files_of_themes_are_not_read(illustrated, lost):
    path = Path(illustrated.outputs.folder) / lost
    path.unlink() if path.is_file() else shutil.rmtree(path)
    assert_has_no_photos(illustrated)


def test_themes_of_another_model_are_not_read(illustrated):
    names = [f"other {number}" for number in range(5)]
    theme_store.save(replace(no_themes(), names=names), Path(illustrated.outputs.folder) / THEME_MODEL)
    assert_has_no_photos(illustrated)


def test_damaged_theme_model_is_an_error_that_names_it(illustrated):
    path = Path(illustrated.outputs.folder) / THEME_MODEL
    path.write_text("{")
    with pytest.raises(ModelError, match=f"{path}: the theme model cannot be read"):
        _ = illustrated.catalogue
