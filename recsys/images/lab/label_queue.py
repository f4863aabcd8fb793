"""The photos of a shop to label next, as a file: CSV that is filled in and imported, or tasks for Label Studio."""

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.errors import ConfigurationError, EmptyInputError
from recsys.images.lab.active_learning import (
    STABLE,
    STOPPING_ROUNDS,
    changed_predictions,
    is_stable,
    next_batch,
)
from recsys.images.lab.dataset import Dataset
from recsys.images.lab.shop_photos import ShopPhotos
from recsys.images.lab.taxonomy import Taxonomy
from recsys.storage.local import write_whole

TO_FILL_IN = "?"
"""Stands where the labeller writes: an empty cell would say that a photo shows none of the labels."""
_PREDICTED = 5_000
"""Photos without a label whose predictions are compared, at most."""
_SCORES = ("rank", "score", "U", "I", "D")


@dataclass(frozen=True)
class Queue:
    """Photos to label."""

    rows: list[dict[str, Any]]  # rank, image_uri, image_hash, score, U, I, D, nearest; the first to label first
    n_open: int  # photos without a label
    n_labelled: int
    changed: list[float]  # of the predictions, share that each of the last batches of labels changed

    @property
    def advice(self) -> str:
        """Whether further labels are worth it, in words."""
        if len(self.changed) < STOPPING_ROUNDS:
            return f"{self.n_labelled:,} labels: too few to tell what further ones change."
        told = ", ".join(f"{share:.1%}" for share in self.changed)
        advice = f"The last {STOPPING_ROUNDS} batches of labels changed {told} of the predictions"
        if is_stable(self.changed):
            return f"{advice}: labels beyond here change less than {STABLE:.0%}, labelling can stop."
        return f"{advice}: labels beyond here change about {self.changed[-1]:.1%}, go on."


def label_queue(shop: ShopPhotos, n: int, seed: int = 0) -> Queue:
    """Choose the photos of a shop to label next.

    Photos of the test part do not vote: nothing is learnt from them, not even which photos to label.

    Raises:
        EmptyInputError: If the shop has no photo with an embedding, or all of them are labelled.
    """
    photos = shop.photos()
    words = shop.labels.current()
    candidates = np.flatnonzero(~np.isin(photos.image_hashes, np.array(words["image_hash"].to_pylist(), np.str_)))
    if len(candidates) == 0:
        raise EmptyInputError(
            f"{len(photos):,} photos of the shop were seen by '{shop.taxonomy.base.name}' and none is without a label: "
            "run 'recsys nightly' with new photos"
        )
    labelled = _labelled(shop, photos.embeddings.shape[1])
    batch = next_batch(photos.embeddings, candidates, labelled, n, seed)
    at = dict(zip(words["image_hash"].to_pylist(), words["at"].to_pylist(), strict=True))
    order = np.array(sorted(range(len(labelled)), key=lambda row: at[labelled.image_hashes[row]]), np.int64)
    sample = np.random.default_rng(seed).permutation(candidates)[:_PREDICTED]
    changed = changed_predictions(photos.embeddings[sample], labelled, order, n)
    rows = []
    for place, row in enumerate(batch.photos.tolist()):
        nearest = [
            {
                "image_uri": str(labelled.image_uris[other]),
                "labels": [labelled.labels[column] for column in labelled.targets[other].nonzero()[0]],
                "cosine": round(float(cosine), 3),
            }
            for other, cosine in zip(batch.nearest_labelled[place], batch.cosines[place], strict=True)
        ]
        values = (batch.score, batch.uncertainty, batch.density, batch.diversity)
        scores = {name: round(float(each[place]), 4) for name, each in zip(_SCORES[1:], values, strict=True)}
        photo = {"image_uri": str(photos.image_uris[row]), "image_hash": str(photos.image_hashes[row])}
        rows.append({"rank": place + 1, **photo, **scores, "nearest": nearest})
    return Queue(rows, len(candidates), len(words), changed)


def write_queue(rows: list[dict[str, Any]], taxonomy: Taxonomy, path: Path) -> None:
    """Write rows of a queue as .csv, with a column `labels` to fill in, or as .json for Label Studio.

    Raises:
        ConfigurationError: If the file has another suffix.
    """
    if path.suffix == ".csv":
        write_whole(path, _csv(rows, taxonomy))
    elif path.suffix == ".json":
        write_whole(path, json.dumps(_tasks(rows, taxonomy), indent=2, ensure_ascii=False) + "\n")
    else:
        raise ConfigurationError(
            f"queue '{path}' ends in '{path.suffix}', must end in .csv, or in .json for Label Studio: rename it"
        )


def _tasks(rows: list[dict[str, Any]], taxonomy: Taxonomy) -> list[dict[str, Any]]:
    from recsys.images.lab.label_studio import label_studio_tasks

    tasks = label_studio_tasks([{**row, "labels": None} for row in rows], taxonomy)
    for task, row in zip(tasks, rows, strict=True):
        task["data"] |= {name: row[name] for name in (*_SCORES, "nearest")}
    return tasks


def _csv(rows: list[dict[str, Any]], taxonomy: Taxonomy) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image_uri", "labels", "taxonomy", *_SCORES, "nearest"])
    for row in rows:
        near = "; ".join(f"{'|'.join(each['labels']) or '-'} {each['cosine']:.2f}" for each in row["nearest"])
        writer.writerow([row["image_uri"], TO_FILL_IN, taxonomy.name, *(row[name] for name in _SCORES), near])
    return text.getvalue()


def _labelled(shop: ShopPhotos, n_features: int) -> Dataset:
    """Return the labelled photos outside the test part; an empty dataset if there are none."""
    try:
        dataset = shop.dataset()
        return dataset.where(dataset.parts != "test")
    except EmptyInputError:
        words: NDArray[np.str_] = np.zeros(0, np.str_)
        targets = np.zeros((0, len(shop.taxonomy.ids)), np.bool_)
        embeddings, groups = np.zeros((0, n_features), np.float32), np.zeros(0, np.int64)
        return Dataset(shop.taxonomy.ids, shop.taxonomy.kind, words, words, embeddings, targets, groups, words)
