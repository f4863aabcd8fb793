"""Compares two versions of a taxonomy's tagger: how often each is right, and how many photos change their tag."""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs.lab.train_tagger import is_right
from jobs.registry.taggers import TaggerEvidence, read_tagger
from recsys.config.settings import Settings
from recsys.images.lab.dataset import Dataset
from recsys.images.lab.evaluation import compare
from recsys.images.lab.shop_photos import ShopPhotos
from recsys.images.lab.taxonomy import load_taxonomy
from recsys.images.lab.trained_tagger import TrainedTagger


@dataclass(frozen=True)
class Drift:
    """What a change of version does to the tags of a shop's photos."""

    photos: int
    changed: int
    """Photos whose most probable label changes, also to or from none."""
    by_label: dict[str, tuple[int, int, int]]
    """Of each label: photos before, photos after, photos that keep it."""

    @property
    def share(self) -> float:
        """Share of the photos whose label changes, in [0, 1]."""
        return self.changed / max(self.photos, 1)


def evidence(settings: Settings, taxonomy: str, new: str, old: str) -> TaggerEvidence | None:
    """Return the accuracy of a version minus that of another, on the labelled photos of the test part.

    Photos that cannot be read by the network of a version that has not seen them are left out; None if none is left.

    Args:
        settings: The shop.
        taxonomy: Name of the taxonomy.
        new: A version, see `version_of`.
        old: The other version.
    """
    taggers = [read_tagger(settings, taxonomy, version) for version in (new, old)]
    test = ShopPhotos.of(settings, load_taxonomy(Path(settings.images.taxonomies), taxonomy)).dataset().part("test")
    embeddings = [_embeddings(settings, tagger, test) for tagger in taggers]
    photos = [photo for photo in test.image_hashes.tolist() if all(photo in each for each in embeddings)]
    if not photos:
        return None
    common = test.where(np.isin(test.image_hashes, photos))
    right = [
        is_right(tagger, replace(common, embeddings=np.stack([found[photo] for photo in photos])))
        for tagger, found in zip(taggers, embeddings, strict=True)
    ]
    found = compare(*right).difference
    return TaggerEvidence(found.value, found.low, found.high, len(photos))


def drift(settings: Settings, taxonomy: str, new: str, old: str) -> Drift:
    """Return how many of the shop's photos change their most probable label from one version to another."""
    said = [_labels_by_photo(settings, read_tagger(settings, taxonomy, version)) for version in (old, new)]
    common = sorted(said[0].keys() & said[1].keys())
    before, after = ([labels[photo] for photo in common] for labels in said)
    kept = Counter(old for old, new in zip(before, after, strict=True) if old == new)
    counts = Counter(before), Counter(after)
    labels = sorted(counts[0] | counts[1], key=lambda label: (-counts[0][label], label))
    by_label = {label: (counts[0][label], counts[1][label], kept[label]) for label in labels}
    return Drift(len(common), len(common) - sum(kept.values()), by_label)


def _labels_by_photo(settings: Settings, tagger: TrainedTagger) -> dict[str, str]:
    photos = _photos_seen_by(settings, tagger).photos()
    said = tagger.head.said(tagger.head.probabilities(photos.embeddings)) if len(photos) else []
    return dict(zip(photos.image_hashes.tolist(), (", ".join(labels) for labels in said), strict=True))


def _embeddings(settings: Settings, tagger: TrainedTagger, photos: Dataset) -> dict[str, NDArray[np.float32]]:
    """Return the embeddings of a version's network by image_hash; it is run on photos that it has not seen."""
    seen = _photos_seen_by(settings, tagger)
    seen.embed(photos.image_uris.tolist(), root="/")  # labelled photos may lie anywhere
    rows = seen.store.embeddings(pa.array(photos.image_hashes.tolist())).to_pylist()
    return {row["image_hash"]: np.array(row["embedding"], np.float32) for row in rows}


def _photos_seen_by(settings: Settings, tagger: TrainedTagger) -> ShopPhotos:
    """Return the shop's photos as the network of a version sees them."""
    return ShopPhotos.of(settings, tagger.taxonomy.model_copy(update={"base": tagger.base}))
