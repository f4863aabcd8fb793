"""`recsys tagger clean`, on a shop whose embeddings are known."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest

from recsys.images.lab.dataset import Dataset
from recsys.images.lab.label_store import LabelStore
from recsys.images.lab.shop_photos import ShopPhotos
from recsys.images.settings import ImageSettings

ROOMS = ["suite", "suite_sea_view", "bathroom", "pool", "restaurant"]
FLIPPED = {0: "pool", 7: "suite"}
"""Wrong labels by row; those of the other photos go round by row."""


@dataclass(frozen=True)
class SeenShop(ShopPhotos):
    """A shop of 100 photos around five directions, two of them with a wrong label unless the store corrects it."""

    def dataset(self) -> Dataset:
        random = np.random.default_rng(0)
        hashes = np.array([f"{number:03}" for number in range(100)])
        said = {f"{row:03}": label for row, label in FLIPPED.items()}
        said |= {row["image_hash"]: row["labels"][0] for row in self.labels.current().to_pylist()}
        classes = [ROOMS.index(said.get(each, ROOMS[number % 5])) for number, each in enumerate(hashes.tolist())]
        embeddings = np.eye(9)[np.arange(100) % 5] + random.normal(0, 0.1, (100, 9))
        uris = np.char.add(hashes, ".jpg")
        parts = np.where(np.arange(100) < 80, "train", "test")
        targets, groups = np.eye(5, dtype=bool)[classes], np.arange(100)
        return Dataset(ROOMS, "single", hashes, uris, embeddings.astype(np.float32), targets, groups, parts)


@pytest.fixture(autouse=True)
def shop(tmp_path, monkeypatch) -> None:
    known = SeenShop(tmp_path, tmp_path, ImageSettings(), None, "version")  # type: ignore[arg-type]
    monkeypatch.setattr(ShopPhotos, "of", lambda _, taxonomy: replace(known, taxonomy=taxonomy))


def test_suspicious_labels_are_printed_written_and_changed_only_on_request(run, tmp_path):
    status, out, _ = run(
        "tagger", "clean", "rooms", "--json", tmp_path / "found.json", "--html", tmp_path / "found.html"
    )
    lines = out.splitlines()
    assert status == 0
    assert "80 labelled photos outside the test part; 2 have a wrong label by cleanlab's estimate" in out
    assert ["000.jpg", "pool", "suite", "wrong"] in [line.split()[:4] for line in lines]
    assert "Nothing was changed; --apply would correct 2 labels." in out
    found = json.loads((tmp_path / "found.json").read_text())
    assert sorted(each["photo"]["image_hash"] for each in found["suspects"][:2]) == ["000", "007"]
    assert "2 labels most likely wrong" in (tmp_path / "found.html").read_text()
    assert not list(tmp_path.glob("labels/*/*"))

    assert "2 labels corrected." in run("tagger", "clean", "rooms", "--apply")[1]
    assert LabelStore(tmp_path / "labels", "rooms").current()["labels"].to_pylist() == [["suite"], ["bathroom"]]
    assert "0 labels corrected." in run("tagger", "clean", "rooms", "--apply")[1]
