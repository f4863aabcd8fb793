import json

import numpy as np
import pytest
from typer.testing import CliRunner

from cli.commands.tagger import tagger
from recsys.images.lab.shop_photos import ShopPhotos
from tests.helpers.labelled_photos import photo_shop, word

CONF = "conf/demo.yaml"


@pytest.fixture
def shop(tmp_path, monkeypatch):
    shop = photo_shop(tmp_path / "shop")
    random = np.random.default_rng(0)
    classes = np.arange(80) % 2
    embeddings = np.eye(2, 40)[classes] + 0.3 * random.normal(size=(80, 40))
    shop.see({f"p{number:02}": row for number, row in enumerate(embeddings)})
    shop.say(*(word(f"p{number:02}", ("pool", "suite")[classes[number]]) for number in range(60)))
    monkeypatch.setattr(ShopPhotos, "of", lambda *_: shop.photos)
    return shop


def run(*arguments: str) -> str:
    result = CliRunner().invoke(tagger, [*arguments, "--conf", CONF])
    assert result.exception is None, result.output
    return result.output


def test_next_writes_the_queue_and_says_how_to_go_on(shop, tmp_path):
    output = run("next", "rooms", "--batch", "12", "--out", str(tmp_path / "q.csv"), "--json", str(tmp_path / "q.json"))
    rows = json.loads((tmp_path / "q.json").read_text())
    assert len(rows) == 12
    assert len((tmp_path / "q.csv").read_text().splitlines()) == 13
    assert "12 of 20 photos without a label" in output
    assert "2 more in the file" in output
    assert "recsys tagger label import rooms" in output


def test_simulate_prints_the_labels_needed_and_writes_curves(shop, tmp_path):
    plot, rows = tmp_path / "s.svg", tmp_path / "s.json"
    output = run(*f"simulate rooms --batch 5 --labels 20 --seeds 2 --plot {plot} --json {rows}".split())
    assert "Labels to reach 90 % of it" in output
    assert {row["strategy"] for row in json.loads(rows.read_text())} == {"active", "random"}
    assert plot.exists()


def test_similar_and_duplicates_list_photos(shop, tmp_path):
    shop.see({"copy": shop.photos.photos().embeddings[7]})
    assert "/p/copy.jpg" in run("similar", "/p/p07.jpg", "--n", "1")
    run("duplicates", "--json", str(tmp_path / "d.json"))
    assert ["/p/copy.jpg", "/p/p07.jpg"] in json.loads((tmp_path / "d.json").read_text())
