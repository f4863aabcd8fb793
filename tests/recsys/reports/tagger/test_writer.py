import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recsys.images.lab.evaluation import HeldOut, learning_curve
from recsys.images.lab.taxonomy import Taxonomy
from recsys.images.lab.trained_tagger import TrainedTagger
from recsys.images.lab.training import fit_linear
from recsys.images.settings import ImageSettings, TaggerSettings
from recsys.images.tagging.files import PhotoFiles
from recsys.reports.tagger.writer import write_report
from tests.helpers.random_dataset import labelled_photos

EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> tuple[str, HeldOut]:
    """The report of a tagger that takes every third photo of `EVIL` for label 1, with one photo that can be read."""
    folder = tmp_path_factory.mktemp("tagger_report")
    photos = labelled_photos((60, 60), spread=0.2, others=20)
    photos = replace(photos, labels=[EVIL, "label 1"])
    head = fit_linear(photos)
    held = HeldOut.of(head, 0.5, photos)
    wrong = np.flatnonzero(photos.targets[:, 0])[::3]
    said = held.is_said.copy()
    said[wrong] = [False, True]
    uris = np.array([f"{folder}/{EVIL[1:7]}{row}.jpg" for row in range(len(photos))])
    held = replace(held, is_said=said, photos=replace(photos, image_uris=uris))
    picture = io.BytesIO()
    Image.new("RGB", (300, 200), "red").save(picture, "JPEG")
    Path(str(uris[wrong[0]])).write_bytes(picture.getvalue())
    labels = [{"id": label} for label in photos.labels]
    taxonomy = Taxonomy.model_validate({"schema_version": 1, "name": "rooms", "labels": labels, "other": "reject"})
    tagger = TrainedTagger(taxonomy, TaggerSettings(), "base-1", head, 0.5)
    file = folder / "report.html"
    files = PhotoFiles.of(ImageSettings(root=str(folder)))
    write_report(tagger, held, learning_curve(photos), file, files)
    return file.read_text("utf-8"), held


def test_labels_and_addresses_are_text(pages):
    page, _ = pages
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_confusion_leads_to_its_photos(pages):
    page, _ = pages
    assert '<a href="#confusion-0-1">20</a>' in page
    assert '<details id="confusion-0-1"' in page
    assert "taken for label 1: 20 photos" in page


def test_photo_that_can_be_read_is_embedded_and_others_are_tiles(pages):
    page, _ = pages
    assert len(re.findall(r'<image id="photo-\d+" width="160" height="160" href="data:image/jpeg;base64,', page)) <= 1
    assert page.count('<div class="tile">') >= 5


def test_report_has_every_section(pages):
    page, _ = pages
    for title in ("Labels", "Calibration", "Learning curve", "Confusions", "Hardest photos", "Glossary"):
        assert f"<h2>{title}</h2>" in page
