"""Exported taggers, run by onnxruntime and compared with our own path."""

import json
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from recsys.errors import ConfigurationError
from recsys.images.lab.head import Head
from recsys.images.lab.onnx_export import export_onnx
from recsys.images.lab.taxonomy import Taxonomy
from recsys.images.lab.trained_tagger import TrainedTagger
from recsys.images.settings import TaggerSettings
from recsys.images.tagging.inference import load_tagger
from recsys.images.tagging.taggers import tagger_files
from tests.helpers.small_photos import own_tagger

LABELS = ["suite", "chambre à vue", "pool"]


def trained(base: TaggerSettings, widths: tuple[int, ...], kind: str = "single", **values) -> TrainedTagger:
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=shape).astype(np.float32) for shape in pairwise(widths)]
    biases = [rng.normal(size=width).astype(np.float32) for width in widths[1:]]
    taxonomy = Taxonomy.model_validate(
        {"schema_version": 1, "name": "rooms", "kind": kind, "labels": [{"id": each} for each in LABELS]}
    )
    head = Head(kind, LABELS, weights, biases, **values)
    return TrainedTagger(taxonomy, base, tagger_files(base).network_version, head, 0.3)


def photos(crop: int, n: int = 3) -> NDArray[np.uint8]:
    """Return photos of noise in squares of 16 x 16 pixels, which have edges to see."""
    coarse = np.random.default_rng(1).integers(0, 256, (n, crop // 16 + 1, crop // 16 + 1, 3), np.uint8)
    return coarse.repeat(16, 1).repeat(16, 2)[:, :crop, :crop]


def run(path: Path, pixels: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(["probabilities", "embeddings"], {"photos": pixels})


@pytest.mark.parametrize(
    ("widths", "kind", "values"),
    [
        ((512, 3), "single", {"temperature": 1.7}),
        ((512, 8, 4), "single", {}),  # two layers and none of these
        ((512, 3), "multi", {"thresholds": np.array([0.2, 0.5, 0.8], np.float32)}),
    ],
)
def test_exported_tagger_gives_our_probabilities_and_embeddings(tmp_path, widths, kind, values):
    base = own_tagger(tmp_path).model_copy(update={"channels": "BGR"})
    tagger = trained(base, widths, kind, **values)
    export_onnx(tagger, tmp_path / "rooms.onnx")
    embeddings = load_tagger(base).tag(photos(224)).embeddings
    found = run(tmp_path / "rooms.onnx", photos(224))
    np.testing.assert_allclose(found[0], tagger.head.probabilities(embeddings), atol=1e-4)
    np.testing.assert_allclose(found[1], embeddings, atol=1e-4 * np.abs(embeddings).max())


def test_default_base_is_exported_with_its_padding(tmp_path):
    tagger = trained(TaggerSettings(), (1280, 3))
    export_onnx(tagger, tmp_path / "rooms.onnx")
    expected = tagger.head.probabilities(load_tagger(tagger.base).tag(photos(224)).embeddings)
    np.testing.assert_allclose(run(tmp_path / "rooms.onnx", photos(224))[0], expected, atol=1e-4)


def test_metadata_say_what_goes_in_and_what_comes_out(tmp_path):
    tagger = trained(own_tagger(tmp_path), (512, 4))
    export_onnx(tagger, tmp_path / "rooms.onnx")
    found = {each.key: json.loads(each.value) for each in onnx.load(tmp_path / "rooms.onnx").metadata_props}
    assert found == {
        "taxonomy": "rooms",
        "version": tagger.version,
        "kind": "single",
        "labels": LABELS,
        "has_other": True,
        "sure": 0.3,
        "thresholds": None,
        "resize": 256,
        "crop": 224,
        "channels": "RGB",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
    }


def test_without_the_extra_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'flash-sale-recsys\[onnx\]'"):
        export_onnx(trained(own_tagger(tmp_path), (512, 3)), tmp_path / "rooms.onnx")
