"""Photos of a shop that are like a photo."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.config.settings import Settings
from recsys.errors import EmptyInputError, InputError
from recsys.images.lab.neighbours import nearest
from recsys.images.lab.shop_photos import ShopPhotos
from recsys.images.lab.taxonomy import LabelSettings, Taxonomy, load_taxonomy
from recsys.images.settings import TaggerSettings
from recsys.wording import visible


def photos_of(settings: Settings, taxonomy: str | None) -> ShopPhotos:
    """Return a shop's photos as the base network of a taxonomy sees them; None: the first of `images.taggers`."""
    if taxonomy is not None:
        return ShopPhotos.of(settings, load_taxonomy(Path(settings.images.taxonomies), taxonomy))
    base = next((each for each in settings.images.taggers if isinstance(each, TaggerSettings)), TaggerSettings())
    labels = (LabelSettings(id="yes"), LabelSettings(id="no"))  # of no use here, but a taxonomy has some
    return ShopPhotos.of(settings, Taxonomy(schema_version=1, name="photos", labels=labels, base=base))


def similar_photos(shop: ShopPhotos, photo: str, n: int) -> list[dict[str, Any]]:
    """Return image_uri, image_hash and cosine of the n photos nearest to a photo, without itself, nearest first.

    Args:
        shop: The photos.
        photo: A photo of the shop, or any other photo, which is read.
        n: Number of photos, at least 1.

    Raises:
        EmptyInputError: If no photo of the shop has an embedding.
        InputError: If the photo cannot be read.
    """
    photos = shop.photos()
    if len(photos) == 0:
        raise EmptyInputError("0 photos of the shop have an embedding, needs at least 1: run 'recsys nightly' first")
    known = np.flatnonzero(photos.image_uris == _absolute(shop, photo))
    embedding = photos.embeddings[known[:1]] if len(known) else _embedded(shop, photo)
    found = nearest(embedding, photos.embeddings, n + 1)
    pairs = zip(found.photos[0].tolist(), found.cosines[0].tolist(), strict=True)
    rows = [
        {"image_uri": str(photos.image_uris[row]), "image_hash": str(photos.image_hashes[row]), "cosine": cosine}
        for row, cosine in pairs
        if row not in known
    ]
    return rows[:n]


def _absolute(shop: ShopPhotos, photo: str) -> str:
    from recsys.images.tagging.files import PhotoFiles

    return PhotoFiles.of(shop.images).absolute(photo)


def _embedded(shop: ShopPhotos, photo: str) -> NDArray[np.float32]:
    """Return the embedding of a photo that the shop does not have, shape (1, n_features)."""
    from recsys.images.tagging.tagging import Worker, best_device, tag_photos

    settings = shop.images.model_copy(update={"root": ""})
    rows = pa.table({"image_hash": pa.nulls(1, pa.string()), "image_uri": [photo]})
    batches = tag_photos(rows.to_batches(), settings, shop.taxonomy.base, Worker(best_device(), 1), below_root=False)
    row = next(each for batch in batches for each in batch.to_pylist())
    if row["embedding"] is None:
        raise InputError(f"photo '{visible(photo)}' cannot be used, {row['reason']} ({row['detail']}): name another")
    return np.array([row["embedding"]], np.float32)
