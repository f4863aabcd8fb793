"""Photos of a shop with a tagger of three labels, for reviews: photo 0 is sure, the others are less and less."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsys.images.lab.head import Head
from recsys.images.lab.label_store import LabelStore
from recsys.images.lab.review import Order, Review
from recsys.images.lab.taxonomy import Taxonomy
from recsys.images.lab.trained_tagger import TrainedTagger
from recsys.images.settings import TaggerSettings

AT = datetime(2026, 11, 1, tzinfo=UTC)
LABELS = ["suite", "pool", "bathroom"]


@dataclass(frozen=True)
class Photos:
    """Photos by content hash, with embeddings."""

    image_hashes: NDArray[np.str_]
    image_uris: NDArray[np.str_]
    embeddings: NDArray[np.float32]


def tagger(
    kind: str = "single", other: bool = True, labels: Sequence[str] = LABELS, sure: float = 0.9
) -> TrainedTagger:
    """A tagger whose probabilities are large where the embedding's number of that label is."""
    taxonomy = Taxonomy.model_validate(
        {
            "schema_version": 1,
            "name": "rooms",
            "kind": kind,
            "labels": [{"id": each, "names": {"en": f"<b>{each}</b>"}} for each in labels],
            "other": "reject" if other else None,
        }
    )
    n_outputs = len(labels) + (other and kind == "single")
    weights = [np.eye(len(labels) + 1, n_outputs, dtype=np.float32) * 8]
    biases = [np.full(n_outputs, -4 if kind == "multi" else 0, np.float32)]
    head = Head(kind, list(labels), weights, biases)  # type: ignore[arg-type]
    return TrainedTagger(taxonomy, TaggerSettings(), "base-1", head, sure)


def embeddings(n: int) -> NDArray[np.float32]:
    """Embeddings of n photos: 0 is sure to be the first label; then labels in turn, less and less sure."""
    rows = np.zeros((n, len(LABELS) + 1), np.float32)
    for number in range(n):
        angle = 0 if number == 0 else np.pi / 4 * (0.6 + 0.39 * number / n)
        rows[number, number % 3] = np.cos(angle)
        rows[number, (number + 1) % 3] = np.sin(angle)
    return rows


def photos(hashes: Sequence[str]) -> Photos:
    """Photos of content hashes, with `embeddings`."""
    return Photos(np.array(hashes), np.array([f"{each}.bmp" for each in hashes]), embeddings(len(hashes)))


def review(
    folder: Path, n: int = 7, order: Order | None = None, share: float | None = None, double: bool = False
) -> Review:
    """A review of n photos p0, p1, ... of which p0 is sure."""
    hashes = [f"p{number}" for number in range(n)]
    return Review(photos(hashes), tagger(), LabelStore(folder, "rooms"), share, order, double)
