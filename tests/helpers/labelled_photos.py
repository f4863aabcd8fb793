"""A small shop whose photos are in the store with embeddings of our choice, so no network is needed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from recsys.images.lab.label_store import LABELS
from recsys.images.lab.shop_photos import ShopPhotos
from recsys.images.lab.taxonomy import Taxonomy
from recsys.images.settings import ImageSettings
from recsys.images.tagging.tag_store import HASHES, OUTPUTS
from recsys.tables.parts import write_table

NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)


def taxonomy(**changes: Any) -> Taxonomy:
    """Return a taxonomy of rooms; single, with `other: reject`."""
    labels = [
        {"id": "suite", "names": {"en": "Suite", "fr": "La suite"}},
        {"id": "suite_sea", "names": {"en": "suite with a sea view"}, "parent": "suite"},
        {"id": "pool"},
    ]
    return Taxonomy.model_validate(
        {"schema_version": 1, "name": "rooms", "kind": "single", "other": "reject", "labels": labels, **changes}
    )


def word(image_hash: str, *labels: str, **others: Any) -> dict[str, Any]:
    """Return a row of LABELS."""
    said = {"image_hash": image_hash, "image_uri": f"/p/{image_hash}.jpg", "taxonomy": "rooms", "labels": list(labels)}
    return {**said, "source": "person", "by": "ann", "at": NOON, **others}


@dataclass(frozen=True)
class PhotoShop:
    """Writes photos and labels."""

    photos: ShopPhotos

    def see(self, embeddings: Mapping[str, Iterable[float]]) -> None:
        """Add photos /p/<hash>.jpg to the store."""
        store = self.photos.store
        with store.new_hashes() as folder:
            rows = [{"image_uri": f"/p/{each}.jpg", "stamp": "1", "image_hash": each} for each in embeddings]
            write_table(pa.Table.from_pylist(rows, HASHES), folder)
        with store.new_outputs() as folder:
            seen = [{"image_hash": each, "outputs": [], "embedding": list(row)} for each, row in embeddings.items()]
            write_table(pa.Table.from_pylist(seen, OUTPUTS), folder)

    def say(self, *words: dict[str, Any]) -> None:
        """Add rows of LABELS."""
        self.photos.labels.add(pa.Table.from_pylist(list(words), LABELS))


def photo_shop(folder: Path, rooms: Taxonomy | None = None, **images: Any) -> PhotoShop:
    """Return a shop without photos."""
    return PhotoShop(ShopPhotos(folder, folder, ImageSettings(**images), rooms or taxonomy(), "network-1"))
