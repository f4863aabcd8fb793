"""`recsys tagger` from labelled photos to a champion, with a real network of random weights and real commands."""

import json
import re

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.helpers.small_photos import own_tagger
from tests.helpers.small_shop import SmallShop

LABELS = {"red": 0, "blue": 2}
"""The channel that is full in the photos of a label."""


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    shop = SmallShop(folder).write([], [])
    random = np.random.default_rng(0)
    for label, channel in LABELS.items():
        (folder / "photos" / label).mkdir(parents=True)
        for number in range(30):
            patches = random.integers(0, 256, (4, 4, 3), np.uint8)
            patches[:, :, channel] = 255
            Image.fromarray(patches).resize((32, 32), 0).save(folder / "photos" / label / f"{number}.bmp")
    network = own_tagger(folder / "network")
    base = network.model_dump(exclude_none=True, include={"name", "architecture", "weights", "labels"})
    rooms = {"schema_version": 1, "name": "rooms", "labels": [{"id": each} for each in LABELS], "base": base}
    (folder / "taxonomies").mkdir()
    (folder / "taxonomies/rooms.yaml").write_text(yaml.safe_dump(rooms))
    images = {"root": str(folder / "photos"), "taxonomies": str(folder / "taxonomies")}
    return shop, shop.configuration(images=images)


def test_labelled_photos_become_versions_of_which_one_is_promoted_and_rolled_back(shop, run, tmp_path):
    (small, conf), photos = shop, shop[0].folder / "photos"

    def tagger(*words: object) -> str:
        status, out, err = run("tagger", *words, "--conf", conf)
        assert status == 0, err
        return " ".join(out.split())

    assert "60 labels added" in tagger("label", "import", "rooms", photos)
    first = tagger("train", "rooms", "--head", "linear", "--report", tmp_path / "a.html", "--json", tmp_path / "a.json")
    assert "Version 1 of tagger rooms, the champion: nights use it" in first
    assert json.loads((tmp_path / "a.json").read_text())["top_1"][0] > 0.9

    (tmp_path / "other.csv").write_text(
        "image_uri,labels\n" + "".join(f"red/{number}.bmp,blue\n" for number in range(15))
    )
    assert "15 labels added" in tagger("label", "import", "rooms", tmp_path / "other.csv")
    second = tagger("train", "rooms", "--head", "linear", "--report", tmp_path / "b.html")
    assert "Version 2 of tagger rooms, not used before 'recsys tagger promote rooms 2'" in second
    assert re.search(r"2 challenger .* 1 champion", tagger("versions", "rooms"))

    drift = tagger("drift", "rooms", "challenger")
    assert re.match(r"\d+ of 60 photos of the shop change their label", drift)
    promoted = tagger("promote", "rooms", "2", "--force", "--why", "asked for")
    assert promoted.startswith(drift)
    assert "Version 2 of tagger rooms is the champion, instead of version 1: asked for; accuracy" in promoted
    assert "Version 1 of tagger rooms is the champion again" in tagger("rollback", "rooms")
    assert (small.folder / "var/taggers/rooms/champion").read_text() in first


def test_version_that_is_worse_is_refused_with_the_evidence(shop, run):
    status, _, err = run("tagger", "promote", "rooms", "2", "--conf", shop[1])
    assert status == 1
    assert re.search(r"version 2 against the champion, version 1: accuracy [+-]", " ".join(err.split()))
