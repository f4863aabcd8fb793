"""Writes a trained tagger as one ONNX file: from the pixels of a photo to probabilities, for programs in any language.

Input `photos`, uint8 (n_photos, crop, crop, 3), RGB, upright: the shorter side is scaled to `resize`, then the centre
is cropped. Outputs: `probabilities` (n_photos, n_outputs), calibrated, and `embeddings` (n_photos, n_features). What
the numbers mean is in the file's metadata, see `metadata_of`.
"""

import json
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from recsys.errors import ConfigurationError
from recsys.images.lab.head import Head
from recsys.images.lab.trained_tagger import TrainedTagger
from recsys.images.tagging.inference import Tagger, load_tagger
from recsys.images.tagging.taggers import Preprocessing
from recsys.storage.local import put_in_place, scratch_folder

OPSET = 17


def export_onnx(tagger: TrainedTagger, path: Path) -> None:
    """Write a trained tagger as an ONNX file, whole or not at all.

    Raises:
        ConfigurationError: If the extra 'onnx' is not installed.
        ModelError: If the base network cannot be loaded.
    """
    try:
        import onnx
    except ImportError as error:
        raise ConfigurationError(
            "package onnx is missing: install the extra, pip install 'flash-sale-recsys[onnx]'"
        ) from error
    tagger.network_files()
    base = load_tagger(tagger.base)
    crop = base.preprocessing.crop
    with scratch_folder(path.absolute().parent) as scratch, warnings.catch_warnings():
        # About its age, and constants that it does not fold; the newer exporter needs a further package, onnxscript.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _WholeTagger(base, tagger.head),
            (torch.zeros(1, crop, crop, 3, dtype=torch.uint8),),
            scratch / path.name,
            dynamo=False,
            opset_version=OPSET,
            input_names=["photos"],
            output_names=["probabilities", "embeddings"],
            dynamic_axes={name: {0: "n_photos"} for name in ("photos", "probabilities", "embeddings")},
        )
        model = onnx.load(scratch / path.name)
        onnx.helper.set_model_props(model, metadata_of(tagger, base.preprocessing))
        onnx.checker.check_model(model)
        onnx.save(model, scratch / path.name)
        put_in_place(scratch / path.name, path.absolute())


def metadata_of(tagger: TrainedTagger, preprocessing: Preprocessing) -> dict[str, str]:
    """Return what a program needs to use the file, each value as JSON.

    `mean` and `std` are applied inside the network, to colours in [0, 1] in the order of `channels`; they tell what was
    trained. A photo of kind single is sure where its two highest probabilities differ by at least `sure`; the output
    after the labels, where there is one, means none of these. Of kind multi, a photo has the labels whose probabilities
    reach their `thresholds`.
    """
    thresholds = tagger.head.thresholds
    values = {
        "taxonomy": tagger.taxonomy.name,
        "version": tagger.version,
        "kind": tagger.head.kind,
        "labels": tagger.head.labels,
        "has_other": tagger.head.has_other,
        "sure": tagger.sure,
        "thresholds": None if thresholds is None else thresholds.tolist(),
        "resize": preprocessing.resize,
        "crop": preprocessing.crop,
        "channels": preprocessing.channels,
        "mean": preprocessing.mean,
        "std": preprocessing.std,
    }
    return {name: json.dumps(value, ensure_ascii=False) for name, value in values.items()}


class _WholeTagger(nn.Module):
    def __init__(self, base: Tagger, head: Head):
        super().__init__()
        self.network = base.network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        shape = base.preprocessing
        self.reverse = shape.channels == "BGR"
        self.register_buffer("mean", (255 * torch.tensor(shape.mean)).view(1, 3, 1, 1))
        self.register_buffer("std", (255 * torch.tensor(shape.std)).view(1, 3, 1, 1))
        self.layers = nn.ModuleList(_layer(*arrays) for arrays in zip(head.weights, head.biases, strict=True))
        self.temperature = head.temperature
        self.is_single = head.kind == "single"

    def forward(self, photos: Tensor) -> tuple[Tensor, Tensor]:
        images = photos.permute(0, 3, 1, 2).float()
        images = images.flip(1) if self.reverse else images
        _, embeddings = self.network((images - self.get_buffer("mean")) / self.get_buffer("std"))
        values = nnf.normalize(embeddings, dim=1)
        for number, layer in enumerate(self.layers):
            values = layer(values if number == 0 else values.relu())
        values = values / self.temperature
        return values.softmax(1) if self.is_single else values.sigmoid(), embeddings


def _layer(weight, bias) -> nn.Linear:  # type: ignore[no-untyped-def]
    layer = nn.Linear(*weight.shape)
    layer.weight.data, layer.bias.data = torch.tensor(weight.T).contiguous(), torch.tensor(bias)
    return layer.requires_grad_(False)
