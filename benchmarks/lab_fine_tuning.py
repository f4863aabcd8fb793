"""Fine-tuning compared with a head on the embeddings of the same base network: the same labels, the same test photos.

    python -m benchmarks.lab fine_tuning

In each split, 1,000 photos (of few photos, two thirds) are chosen at random, of which 70 % are trained on and 10 %
validate; all others are the test photos. Without a GPU one thread is used. Photos per second are those that training
passes through the network, with reading and the frozen part.
"""

import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from recsys.images.lab.dataset import Dataset
from recsys.images.lab.fine_tuning import FineTuned, FineTuningSettings, fine_tune
from recsys.images.lab.head import Head, unit_length
from recsys.images.settings import ImageSettings, TaggerSettings
from recsys.images.tagging.tagging import Worker, best_device

LABELLED, SPLITS, FREEZE = 1000, 4, "blocks:11"


def measure(datasets: Mapping[str, Dataset]) -> None:
    for name, photos in datasets.items():
        print(f"\n{name}: {min(LABELLED, len(photos) * 2 // 3):,} labelled photos, {FREEZE} frozen, {SPLITS} splits")
        compare_with_head(photos, min(LABELLED, len(photos) * 2 // 3))


def compare_with_head(photos: Dataset, labelled: int) -> None:
    """Print the accuracy of a head and of the fine-tuned network on the same test photos of each split."""
    base, worker = TaggerSettings(), Worker(best_device(), 1)
    gains, right = [], []
    for split in range(SPLITS):
        dataset = split_at_random(photos, labelled, split)
        head = linear_head(dataset)
        settings = FineTuningSettings(freeze=FREEZE, seed=split)
        start = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="fine-tuning-") as folder:
            result = fine_tune(dataset, ImageSettings(root="/"), base, head, settings, Path(folder), worker)
        seconds = time.perf_counter() - start
        of_head, of_tuned = hits(head, dataset.part("test")), hits(result.head, result.dataset.part("test"))
        right.append((of_head, of_tuned))
        gains.append(of_tuned.mean() - of_head.mean())
        print(
            f"  split {split}: head {of_head.mean():.3f}, fine-tuned {of_tuned.mean():.3f}; {told(result, seconds)}",
            flush=True,
        )
    before, after = (np.mean([pair[side].mean() for pair in right]) for side in (0, 1))
    low, high = paired_interval(right)
    print(f"head {before:.3f}, fine-tuned {after:.3f}: {after - before:+.3f} ({low:+.3f} to {high:+.3f})")


def told(result: FineTuned, seconds: float) -> str:
    trained = len(result.epochs) * int((result.dataset.parts == "train").sum())
    losses = f"validation loss {result.of_head.loss:.3f} -> {min(each.loss for each in result.epochs):.3f}"
    taken = "" if result.is_better else ", not taken"
    return f"{losses}{taken}; {len(result.epochs)} epochs, {trained / seconds:.0f} photos/s, {seconds:.0f} s"


def split_at_random(photos: Dataset, labelled: int, seed: int) -> Dataset:
    order, n = np.random.default_rng(seed).permutation(len(photos)), min(labelled, int(len(photos) / 1.25))
    parts = np.full(len(photos), "test", dtype="<U10")
    parts[order[: int(0.7 * n)]] = "train"
    parts[order[int(0.7 * n) : int(0.8 * n)]] = "validation"
    return replace(photos, parts=parts)


def linear_head(dataset: Dataset) -> Head:
    """Return a logistic regression of the part train, its penalty chosen on the part validation."""
    train, validation = dataset.part("train"), dataset.part("validation")
    known = range(len(dataset.labels))
    models = [
        LogisticRegression(C=c, max_iter=2000).fit(unit_length(train.embeddings), train.classes)
        for c in (3, 10, 30, 100)
    ]
    inputs = unit_length(validation.embeddings)
    best = min(models, key=lambda model: log_loss(validation.classes, model.predict_proba(inputs), labels=known))
    return Head("single", dataset.labels, [best.coef_.T.astype(np.float32)], [best.intercept_.astype(np.float32)])


def hits(head: Head, photos: Dataset) -> NDArray[np.bool_]:
    return head.logits(photos.embeddings).argmax(1) == photos.classes


def paired_interval(right: list[tuple[NDArray[np.bool_], NDArray[np.bool_]]]) -> tuple[float, float]:
    """Return the 95 % interval of the mean gain, from the photos' paired differences within the splits.

    Splits share photos, so that it is a little too narrow.
    """
    differences = np.concatenate([after.astype(float) - before for before, after in right])
    half = 1.96 * differences.std() / np.sqrt(len(differences))
    return differences.mean() - half, differences.mean() + half
