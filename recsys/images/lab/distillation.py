"""Distils a labelling service: its answers on some photos become a multi-label head that answers for all of them."""

from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsys.errors import ConfigurationError, InputError
from recsys.images.lab.answers import Rejected, label_rows, read_answers
from recsys.images.lab.dataset import Dataset
from recsys.images.lab.head import Head
from recsys.images.lab.logistic import fit_linear, out_of_fold_probabilities
from recsys.images.lab.shop_photos import ShopPhotos
from recsys.images.lab.trained_tagger import TrainedTagger
from recsys.images.tagging.files import PhotoFiles
from recsys.images.tagging.taggers import tagger_files

FEWEST_PHOTOS = 20
FEWEST_POSITIVES = 5
"""Training photos that a label needs to be learnt."""
OWN_THRESHOLD_FROM = 50
"""Training photos from which a label has a threshold of its own: one chosen on fewer is mostly chance."""
SURE_PRECISION = 0.95
_THRESHOLDS = np.linspace(0.02, 0.98, 97)
TAGGERS = "taggers"
"""Subfolder of the shop's folder with the versions of each taxonomy's tagger."""


@dataclass(frozen=True)
class Answered:
    """Whose answers are distilled, recorded in the card of the tagger."""

    service: str
    terms: str  # under which the answers may be learnt from
    at: datetime  # when they were given, with a time zone


@dataclass(frozen=True)
class Scores:
    """Precision, recall and F1; 0 where nothing is said, or nothing is there."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class LabelScores:
    """How well a label is distilled."""

    label: str
    training_photos: int  # with the label
    test_photos: int  # with the label
    threshold: float
    has_own_threshold: bool
    scores: Scores  # on the test part


@dataclass(frozen=True)
class Distillation:
    """A distilled head, and how well it repeats the service on photos that it was not fitted to."""

    head: Head
    sure: float  # least distance above a threshold from which SURE_PRECISION of the labels said are the service's
    left_out: Mapping[str, str]  # reason by label
    training_photos: int
    test_photos: int
    micro: Scores  # over all pairs of photo and label
    macro: Scores  # mean over labels
    accuracy: float  # share of pairs of photo and label decided as by the service
    always_no: float  # accuracy of never saying a label
    by_label: list[LabelScores]


def distil(dataset: Dataset, seed: int = 0) -> Distillation:
    """Fit a multi-label head, choose its thresholds on training folds, and measure it on the test part.

    Args:
        dataset: Answered photos of kind multi; all but the test part is learnt from.
        seed: Seed of the folds.

    Raises:
        ConfigurationError: If the dataset is of kind single.
        InputError: If there are too few photos in either part, or no label has enough.
    """
    if dataset.kind != "multi":
        raise ConfigurationError("answers of a service are distilled to kind: multi only: set it in the taxonomy")
    training, test = dataset.where(dataset.parts != "test"), dataset.part("test")
    if len(training) < FEWEST_PHOTOS or len(test) == 0:
        raise InputError(
            f"{len(training)} answered photos to learn from and {len(test)} to test, must be at least {FEWEST_PHOTOS} "
            "and 1: have more photos answered"
        )
    left_out = _left_out(training)
    learnt = [column for column, label in enumerate(dataset.labels) if label not in left_out]
    if not learnt:
        raise InputError("no label can be learnt: " + "; ".join(f"{key}: {why}" for key, why in left_out.items()))
    labels, targets = [dataset.labels[column] for column in learnt], training.targets[:, learnt]
    unseen = out_of_fold_probabilities(training.embeddings, targets, training.groups, labels, "multi", seed)
    thresholds = choose_thresholds(unseen, targets)
    head = replace(fit_linear(training.embeddings, targets, labels, "multi"), thresholds=thresholds)
    said = head.probabilities(test.embeddings) >= thresholds
    true = test.targets[:, learnt]
    by_label = [scores_of(said[:, column], true[:, column]) for column in range(len(labels))]
    positives = targets.sum(0)
    return Distillation(
        head,
        _sure_from(unseen, targets, thresholds),
        left_out,
        len(training),
        len(test),
        scores_of(said, true),
        Scores(*np.mean([astuple(each) for each in by_label], axis=0).tolist()),
        float((said == true).mean()),
        float((~true).mean()),
        [
            LabelScores(
                label,
                int(positives[column]),
                int(true[:, column].sum()),
                float(thresholds[column]),
                bool(positives[column] >= OWN_THRESHOLD_FROM),
                by_label[column],
            )
            for column, label in enumerate(labels)
        ],
    )


def choose_thresholds(probabilities: NDArray[np.float64], targets: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the thresholds of highest F1, shape (n_labels,): shared by labels of fewer than OWN_THRESHOLD_FROM photos.

    Args:
        probabilities: Shape (n_photos, n_labels), of heads that did not see the photo.
        targets: Shape (n_photos, n_labels).
    """
    thresholds = np.full(targets.shape[1], _best_threshold(probabilities, targets), np.float32)
    for column in np.flatnonzero(targets.sum(0) >= OWN_THRESHOLD_FROM):
        thresholds[column] = _best_threshold(probabilities[:, column], targets[:, column])
    return thresholds


