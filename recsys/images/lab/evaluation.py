"""How good a tagger is: accuracies with intervals, per class, calibration, comparison of versions, learning curve."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.stats import binomtest, norm

from recsys.errors import InputError
from recsys.images.lab.dataset import Dataset
from recsys.images.lab.head import Head
from recsys.images.lab.training import FOLDS, Array, HeadKind, fit_linear, folds_of, train
from recsys.metrics import Estimate
from recsys.wording import plural

TOP = (1, 3, 5)
ENOUGH_TEST_PHOTOS = 300
"""Photos in the test part below which figures come from five folds over all photos."""
NONE_OF_THESE = "none of these"
_BINS = 15
_SHARES = (0.1, 0.18, 0.32, 0.56, 1.0)
_CURVE_PHOTOS = 3000
_RESAMPLES = 200
_MOST_RATIO = 100.0


@dataclass(frozen=True)
class ClassReport:
    """How well a class is recognised; None where undefined: nothing was predicted, or no photo shows it."""

    label: str
    precision: float | None
    recall: float | None
    f1: float | None
    support: int
    """Number of photos that show it."""


@dataclass(frozen=True)
class MultiLabelReport:
    """Averages over labels of kind multi, each in [0, 1]; macro: over the labels that photos show."""

    micro: tuple[float, float, float]  # precision, recall, F1
    macro: tuple[float, float, float]
    accuracy: float
    """Share of right answers to "does the photo show the label?"."""
    always_no: float
    """The accuracy of saying no to every label."""


@dataclass(frozen=True)
class Bin:
    """Photos of about the same confidence."""

    confidence: float
    accuracy: Estimate


@dataclass(frozen=True)
class Comparison:
    """Two versions on the same photos."""

    difference: Estimate
    """Accuracy of the new version minus that of the old one."""
    only_new: int
    """Photos that only the new version has right."""
    only_old: int
    p_value: float
    """McNemar's exact test: probability of such a difference or a larger one between equally good versions."""


@dataclass(frozen=True)
class LearningCurve:
    """Held-out accuracy by number of learnt photos, and what the curve says about more of them."""

    points: list[tuple[int, Estimate]]
    target: float
    """Accuracy that is asked for."""
    needed: Estimate | None
    """Learnt photos for the target, in 8 of 10 resamples within low and high (inf: not with any number); None if the
    curve is too short or already above."""


@dataclass(frozen=True)
class HeldOut:
    """Photos, and what was predicted of them by heads that had not learnt them."""

    photos: Dataset
    probabilities: Array  # (n_photos, n_outputs)
    is_said: NDArray[np.bool_]  # (n_photos, n_labels): the labels that the head gives each photo
    is_right: NDArray[np.bool_]  # (n_photos,); of kind multi: all labels
    is_sure: NDArray[np.bool_]  # (n_photos,): filed without review
    source: Literal["test part", "5 folds"]

    @classmethod
    def of(
        cls, head: Head, sure: float, photos: Dataset, source: Literal["test part", "5 folds"] = "test part"
    ) -> "HeldOut":
        """Return what a head, with the margin of its sure labels, predicts of photos that it has not learnt."""
        probabilities = head.probabilities(photos.embeddings)
        if head.thresholds is not None:
            is_said = probabilities >= head.thresholds
        else:
            is_said = np.arange(len(head.labels)) == probabilities.argmax(1)[:, None]
        is_sure = head.margins(probabilities) >= sure
        return cls(photos, probabilities, is_said, (is_said == photos.targets).all(1), is_sure, source)


def held_out(dataset: Dataset, head: Head, sure: float, kind: HeadKind, seed: int = 0) -> HeldOut:
    """Return predictions of the part test, or of all photos by five folds if it has fewer than 300.

    Args:
        dataset: The photos that the head was trained on, and the part test.
        head: The trained head.
        sure: Its margin of sure labels.
        kind: What the heads of the folds are.
        seed: Of the folds.
    """
    test = dataset.part("test")
    return HeldOut.of(head, sure, test) if len(test) >= ENOUGH_TEST_PHOTOS else cross_validated(dataset, kind, seed)


