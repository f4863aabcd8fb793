"""Stored outputs of networks → tags of photos, of all taggers of a shop joined, and what the photos of a sale show."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from recsys.images.lab.shop_photos import PHOTOS_FOLDER
from recsys.images.lab.trained_tagger import TrainedTagger
from recsys.images.settings import TaggerSettings
from recsys.images.tagging.tag_store import TagStore
from recsys.images.tagging.taggers import TaggerFiles, tagger_files
from recsys.storage.places import Place

PHOTO_ATTRIBUTE = "photo_"
"""What the names of sales' attributes begin with that say what their photos show, such as photo_rooms."""


@dataclass(frozen=True)
class ShopTagger:
    """A tagger of a night: a network, with its own labels or with a head that was trained on the shop's."""

    network: TaggerSettings
    files: TaggerFiles
    trained: TrainedTagger | None = None

    @classmethod
    def named(cls, settings: TaggerSettings) -> "ShopTagger":
        """Return a tagger whose labels are those of its network."""
        return cls(settings, tagger_files(settings))

    @classmethod
    def of_taxonomy(cls, trained: TrainedTagger) -> "ShopTagger":
        """Return a tagger with labels of the shop.

        Raises:
            ModelError: If its network gives other embeddings than those that its head was trained on.
        """
        return cls(trained.base, trained.network_files(), trained)

    @property
    def version(self) -> str:
        """A digest of all that determines the tags."""
        return self.trained.version if self.trained else self.files.version

    def tags(self, store: TagStore, image_hashes: pa.Array, n_tags: int) -> pd.DataFrame:
        """Return the tags of photos.

        Args:
            store: The store with the outputs of this tagger's network.
            image_hashes: The photos.
            n_tags: Maximum number of tags per photo.

        Returns:
            One row per photo with outputs: image_hash (the index); tags and probabilities, lists, most probable first;
            label, the sure label of a single-label taxonomy, otherwise None.
        """
        if self.trained is None:
            return self._named_tags(store, image_hashes, n_tags)
        found = store.embeddings(image_hashes)
        if found.num_rows == 0:
            return _tags_of([], [], [], [])
        embeddings = np.stack(found["embedding"].to_numpy()).astype(np.float32)
        return _tags_of(found["image_hash"].to_pylist(), *_trained_tags(self.trained, embeddings, n_tags))

    def _named_tags(self, store: TagStore, image_hashes: pa.Array, n_tags: int) -> pd.DataFrame:
        rows = store.outputs(["image_hash", "reason", "outputs", "probabilities"]).to_pandas()
        rows = rows[rows["reason"].isna() & rows["image_hash"].isin(image_hashes.to_pandas())]
        labels = np.array(self.files.labels, object)
        tags = [labels[outputs[:n_tags]].tolist() for outputs in rows["outputs"]]
        shares = [probabilities[:n_tags].tolist() for probabilities in rows["probabilities"]]
        return _tags_of(rows["image_hash"].tolist(), tags, shares, [None] * len(rows))


Tags = tuple[list[list[str]], list[list[float]], list[str | None]]
"""Of each photo: tags, their probabilities, and the sure label."""


def _trained_tags(tagger: TrainedTagger, embeddings: NDArray[np.float32], n_tags: int) -> Tags:
    head, labels = tagger.head, np.array(tagger.head.labels, object)
    probabilities = head.probabilities(embeddings)
    order = np.argsort(-probabilities, axis=1, kind="stable")
    if head.kind == "multi":
        assert head.thresholds is not None, "a multi-label head has thresholds"
        shown = [row[probabilities[photo, row] >= head.thresholds[row]][:n_tags] for photo, row in enumerate(order)]
        sure: list[str | None] = [None] * len(shown)
    else:
        other = len(labels)  # the output of photos that show none of these
        shown = [row[row < other][:n_tags] if row[0] != other else row[:0] for row in order]
        is_sure = head.margins(probabilities) >= tagger.sure
        sure = [labels[row[0]] if yes and len(row) else None for row, yes in zip(shown, is_sure, strict=True)]
    tags = [labels[row].tolist() for row in shown]
    shares = [probabilities[photo, row].tolist() for photo, row in enumerate(shown)]
    return tags, shares, sure


def _tags_of(
    image_hashes: list[str], tags: list[list[str]], probabilities: list[list[float]], labels: list[str | None]
) -> pd.DataFrame:
    index = pd.Index(image_hashes, dtype=object, name="image_hash")
    return pd.DataFrame({"tags": tags, "probabilities": probabilities, "label": labels}, index=index, dtype=object)


def joined_tags(found: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the tags of several taggers as one list per photo.

    Args:
        found: From `ShopTagger.tags`, one per tagger.

    Returns:
        One row per photo: image_hash (the index), tags, probabilities and weights, lists. The weights of the tags of
        each tagger have the same sum, so that no tagger outweighs another in themes; with one tagger they are the
        probabilities. A tag that several taggers give is listed once, with the sum of its weights and the highest
        probability.
    """
    if len(found) == 1:
        return found[0][["tags", "probabilities"]].assign(weights=found[0]["probabilities"])
    photos: dict[str, dict[str, tuple[float, float]]] = {}
    for rows in found:
        for image_hash, tags, probabilities in zip(rows.index, rows["tags"], rows["probabilities"], strict=True):
            total, joined = sum(probabilities), photos.setdefault(image_hash, {})
            for tag, probability in zip(tags, probabilities, strict=True):
                weight, highest = joined.get(tag, (0.0, 0.0))
                joined[tag] = (weight + probability / total if total else weight, max(highest, probability))
    ordered = [sorted(tags.items(), key=lambda tag: -tag[1][0]) for tags in photos.values()]
    columns = {
        "tags": [[tag for tag, _ in tags] for tags in ordered],
        "probabilities": [[highest for _, (_, highest) in tags] for tags in ordered],
        "weights": [[weight for _, (weight, _) in tags] for tags in ordered],
    }
    return pd.DataFrame(columns, index=pd.Index(list(photos), dtype=object, name="image_hash"), dtype=object)


def sale_labels(photos: pd.DataFrame, labels: pd.Series, taxonomy: str, cover_weight: float) -> pd.DataFrame:
    """Return the label that the photos of each sale show most.

    Args:
        photos: The photos of sales: sale_id, position, image_hash.
        labels: Sure label by image_hash; None where none is sure.
        taxonomy: Name of the taxonomy of the labels.
        cover_weight: Weight of a sale's cover, its first photo, relative to each of its other photos.

    Returns:
        One row per sale that has a photo with a sure label: sale_id, taxonomy, label.
    """
    rows = photos.sort_values(["sale_id", "position"])
    rows = rows.assign(label=rows["image_hash"].map(labels), weight=1.0)
    rows.loc[~rows.duplicated("sale_id"), "weight"] = cover_weight
    sums = pd.DataFrame(rows.dropna(subset="label").groupby(["sale_id", "label"])["weight"].sum()).reset_index()
    best = sums.sort_values(["sale_id", "weight", "label"], ascending=[True, False, True]).drop_duplicates("sale_id")
    return best[["sale_id", "label"]].assign(taxonomy=taxonomy)[["sale_id", "taxonomy", "label"]]


def photo_store(folder: Place, files: TaggerFiles) -> TagStore:
    """Return the store of a shop's photos, with the outputs of a tagger's network."""
    return TagStore(folder / PHOTOS_FOLDER, files.network_version)
