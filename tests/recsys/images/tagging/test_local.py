import pytest

from recsys.errors import InputError
from recsys.images.settings import ImageSettings
from recsys.images.tagging.local import photos_below, tag_here
from tests.helpers.small_photos import own_tagger, write_photo


def test_folder_is_replaced_by_all_files_below_it_and_files_are_unchanged(tmp_path):
    for name in ("b/2.JPG", "b/1.bmp", "a.HEIC", "b/notes.txt", "b/folder.jpg/3.tif", "b/no_suffix"):
        write_photo(tmp_path / name, (1, 2, 3))
    (tmp_path / ".DS_Store").write_text("")
    (tmp_path / "broken.jfif").symlink_to(tmp_path / "absent")
    found = photos_below(["s3://bucket/x.jpg", str(tmp_path), "/no/such.bmp"])
    names = ("a.HEIC", "b/1.bmp", "b/2.JPG", "b/folder.jpg/3.tif", "b/no_suffix", "b/notes.txt", "broken.jfif")
    assert found == ["s3://bucket/x.jpg", *(f"{tmp_path}/{name}" for name in names), "/no/such.bmp"]


def test_folder_without_files_is_an_error(tmp_path):
    with pytest.raises(InputError, match=rf"{tmp_path} contains no file: name a folder of photos"):
        photos_below([str(tmp_path)])


def test_photos_are_tagged_in_order_or_have_a_reason(tmp_path):
    tagger = own_tagger(tmp_path / "tagger")
    red = write_photo(tmp_path / "red.bmp", (255, 0, 0))
    page = tmp_path / "page.jpg"
    page.write_text("<html></html>")
    rows = list(tag_here([red, str(page), "/no/such.bmp", red], ImageSettings(), tagger, threads=1))
    assert [row["photo"] for row in rows] == [red, str(page), "/no/such.bmp", red]
    assert [row.get("reason") for row in rows] == [None, "not_an_image", "missing", None]
    assert rows[0]["tags"] == rows[3]["tags"]
    probabilities = [each["probability"] for each in rows[0]["tags"]]
    assert len(probabilities) == 5
    assert sorted(probabilities, reverse=True) == probabilities
    assert 0 < sum(probabilities) <= 1
    assert all(each["tag"].startswith("thing ") for each in rows[0]["tags"])
