"""Wrong labels found, beside cleanlab's filters, and what a distilled labelling service keeps of its answers.

    python -m benchmarks.lab cleaning

10 % of the labels are flipped to another one at random. For all photos:
F1 of what is found, and average precision of the ranking. `ours` is the first band; cleanlab gets the same
probabilities, and the best of its five filters and three scores is chosen knowing the flips; its time is that of
`CleanLearning`, which fits the same regression. Then a fifth of the photos is held out: the share of the accuracy lost
to the flips that is won back by correcting the first band as suggested, by a person who gives its photos their true
labels, and by leaving out what cleanlab's best filter finds.

Where the weights of Places365's SqueezeNet are there, a head is distilled from its tags of at least .02 on the first
set: the 20 most frequent tags, 70 % of the photos to learn from. These tags are made once and kept in build/lab.
"""

import os
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from cleanlab.classification import CleanLearning
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, f1_score

from recsys.images.lab.cleaning import Evidence, bands_of, evidence_of, given_probability, likeliest
from recsys.images.lab.dataset import Dataset
from recsys.images.lab.distillation import distil
from recsys.images.lab.evaluation import HeldOut, multi_label_report
from recsys.images.lab.head import unit_length
from recsys.images.lab.training import train_head
from recsys.images.settings import ImageSettings, TaggerSettings
from recsys.images.tagging.taggers import tagger_files
from recsys.images.tagging.tagging import Worker, best_device, tag_photos

PLACES = Path(__file__).parents[2] / "shared" / "data" / "places365"
SEEDS = 5
FLIPPED = 0.1
PEER_C = 10.0
"""Inverse penalty of the regression that `CleanLearning` is timed with; its filters get our probabilities."""
FILTERS = ("prune_by_noise_rate", "prune_by_class", "both", "confident_learning", "predicted_neq_given")
SCORES = ("self_confidence", "normalized_margin", "confidence_weighted_entropy")
TEACHER_LABELS, TEACHER_CONFIDENCE, LEARNT = 20, 0.02, 0.7


class Found(NamedTuple):
    """What one run found, of ours and of cleanlab."""

    f1: float
    average_precision: float
    seconds: float


def measure(datasets: Mapping[str, Dataset]) -> None:
    for name, photos in datasets.items():
        clean_flips(replace(photos, parts=np.full(len(photos), "train", "U10")), name, SEEDS)
    if PLACES.exists() and datasets:
        name, photos = next(iter(datasets.items()))
        distil_tags(photos, tags_of(photos, Path("build/lab") / f"{name}_places.parquet"), SEEDS)


def tags_of(photos: Dataset, kept: Path) -> list[list[str]]:
    """Return the tags of at least .02 of each photo by Places365's SqueezeNet; kept in a file."""
    weights, labels = PLACES / "squeezenet_places365_a_fp16.npz", PLACES / "categories_places365.txt"
    network = TaggerSettings(name="places365_squeezenet", weights=str(weights), labels=str(labels))
    if not kept.exists():
        rows = pa.table({"image_hash": photos.image_hashes.tolist(), "image_uri": photos.image_uris.tolist()})
        worker = Worker(best_device(), os.cpu_count() or 1)
        batches = list(tag_photos(rows.to_batches(256), ImageSettings(), network, worker, below_root=False))
        kept.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_batches(batches), kept)
    names = tagger_files(network).labels
    return [
        [
            names[output]
            for output, share in zip(row["outputs"], row["probabilities"], strict=True)
            if share >= TEACHER_CONFIDENCE
        ]
        for row in pq.read_table(kept).to_pylist()
    ]


def clean_flips(dataset: Dataset, name: str, seeds: int) -> None:
    rows: dict[str, list[float]] = {}
    for seed in range(seeds):
        noisy, is_wrong = flipped(dataset, seed)
        ours, best = found(noisy, is_wrong, seed)
        for who, values in (("ours", ours), ("cleanlab", best)):
            for what, value in values._asdict().items():
                rows.setdefault(f"{what}, {who}", []).append(value)
        for what, value in accuracies(dataset, seed).items():
            rows.setdefault(f"accuracy, {what}", []).append(value)
    print(f"\n{name}: {len(dataset):,} photos, {len(dataset.labels)} labels, {seeds} seeds: mean, 95 % interval")
    for what, values in rows.items():
        print(f"  {what:40} {interval(values)}")
    lost = np.mean(rows["accuracy, true labels"]) - np.mean(rows["accuracy, flipped"])
    for what in ("corrected by ours", "reviewed by a person", "without cleanlab's"):
        won = np.mean(rows[f"accuracy, {what}"]) - np.mean(rows["accuracy, flipped"])
        print(f"  won back, {what:30} {won / lost:6.1%} of {100 * lost:.1f} points")
    ratio = np.mean(rows["seconds, ours"]) / np.mean(rows["seconds, cleanlab"])
    print(f"  seconds, ours : cleanlab                 {ratio:.2f}")


def flipped(dataset: Dataset, seed: int) -> tuple[Dataset, NDArray[np.bool_]]:
    """Return the dataset with a share FLIPPED of the labels outside the test part wrong, and which they are."""
    random = np.random.default_rng(seed)
    candidates = np.flatnonzero(dataset.parts != "test")
    wrong = random.choice(candidates, round(FLIPPED * len(candidates)), replace=False)
    classes, n_labels = dataset.classes.copy(), len(dataset.labels)
    classes[wrong] = (classes[wrong] + random.integers(1, n_labels, len(wrong))) % n_labels
    noisy = replace(dataset, targets=np.eye(n_labels, dtype=bool)[classes])
    return noisy, classes != dataset.classes


