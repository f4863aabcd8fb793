import pytest

from recsys.config.pipeline import SourceSettings
from recsys.config.settings import Settings
from recsys.errors import EmptyInputError
from recsys.images.lab.similar_photos import photos_of, similar_photos
from tests.helpers.labelled_photos import photo_shop


def test_similar_photos_are_the_nearest_without_the_photo_itself(tmp_path):
    shop = photo_shop(tmp_path)
    shop.see({"a": [1, 0], "b": [3, 1], "c": [0, 1], "d": [1, 1]})
    rows = similar_photos(shop.photos, "/p/a.jpg", 2)
    assert [row["image_hash"] for row in rows] == ["b", "d"]
    assert [round(row["cosine"], 3) for row in rows] == [0.949, 0.707]
    assert len(similar_photos(shop.photos, "/p/a.jpg", 9)) == 3


def test_similar_photos_of_an_empty_shop_say_what_is_wrong(tmp_path):
    shop = photo_shop(tmp_path)
    with pytest.raises(EmptyInputError, match="0 photos of the shop have an embedding"):
        similar_photos(shop.photos, "/p/a.jpg", 2)


def test_without_a_taxonomy_photos_are_seen_by_the_first_network_of_the_shop(tmp_path):
    settings = Settings(folder=str(tmp_path), source=SourceSettings(sql="", raw={}))
    assert photos_of(settings, None).taxonomy.base == settings.images.taggers[0]
