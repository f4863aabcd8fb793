"""Fine-tuning compared with a head on the embeddings of the same base network: the same labels, the same test photos.

    python -m benchmarks.lab_fine_tuning FOLDER [--labelled 1000] [--splits 4] [--freeze blocks:11]
                                         [--tagger efficientnet_lite0]

FOLDER has a folder of photos for each label, such as ../shared/data/photos/clothing. In each split, `labelled` photos
are chosen at random, of which 70 % are trained on and 10 % validate; all others are the test photos. Without a GPU one
thread is used. Photos per second are those that training passes through the network, with reading and the frozen part.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from benchmarks import machine
from recsys.images.lab.dataset import Dataset
from recsys.images.lab.fine_tuning import FineTuned, FineTuningSettings, fine_tune
from recsys.images.lab.head import Head, unit_length
from recsys.images.settings import ImageSettings, TaggerSettings
from recsys.images.tagging.files import content_hash
from recsys.images.tagging.tagging import Worker, best_device, tag_photos


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--labelled", type=int, default=1000)
    parser.add_argument("--splits", type=int, default=4)
    parser.add_argument("--freeze", default="blocks:11")
    parser.add_argument("--tagger", default="efficientnet_lite0")
    arguments = parser.parse_args()
    worker = Worker(best_device(), 1)
    device = torch.cuda.get_device_name() if worker.device == "cuda" else "1 thread"
    print(f"{machine.describe()}, {device}")
    base = TaggerSettings(name=arguments.tagger)
    photos = labelled_photos(arguments.folder.resolve(), base, worker)
    gains, right = [], []
    for split in range(arguments.splits):
        dataset = split_at_random(photos, arguments.labelled, split)
        head = linear_head(dataset)
        settings = FineTuningSettings(freeze=arguments.freeze, seed=split)
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


def labelled_photos(folder: Path, base: TaggerSettings, worker: Worker) -> Dataset:
    """Return all photos below a folder that can be read, labelled by the names of their folders."""
    paths = sorted(path for path in folder.glob("*/*") if path.is_file())
    hashes = [content_hash(path.read_bytes()) for path in paths]
    rows = pa.table({"image_hash": hashes, "image_uri": [str(path) for path in paths]})
    images = ImageSettings(tagger=base)
    tagged = [
        row for batch in tag_photos(rows.to_batches(256), images, worker, below_root=False) for row in batch.to_pylist()
    ]
    known = [number for number, row in enumerate(tagged) if row["embedding"] is not None]
    labels = sorted({path.parent.name for path in paths})
    names = np.array([paths[number].parent.name for number in known])
    return Dataset(
        labels,
        "single",
        np.array(hashes)[known],
        np.array([str(paths[number]) for number in known]),
        np.array([tagged[number]["embedding"] for number in known], np.float32),
        names[:, None] == np.array(labels),
        np.arange(len(known)),
        np.full(len(known), "train"),
    )


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


if __name__ == "__main__":
    main()
