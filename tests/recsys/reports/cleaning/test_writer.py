"""The HTML page of suspicious labels."""

import re

from PIL import Image

from recsys.images.lab.cleaning import Ambiguous, Cleaning, Photo, Suspect
from recsys.images.lab.taxonomy import LabelSettings, Taxonomy
from recsys.images.settings import ImageSettings
from recsys.images.tagging.files import PhotoFiles
from recsys.reports.cleaning import writer

ROOMS = Taxonomy(
    schema_version=1,
    name="rooms",
    labels=(LabelSettings(id="pool", names={"en": "<b>pool</b>"}), LabelSettings(id="suite")),
)


def photo(name: str, *labels: str) -> Photo:
    return Photo(name, f"{name}.jpg", labels)


def page(folder, suspects: list[Suspect], **found) -> str:
    for number, name in enumerate("abc"):
        Image.new("RGB", (40, 40), (80 * number, 90, 90)).save(folder / f"{name}.jpg")
    cleaning = Cleaning(10, 2, found.get("duplicates", ()), tuple(suspects), found.get("ambiguous", ()))
    writer.write_report(cleaning, ROOMS, folder / "page.html", PhotoFiles.of(ImageSettings(root=str(folder))))
    return (folder / "page.html").read_text()


def test_a_suspect_is_shown_with_suggestion_evidence_and_neighbours(tmp_path):
    neighbours = photo("b", "suite"), photo("c", "suite"), photo("gone", "suite")
    text = page(tmp_path, [Suspect(photo("a", "pool"), "wrong", ("suite",), 0.04, 0.1, neighbours, False)])
    assert "1 label most likely wrong" in text
    assert "10 labelled photos outside the test part, of which an estimated 2 have a wrong label." in text
    assert "&lt;b&gt;pool&lt;/b&gt; → suite <small>P 0.04, V 0.10 of the given label</small>" in text
    assert "<b>pool" not in text
    assert re.findall(r'aria-label="(.)\.jpg"><use href="#photo-(\d)"', text) == [("a", "0"), ("b", "1"), ("c", "2")]
    assert text.count("data:image/jpeg;base64,") == 3
    assert '<div class="tile">gone.jpg</div>' in text


def test_photos_of_the_test_part_are_flagged_and_sections_without_a_photo_are_left_out(tmp_path):
    text = page(tmp_path, [Suspect(photo("a"), "one", ("suite",), 0.4, 0.1, (), True)])
    assert "none of these → suite" in text
    assert "in the test part: never corrected automatically" in text
    assert re.findall("<h2>(.*?)</h2>", text) == ["Only one disagrees"]


def test_duplicates_and_ambiguous_photos_have_sections_of_their_own(tmp_path):
    duplicates = ((photo("a", "pool"), photo("b", "suite")),)
    text = page(tmp_path, [], duplicates=duplicates, ambiguous=(Ambiguous(photo("c", "suite"), 0.01),))
    assert re.findall("<h2>(.*?)</h2>", text) == ["Duplicates with different labels", "Ambiguous photos"]
    assert re.findall("<figcaption>(.*?)</figcaption>", text) == ["&lt;b&gt;pool&lt;/b&gt;", "suite", "suite"]