def cross_validated(dataset: Dataset, kind: HeadKind = "best", seed: int = 0) -> HeldOut:
    """Return predictions of every photo by a head that was trained, with all its choices, on four other folds.

    Raises:
        EmptyInputError: If fewer than two classes, or five groups, have photos.
    """
    folds = folds_of(dataset, FOLDS, seed)
    n_outputs = len(dataset.labels) + (dataset.kind == "single" and not dataset.targets.any(1).all())
    probabilities = np.zeros((len(dataset), n_outputs), np.float32)
    is_said, is_right, is_sure = dataset.targets.copy(), np.zeros(len(dataset), bool), np.zeros(len(dataset), bool)
    for fold in range(FOLDS):
        held = folds == fold
        parts = np.where(held, "test", np.where(folds == (fold + 1) % FOLDS, "validation", "train"))
        trained = train(replace(dataset, parts=parts), kind, seed)
        part = HeldOut.of(trained.head, trained.sure, dataset.where(held))
        probabilities[held, : part.probabilities.shape[1]] = part.probabilities
        is_said[held], is_right[held], is_sure[held] = part.is_said, part.is_right, part.is_sure
    return HeldOut(dataset, probabilities, is_said, is_right, is_sure, "5 folds")


def wilson(n_right: int, n_photos: int) -> Estimate:
    """Return a share with its 95 % interval by Wilson's method.

    Raises:
        InputError: If there is no photo.
    """
    if n_photos == 0:
        raise InputError("0 photos to measure on, needs at least 1: label more photos")
    interval = binomtest(n_right, n_photos).proportion_ci(0.95, "wilson")
    return Estimate(n_right / n_photos, float(interval.low), float(interval.high))


def is_in_top(probabilities: Array, classes: NDArray[np.int64], n: int) -> NDArray[np.bool_]:
    """Return whether each photo's class is among its n most probable ones, shape (n_photos,); ties by column.

    Raises:
        InputError: If n is not in 1..n_outputs.
    """
    if not 1 <= n <= probabilities.shape[1]:
        classes_text = plural(probabilities.shape[1], "label")
        raise InputError(f"n == {n}, must be in 1..{probabilities.shape[1]}: the tagger has {classes_text}")
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :n]
    return (order == classes[:, None]).any(1)


def top_accuracies(probabilities: Array, classes: NDArray[np.int64]) -> dict[int, Estimate]:
    """Return top-1, top-3 and top-5 accuracy, as far as there are more classes than that, with Wilson's intervals."""
    numbers = [n for n in TOP if n == 1 or n < probabilities.shape[1]]
    return {n: wilson(int(is_in_top(probabilities, classes, n).sum()), len(classes)) for n in numbers}


def calibration_bins(confidences: Array, is_right: NDArray[np.bool_], n_bins: int = _BINS) -> list[tuple[Bin, int]]:
    """Return bins of as equally many predictions as possible, least confident first, and the number in each."""
    order = np.argsort(confidences, kind="stable")
    return [
        (Bin(float(confidences[rows].mean()), wilson(int(is_right[rows].sum()), len(rows))), len(rows))
        for rows in np.array_split(order, n_bins)
        if len(rows)
    ]


def calibration_error(confidences: Array, is_right: NDArray[np.bool_], n_bins: int = _BINS) -> float:
    """Return the expected calibration error: mean distance of confidence and accuracy over bins of equal mass.

    Source:
        Naeini et al. 2015, sec. 2, with bins of equal mass.
    """
    bins = calibration_bins(confidences, is_right, n_bins)
    return sum(n * abs(each.confidence - each.accuracy.value) for each, n in bins) / len(confidences)


