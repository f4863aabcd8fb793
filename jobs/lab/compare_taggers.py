"""Compares two versions of a taxonomy's tagger: how often each is right, and how many photos change their tag."""

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from jobs.lab.train_tagger import is_right
from jobs.registry.taggers import TaggerEvidence, read_tagger
from recsys.config.settings import Settings
from recsys.images.lab.evaluation import compare
from recsys.images.lab.shop_photos import ShopPhotos
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

    Photos without an embedding of both networks are left out; None if none is left.

    Args:
        settings: The shop.
        taxonomy: Name of the taxonomy.
        new: A version, see `version_of`.
        old: The other version.
    """
    taggers = [read_tagger(settings, taxonomy, version) for version in (new, old)]
    datasets = [_photos_of(settings, tagger).dataset().part("test") for tagger in taggers]
    common = sorted(set(datasets[0].image_hashes.tolist()) & set(datasets[1].image_hashes.tolist()))
    if not common:
        return None
    right = [
        is_right(tagger, dataset.where(np.isin(dataset.image_hashes, common)))
        for tagger, dataset in zip(taggers, datasets, strict=True)
    ]
    found = compare(*right).difference
    return TaggerEvidence(found.value, found.low, found.high, len(common))


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
    photos = _photos_of(settings, tagger).photos()
    said = tagger.head.said(tagger.head.probabilities(photos.embeddings)) if len(photos) else []
    return dict(zip(photos.image_hashes.tolist(), (", ".join(labels) for labels in said), strict=True))


def _photos_of(settings: Settings, tagger: TrainedTagger) -> ShopPhotos:
    """Return the shop's photos as the network of a version sees them."""
    return replace(ShopPhotos.of(settings, tagger.taxonomy), version=tagger.base_version)