def found(noisy: Dataset, is_wrong: NDArray[np.bool_], seed: int) -> tuple[Found, Found]:
    """Return what we find of the flips, and what cleanlab finds with the best filter and the best score."""
    start = time.perf_counter()
    evidence = evidence_of(noisy, seed)
    is_found, support = first_band(evidence)
    ours = time.perf_counter() - start
    start = time.perf_counter()
    CleanLearning(
        LogisticRegression(C=PEER_C, max_iter=1000), seed=seed, find_label_issues_kwargs={"n_jobs": 1}
    ).find_label_issues(unit_length(noisy.embeddings), noisy.classes)
    cleanlab = time.perf_counter() - start
    filters = [f1_score(is_wrong, cleanlab_issues(noisy, evidence.by_head, each)) for each in FILTERS]
    scores = [
        average_precision_score(is_wrong, -get_label_quality_scores(noisy.classes, evidence.by_head, method=method))
        for method in SCORES
    ]
    ranking = average_precision_score(is_wrong, -support)
    return Found(f1_score(is_wrong, is_found), ranking, ours), Found(max(filters), max(scores), cleanlab)


def first_band(evidence: Evidence) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return which labels are most likely wrong, and the mean of P and V of each."""
    both = evidence.by_head, evidence.by_neighbours
    support = np.mean([given_probability("single", evidence.given, each) for each in both], axis=0)
    said = [likeliest("single", outputs) for outputs in both]
    return np.array([band == "wrong" for band in bands_of(evidence.given, said[0], said[1], support)]), support


def cleanlab_issues(noisy: Dataset, by_head: NDArray[np.float64], filter_by: str) -> NDArray[np.bool_]:
    return np.asarray(find_label_issues(noisy.classes, by_head, filter_by=filter_by, n_jobs=1))


def accuracies(dataset: Dataset, seed: int) -> dict[str, float]:
    """Return the accuracy on held-out photos of heads fitted to true, flipped, corrected and filtered labels."""
    random = np.random.default_rng(1000 + seed)
    held_out = np.unique(dataset.groups)[random.random(len(np.unique(dataset.groups))) < 0.2]
    parts = np.where(np.isin(dataset.groups, held_out), "test", "train")
    dataset = replace(dataset, parts=parts)
    noisy, is_wrong = flipped(dataset, seed)
    evidence = evidence_of(noisy, seed)
    is_found, _ = first_band(evidence)
    suggested = likeliest("single", evidence.by_head)
    corrected = np.where((is_found & (parts != "test"))[:, np.newaxis], suggested, noisy.targets)
    reviewed = np.where(is_found[:, np.newaxis], dataset.targets, noisy.targets)
    learnt_from = parts != "test"
    filtered = []
    for filter_by in FILTERS:
        issues = cleanlab_issues(noisy.where(learnt_from), evidence.by_head[learnt_from], filter_by)
        kept = np.flatnonzero(learnt_from)[~issues]
        filtered.append(accuracy(dataset, noisy.targets, kept))
    training = np.flatnonzero(learnt_from)
    return {
        "true labels": accuracy(dataset, dataset.targets, training),
        "flipped": accuracy(dataset, noisy.targets, training),
        "corrected by ours": accuracy(dataset, corrected, training),
        "reviewed by a person": accuracy(dataset, reviewed, training),
        "without cleanlab's": max(filtered),
        "without the flips": accuracy(dataset, noisy.targets, np.flatnonzero(learnt_from & ~is_wrong)),
    }


def accuracy(dataset: Dataset, targets: NDArray[np.bool_], rows: NDArray[np.int64]) -> float:
    learnt = replace(dataset, targets=targets).where(rows)
    head = train_head(replace(learnt, parts=np.full(len(rows), "train")), "linear")
    test = dataset.part("test")
    return float((head.probabilities(test.embeddings).argmax(1) == test.classes).mean())


def distil_tags(dataset: Dataset, tags: list[list[str]], seeds: int) -> None:
    counts = Counter(tag for each in tags for tag in each)
    labels = [tag for tag, _ in counts.most_common(TEACHER_LABELS)]
    targets = np.array([[label in each for label in labels] for each in tags])
    answered = replace(dataset, labels=labels, kind="multi", targets=targets)
    figures: dict[str, list[float]] = {}
    for seed in range(seeds):
        random = np.random.default_rng(seed)
        parts = np.where(random.permutation(len(dataset)) < LEARNT * len(dataset), "train", "test")
        result = distil(split := replace(answered, parts=parts), seed)
        held = HeldOut.of(result.head, result.sure, split.part("test"))
        report = multi_label_report(held.is_said, held.photos.targets)
        for name, values in (("micro", report.micro), ("macro", report.macro)):
            for what, value in zip(("precision", "recall", "F1"), values, strict=True):
                figures.setdefault(f"{name} {what}", []).append(value)
        figures.setdefault("accuracy", []).append(report.accuracy)
        figures.setdefault("accuracy of always no", []).append(report.always_no)
    print(f"\ndistilled: {len(labels)} tags of SqueezeNet, {seeds} seeds: mean, 95 % interval")
    for what, values in figures.items():
        print(f"  {what:40} {interval(values)}")


def interval(values: list[float]) -> str:
    half = 1.96 * np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else float("nan")
    return f"{np.mean(values):.3f} ± {half:.3f}"