def confidences(held: HeldOut) -> tuple[Array, NDArray[np.bool_]]:
    """Return what calibration is judged by: of kind single each photo's highest probability and whether it is right, of
    kind multi the probability of each photo and label and whether the photo shows it; flat."""
    if held.photos.kind == "single":
        return held.probabilities.max(1), held.is_right
    return held.probabilities.ravel(), held.photos.targets.ravel()


def class_reports(held: HeldOut) -> list[ClassReport]:
    """Return a report per label, and of kind single one for none of these where photos show none."""
    truth, said, labels = held.photos.targets, held.is_said, list(held.photos.labels)
    if held.photos.kind == "single" and not truth.any(1).all():
        truth, said = (np.column_stack([each, ~each.any(1)]) for each in (truth, said))
        labels.append(NONE_OF_THESE)
    hits, n_said, support = (truth & said).sum(0), said.sum(0), truth.sum(0)
    return [
        ClassReport(
            label,
            float(hits[n] / n_said[n]) if n_said[n] else None,
            float(hits[n] / support[n]) if support[n] else None,
            float(2 * hits[n] / (n_said[n] + support[n])) if support[n] else None,
            int(support[n]),
        )
        for n, label in enumerate(labels)
    ]


def confusion(held: HeldOut) -> NDArray[np.int64]:
    """Return the number of photos by true class (row) and predicted class (column), of kind single.

    Shape (n_labels + 1, n_labels + 1); the last class is none of these.
    """
    size = len(held.photos.labels) + 1
    counts = np.zeros((size, size), np.int64)
    np.add.at(counts, (held.photos.classes, predicted(held)), 1)
    return counts


def predicted(held: HeldOut) -> NDArray[np.int64]:
    """Return the label that is said of each photo, shape (n_photos,), of kind single; n_labels: none of these."""
    return np.where(held.is_said.any(1), held.is_said.argmax(1), len(held.photos.labels))


def hardest(held: HeldOut, n: int) -> NDArray[np.int64]:
    """Return the n photos whose own labels were least probable, as rows, the hardest first.

    Of kind multi a photo is as hard as the least probable of its labels' answers.
    """
    probabilities, targets = held.probabilities, held.photos.targets
    if held.photos.kind == "single":
        classes = held.photos.classes
        own = probabilities[np.arange(len(classes)), classes]
    else:
        own = np.where(targets, probabilities, 1 - probabilities).min(1)
    return np.argsort(own, kind="stable")[:n]


def multi_label_report(is_said: NDArray[np.bool_], targets: NDArray[np.bool_]) -> MultiLabelReport:
    """Return averages of precision, recall and F1 over labels.

    Args:
        is_said: Shape (n_photos, n_labels).
        targets: Shape (n_photos, n_labels). Labels that no photo shows are left out of macro averages.
    """
    hits, n_said, support = (is_said & targets).sum(0), is_said.sum(0), targets.sum(0)
    shown = support > 0
    total = hits.sum(), n_said.sum(), support.sum()
    micro = total[0] / max(total[1], 1), total[0] / max(total[2], 1), 2 * total[0] / max(total[1] + total[2], 1)
    precision = np.divide(hits, n_said, out=np.zeros(len(hits)), where=n_said > 0)[shown]
    recall, f1 = (hits / np.maximum(support, 1))[shown], (2 * hits / np.maximum(n_said + support, 1))[shown]
    macro = [float(each.mean()) if shown.any() else 0.0 for each in (precision, recall, f1)]
    accuracy, always_no = float((is_said == targets).mean()), float(1 - targets.mean())
    return MultiLabelReport(tuple(map(float, micro)), tuple(macro), accuracy, always_no)  # type: ignore[arg-type]