def scores_of(said: NDArray[np.bool_], true: NDArray[np.bool_]) -> Scores:
    """Return precision, recall and F1 of decisions of any shape."""
    right = int((said & true).sum())
    precision, recall = right / max(1, int(said.sum())), right / max(1, int(true.sum()))
    return Scores(precision, recall, 2 * right / max(1, int(said.sum()) + int(true.sum())))


def distil_answers(
    shop: ShopPhotos, file: Path, answered: Answered, min_confidence: float = 0.0, seed: int = 0
) -> tuple[TrainedTagger, Distillation, list[Rejected]]:
    """Store a service's answers as labels, and distil all labels of the taxonomy to a tagger, which is saved.

    Args:
        shop: The photos and labels; photos that its base network has not seen yet are read.
        file: The answers; see `read_answers`.
        answered: Whose answers they are.
        min_confidence: See `read_answers`.
        seed: Seed of the folds.

    Returns:
        The tagger, its figures, and the rows that were left aside.

    Raises:
        ConfigurationError: If the taxonomy is of kind single.
        InputError: See `read_answers` and `distil`.
    """
    if shop.taxonomy.kind != "multi":
        raise ConfigurationError(
            f"taxonomy '{shop.taxonomy.name}': kind == 'single', must be 'multi': a service names any number of labels"
        )
    answers = read_answers(file, shop.taxonomy, PhotoFiles.of(shop.images).absolute, min_confidence)
    seen = shop.embed(answers.labels).to_pylist()
    unseen = [Rejected(None, row["image_uri"], "", row["detail"] or row["reason"]) for row in seen if row["reason"]]
    hashes = {row["image_uri"]: row["image_hash"] for row in seen if not row["reason"]}
    current = shop.labels.current()
    shop.labels.add(label_rows(answers, hashes, shop.taxonomy, current, answered.service, answered.at))
    distillation = distil(shop.dataset(), seed)
    figures = asdict(distillation)
    del figures["head"], figures["sure"]
    told = {"service": answered.service, "terms": answered.terms, "at": answered.at.isoformat(), "file": file.name}
    counts = {"answered_photos": len(hashes), "rejected_answers": len(answers.rejected) + len(unseen)}
    card = {"distilled_from": told | counts | {"min_confidence": min_confidence}, "seed": seed, **figures}
    taxonomy = shop.taxonomy
    version = tagger_files(taxonomy.base).version
    tagger = TrainedTagger(taxonomy, taxonomy.base, version, distillation.head, distillation.sure, card)
    folder = shop.folder / TAGGERS / taxonomy.name / tagger.version
    if not folder.exists():
        tagger.save(folder)
    return tagger, distillation, [*answers.rejected, *unseen]


def _left_out(training: Dataset) -> dict[str, str]:
    reasons = {}
    for label, targets in zip(training.labels, training.targets.T, strict=True):
        if (count := int(targets.sum())) < FEWEST_POSITIVES:
            reasons[label] = f"on {count} of {len(training)} training photos, must be on at least {FEWEST_POSITIVES}"
        elif count == len(training):
            reasons[label] = f"on all {count} training photos, must be absent from some"
    return reasons


def _best_threshold(probabilities: NDArray[np.float64], targets: NDArray[np.bool_]) -> float:
    """Return the threshold of highest F1; of equal ones that in the middle."""
    f1 = np.array([scores_of(probabilities >= each, targets).f1 for each in _THRESHOLDS])
    best = np.flatnonzero(f1 >= f1.max() - 1e-9)
    return float(_THRESHOLDS[best[len(best) // 2]])


def _sure_from(
    probabilities: NDArray[np.float64], targets: NDArray[np.bool_], thresholds: NDArray[np.float32]
) -> float:
    distances = np.linspace(0, 1, 101)
    for distance in distances:
        said = probabilities >= thresholds + distance
        if not said.any() or targets[said].mean() >= SURE_PRECISION:
            return float(distance)
    return 1.0
