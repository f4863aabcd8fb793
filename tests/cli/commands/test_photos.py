"""The commands about photos, on a small shop with its own tagger."""

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cli.main import main
from recsys.images.settings import TaggerSettings
from tests.helpers.small_photos import own_tagger, write_photo
from tests.helpers.small_shop import MLFLOW_WARNS, SmallShop, random_rows
from tests.helpers.yaml_text import yaml_text

pytestmark = MLFLOW_WARNS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("photo_commands")


@pytest.fixture(scope="module")
def settings(folder) -> TaggerSettings:
    return own_tagger(folder)


@pytest.fixture(scope="module")
def tagger(settings) -> list[str]:
    """The tagger as options of the command."""
    named = {"tagger": settings.name, **settings.model_dump(include={"weights", "labels", "architecture"})}
    return [word for option, value in named.items() for word in (f"--{option}", value)]


@pytest.fixture(scope="module")
def photos(folder) -> list[Path]:
    """Twelve photos in different colours, and a file that is no photo."""
    colours = np.random.default_rng(0).integers(0, 256, (12, 3)).tolist()
    paths = [folder / f"photos/{number:02d}.bmp" for number in range(12)]
    for path, colour in zip(paths, colours, strict=True):
        write_photo(path, tuple(colour))
    (folder / "photos/broken.jpg").write_bytes(b"no photo")
    return paths


@pytest.fixture(scope="module")
def configuration(folder, settings, photos) -> Path:
    """A shop of 14 sales with three photos each, of which one is broken."""
    shop = SmallShop(folder).write(*random_rows(1))
    rows = [
        (f"s{sale:02d}", photos[(sale * 3 + position) % 12].name, position)
        for sale in range(14)
        for position in range(3)
    ]
    rows[4] = (rows[4][0], "broken.jpg", rows[4][2])
    columns = {"sale_id": [row[0] for row in rows], "image_uri": [row[1] for row in rows]}
    positions = pa.array([row[2] for row in rows], pa.int32())
    pq.write_table(pa.table({**columns, "position": positions}), folder / "raw/sale_images.parquet")
    shop.write_sql("sale_images", "select * from {raw_sale_images}")
    raw = shop.raw_settings()
    raw["source"]["raw"]["raw_sale_images"] = {"path": str(folder / "raw/sale_images.parquet")}
    raw["images"] = {
        "root": str(folder / "photos"),
        "taggers": [settings.model_dump(include={"name", "weights", "labels", "architecture"})],
        "tagging": {"engine": "process"},
        "themes": {"themes": 4},
    }
    path = folder / "shop.yaml"
    path.write_text(yaml_text(raw))
    return path


@pytest.fixture
def run(monkeypatch, capfd):
    def run_command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["recsys", *map(str, arguments)])
        status: object = 0
        try:
            main()
        except SystemExit as exit_:
            status = exit_.code
        captured = capfd.readouterr()
        return int(status or 0) if not isinstance(status, str) else 1, captured.out, captured.err

    return run_command


def test_photos_without_a_shop_are_tagged_and_broken_ones_are_listed(run, tagger, photos, folder, tmp_path):
    status, out, _ = run("tag", folder / "photos", *tagger, "--json", tmp_path / "tags.json")
    assert status == 0
    assert "12 of 13 photos tagged, 1 set aside" in out
    rows = json.loads((tmp_path / "tags.json").read_text())
    assert [row["photo"] for row in rows] == sorted(str(path) for path in (folder / "photos").iterdir())
    assert [row["photo"] for row in rows if "reason" in row] == [str(folder / "photos/broken.jpg")]
    for row in rows:
        shares = [each["probability"] for each in row.get("tags", [])]
        assert shares == sorted(shares, reverse=True)
        assert {each["tag"] for each in row.get("tags", [])} <= {f"thing {number}" for number in range(10)}


def test_only_broken_photos_are_an_error(run, tagger, folder):
    status, _, err = run("tag", folder / "photos/broken.jpg", *tagger)
    assert status == 1
    assert "error: 0 of 1 photo could be tagged" in err


def test_unknown_tagger_is_an_error_that_lists_the_taggers(run, photos):
    status, _, err = run("tag", photos[0], "--tagger", "clip")
    assert status == 1
    assert "tagger.name == 'clip', must be one of efficientnet_lite0" in err.replace("\n", " ")


def test_unknown_architecture_is_an_error_that_lists_the_architectures(run, photos):
    status, _, err = run("tag", photos[0], "--tagger", "own", "--architecture", "alexnet")
    assert status == 1
    assert "--architecture == 'alexnet'" in err
    assert "resnet18" in err


def test_themes_are_printed_with_shares_that_sum_to_one(run, spark, configuration, tmp_path):
    status, out, err = run("themes", "--conf", configuration, "--json", tmp_path / "themes.json")
    assert status == 0, err
    rows = json.loads((tmp_path / "themes.json").read_text())
    assert sum(row["share_of_photos"] for row in rows) == pytest.approx(1)
    assert sum(row["share_of_sales"] for row in rows) == pytest.approx(1)
    assert 1 <= len(rows) <= 4
    for row in rows:
        assert row["name"].split(" ")[0] in out
        assert len(row["examples"]) == 3


def test_numbers_of_themes_are_compared(run, spark, configuration):
    status, out, err = run("themes", "choose", "--conf", configuration, "--numbers", "2,3")
    assert status == 0, err
    rows = [line.split() for line in out.splitlines() if line.split()[:1] in (["2"], ["3"])]
    unexplained = [float(row[1]) for row in rows]
    assert len(rows) == 2
    assert 0 < unexplained[1] <= unexplained[0] < 1


def test_invalid_numbers_of_themes_are_an_error(run, configuration):
    status, _, err = run("themes", "choose", "--conf", configuration, "--numbers", "2,many")
    assert status == 1
    assert "--numbers == '2,many', must be numbers in 1..1000" in err


def test_map_is_one_html_page_with_the_photos(run, spark, configuration, tmp_path):
    status, out, err = run("themes", "map", "--conf", configuration, "--out", tmp_path / "map.html", "--photos", "8")
    assert status == 0, err
    page = (tmp_path / "map.html").read_text()
    assert page.count("/9j/") == 8  # how JPEG starts in base64
    assert "8 photos in" in out
    assert "NMF of the best tags" in out


def test_attractiveness_is_printed_plotted_and_written(run, spark, configuration, tmp_path):
    plot, rows = tmp_path / "plot.svg", tmp_path / "rows.json"
    status, out, err = run("attractiveness", "--conf", configuration, "--plot", plot, "--json", rows)
    assert status == 0, err
    assert "Attractiveness of themes" in out
    assert plot.read_text().startswith("<?xml")
    table = json.loads(rows.read_text())
    assert {row["family"] for row in table} == {"tag", "theme"}
    totals = [row for row in table if row["month"] == row["country"] == row["category"] == "all"]
    assert all(0 <= row["visits_with"] <= row["visits"] for row in totals)


def test_shop_without_photos_has_no_themes_and_the_error_gives_the_next_step(run, spark, tmp_path):
    shop = SmallShop(tmp_path).write(*random_rows(1))
    for command in (["themes"], ["attractiveness", "--plot", tmp_path / "plot.png"]):
        status, _, err = run(*command, "--conf", shop.configuration())
        assert status == 1
        assert "sale_images.sql" in err