def compare(is_right_new: NDArray[np.bool_], is_right_old: NDArray[np.bool_]) -> Comparison:
    """Compare two versions on the same photos, shape (n_photos,) each.

    Source:
        McNemar 1947, exact; Agresti and Min 2005: Wald's interval after adding half a photo to each of four cells.
    """
    only_new, only_old = int((is_right_new & ~is_right_old).sum()), int((~is_right_new & is_right_old).sum())
    p_value = float(binomtest(only_new, only_new + only_old).pvalue) if only_new + only_old else 1.0
    n = len(is_right_new) + 2
    new, old = only_new + 0.5, only_old + 0.5
    half = float(norm.ppf(0.975) * np.sqrt((new + old) - (new - old) ** 2 / n) / n)
    centre = (new - old) / n
    value = (only_new - only_old) / len(is_right_new)
    return Comparison(Estimate(value, centre - half, centre + half), only_new, only_old, p_value)


def learning_curve(dataset: Dataset, target: float = 0.9, seed: int = 0) -> LearningCurve:
    """Measure linear heads that learnt a tenth … all of four folds on the fifth fold, of kind single.

    At most some 3,000 photos are used. A power law, error = floor + a · photos^-b, says how many the target needs;
    the range comes from 200 curves with errors drawn from their binomial distributions.

    Raises:
        EmptyInputError: If fewer than two classes, or five groups, have photos.
    """
    if len(dataset) > _CURVE_PHOTOS:
        dataset = dataset.where(folds_of(dataset, -(-len(dataset) // _CURVE_PHOTOS), seed) == 0)
    folds, random = folds_of(dataset, FOLDS, seed), np.random.default_rng(seed)
    order = [random.permutation(np.flatnonzero(folds != fold)) for fold in range(FOLDS)]
    sizes = [round(share * len(dataset) * (FOLDS - 1) / FOLDS) for share in _SHARES]
    sizes = [size for size in sizes if size >= 2 * len(dataset.labels)]
    n_right = [sum(_n_right(dataset, order[fold][:size], folds == fold) for fold in range(FOLDS)) for size in sizes]
    points = [(size, wilson(right, len(dataset))) for size, right in zip(sizes, n_right, strict=True)]
    if len(points) < 4 or points[-1][1].value >= target:
        return LearningCurve(points, target, None)
    accuracies = np.array(n_right) / len(dataset)
    drawn = random.binomial(len(dataset), accuracies, (_RESAMPLES, len(sizes))) / len(dataset)
    needed = photos_needed(np.array(sizes), accuracies, target)
    found = sorted(photos_needed(np.array(sizes), each, target) for each in drawn)
    low, high = found[round(0.1 * _RESAMPLES)], found[round(0.9 * _RESAMPLES) - 1]
    return LearningCurve(points, target, Estimate(needed, min(low, needed), max(high, needed)))


def _n_right(dataset: Dataset, learnt: NDArray[np.int64], held: NDArray[np.bool_]) -> int:
    photos, classes = dataset.where(held), np.unique(dataset.classes[learnt])
    if len(classes) == 1:
        return int((photos.classes == classes[0]).sum())
    return int(HeldOut.of(fit_linear(dataset.where(learnt)), 0.0, photos).is_right.sum())


def photos_needed(sizes: NDArray[np.int64], accuracies: NDArray[np.float64], target: float) -> float:
    """Return the number of photos at which the fitted power law reaches the target; inf: not with 100 times as many."""

    errors, relative = 1 - accuracies, sizes / sizes[-1]
    start = (max(errors[-1], 0.001) / 2, max(errors[-1], 0.001) / 2, 0.5)
    found = least_squares(
        lambda values: values[0] + values[1] * relative ** -values[2] - errors, start, bounds=([0, 0, 0.05], [1, 2, 2])
    )
    floor, factor, power = found.x
    if 1 - target <= floor or factor == 0:
        return float("inf")
    log_ratio = np.log(factor / (1 - target - floor)) / power
    return float(sizes[-1] * np.exp(log_ratio)) if log_ratio <= np.log(_MOST_RATIO) else float("inf")
