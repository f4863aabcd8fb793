"""Labelled photos as arrays: what heads, cleaning and active learning work on."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Part = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Dataset:
    """Labelled photos of one taxonomy, sorted by content hash; all arrays have a row per photo."""

    labels: list[str]  # ids of the taxonomy, in the order of the columns of `targets`
    kind: Literal["single", "multi"]
    image_hashes: NDArray[np.str_]  # (n_photos,)
    image_uris: NDArray[np.str_]  # (n_photos,)
    embeddings: NDArray[np.float32]  # (n_photos, n_features)
    targets: NDArray[np.bool_]  # (n_photos, n_labels); of kind single at most one per row, none: none of these
    groups: NDArray[np.int64]  # (n_photos,); photos of one group are never in two parts
    parts: NDArray[np.str_]  # (n_photos,), a Part each

    def __len__(self) -> int:
        return len(self.image_hashes)

    @property
    def classes(self) -> NDArray[np.int64]:
        """The label's column of each photo, shape (n_photos,), of kind single; n_labels: none of these."""
        return np.where(self.targets.any(1), self.targets.argmax(1), len(self.labels))

    def where(self, photos: NDArray[np.generic]) -> "Dataset":
        """Return some photos, by a mask of shape (n_photos,) or by their rows."""
        rows = {
            name: getattr(self, name)[photos]
            for name in ("image_hashes", "image_uris", "embeddings", "targets", "groups", "parts")
        }
        return replace(self, **rows)

    def part(self, name: Part) -> "Dataset":
        """Return the photos of a part."""
        return self.where(self.parts == name)
