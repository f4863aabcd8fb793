"""Trained taggers whose heads are written by hand: the probabilities of embeddings follow by hand, too."""

from typing import Any

import numpy as np

from recsys.images.lab.head import Head
from recsys.images.lab.taxonomy import Taxonomy
from recsys.images.lab.trained_tagger import TrainedTagger
from recsys.images.settings import TaggerSettings


def taxonomy(name: str = "rooms", kind: str = "single", labels: tuple[str, ...] = ("suite", "pool")) -> Taxonomy:
    """Return a taxonomy of the given labels."""
    values = {"schema_version": 1, "name": name, "kind": kind, "labels": [{"id": each} for each in labels]}
    return Taxonomy.model_validate({**values, "other": "reject"})


def trained(
    of: Taxonomy,
    weights: list[list[float]],
    base: TaggerSettings | None = None,
    base_version: str = "network-1",
    sure: float = 0.5,
    **head: Any,
) -> TrainedTagger:
    """Return a tagger of one layer; `weights`: shape (n_features, n_outputs), of embeddings of length 1."""
    matrix = np.array(weights, np.float32)
    layer = Head(of.kind, of.ids, [matrix], [np.zeros(matrix.shape[1], np.float32)], **head)
    return TrainedTagger(of, base or TaggerSettings(), base_version, layer, sure, {"photos": 3})
