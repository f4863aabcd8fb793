import time

from PIL import Image

from jobs.night import profile_tables
from jobs.night.profile_tables import try_photos
from recsys.data_profile.frames import Photos
from recsys.images.tagging.files import PhotoFiles


def test_photos_that_are_missing_or_no_photo_are_not_there(tmp_path):
    Image.new("RGB", (40, 30), "red").save(tmp_path / "good.jpg")
    (tmp_path / "page.jpg").write_text("<html>404</html>")
    files = PhotoFiles(str(tmp_path))
    assert try_photos(files, ["good.jpg", "page.jpg", "missing.jpg", "../outside.jpg"]) == Photos(tried=4, readable=1)


def test_photos_that_are_not_read_in_time_are_left_out(monkeypatch, tmp_path):
    def read(_, uri):
        time.sleep(0.3 * ("slow" in uri))
        raise profile_tables.PhotoError("missing", uri)

    monkeypatch.setattr(PhotoFiles, "read", read)
    monkeypatch.setattr(profile_tables, "_SECONDS", 0.1)
    assert try_photos(PhotoFiles(str(tmp_path)), ["slow.jpg", "quick.jpg"]) == Photos(tried=1, readable=0)
