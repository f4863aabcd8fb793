"""Trains a version of a taxonomy's tagger on the shop's labelled photos, and measures it.

<folder>/taggers/<taxonomy>/<version>/   see `TrainedTagger`; a version is there whole or not at all
"""

import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.config.settings import Settings
from recsys.errors import ModelError
from recsys.images.lab.dataset import Dataset
from recsys.images.lab.evaluation import (
    Comparison,
    HeldOut,
    LearningCurve,
    calibration_error,
    class_reports,
    compare,
    confidences,
    held_out,
    learning_curve,
    multi_label_report,
    top_accuracies,
)
from recsys.images.lab.fine_tuning import Epoch, FineTuned, FineTuningSettings, fine_tune
from recsys.images.lab.shop_photos import ShopPhotos
from recsys.images.lab.taxonomy import load_taxonomy
from recsys.images.lab.trained_tagger import DESCRIPTION, TrainedTagger
from recsys.images.lab.training import HeadKind, calibrated, learnable, train, train_head
from recsys.images.settings import TaggerSettings
from recsys.images.tagging.taggers import tagger_files
from recsys.images.tagging.tagging import Worker, best_device
from recsys.wording import listed, plural

TAGGERS_FOLDER = "taggers"
_UNFINISHED = ".fine_tuning"
"""Subfolder with the checkpoint of a fine-tuning that was killed, from which the next one goes on."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainedVersion:
    """A version that was trained, and how good it is."""

    tagger: TrainedTagger
    folder: Path
    held: HeldOut
    curve: LearningCurve | None  # of kind single
    previous: str | None  # the version before
    comparison: Comparison | None  # with it, on the part test; None without one of the same base network
    left_out: Mapping[str, int]  # photos by label with too few of them


def train_tagger(
    settings: Settings,
    name: str,
    at: datetime,
    kind: HeadKind = "best",
    target: float = 0.9,
    seed: int = 0,
    freeze: str | None = None,
) -> TrainedVersion:
    """Train a version of the tagger of a taxonomy, save it, and measure it on photos that it has not learnt.

    No photo is read but for fine-tuning: photos are learnt by their stored embeddings. The same labels, settings and
    seed give the same version, which is written once.

    Args:
        settings: The settings of the shop.
        name: The name of the taxonomy.
        at: When the version is made, for its card.
        kind: The head, see `train`.
        target: The accuracy for which the learning curve says how many photos it needs.
        seed: Of everything random.
        freeze: Fine-tune the base network above this part, see `FineTuningSettings`; where that is not better on the
            part validation, the head on the network as it is stays.

    Raises:
        ConfigurationError: If there is no such taxonomy.
        EmptyInputError: If the labelled photos are too few to learn from.
    """
    taxonomy = load_taxonomy(Path(settings.images.taxonomies), name)
    shop = ShopPhotos.of(settings, taxonomy)
    dataset, left_out = learnable(shop.dataset())
    if left_out:
        shown = listed([f"'{label}' ({plural(count, 'photo')})" for label, count in left_out.items()], "and")
        _log.warning("not learnt for want of photos: %s: label at least 5 photos of each", shown)
    _log.info("learning %s of %s", plural(len(dataset), "photo"), plural(len(dataset.labels), "label"))
    folder = settings.own_disk / TAGGERS_FOLDER / name
    curve = learning_curve(dataset, target, seed) if dataset.kind == "single" else None
    tuned = _fine_tuned(dataset, settings, taxonomy.base, freeze, folder / _UNFINISHED, seed) if freeze else None
    if tuned and tuned.is_better:
        dataset = tuned.dataset
        head, sure = calibrated(tuned.head, dataset.part("validation"))
        tagger = TrainedTagger(taxonomy, tuned.base, tagger_files(tuned.base).network_version, head, sure)
        held = HeldOut.of(head, sure, dataset.part("test"))
    else:
        trained = train(dataset, kind, seed)
        tagger = TrainedTagger(taxonomy, taxonomy.base, shop.version, trained.head, trained.sure)
        _log.info("measuring on photos that were not learnt")
        chosen: HeadKind = "mlp" if len(trained.head.weights) > 1 else "linear"
        held = held_out(dataset, trained.head, trained.sure, chosen, seed)
    before = _previous(folder, tagger.version)
    comparison = _compared(tagger, before, dataset) if before else None
    card = card_of(tagger, dataset, held, curve, left_out, at, seed) | {
        "fine_tuned": _what_was_tuned(tuned, freeze),
        "previous": before.version if before else None,
        "difference_to_previous": asdict(comparison) if comparison else None,
    }
    tagger = replace(tagger, card=card)
    if (folder / tagger.version).exists():
        _log.info("version %s exists already, and stays as it is", tagger.version)
    else:
        tagger.save(folder / tagger.version, tuned.weights if tuned else None)
    previous = before.version if before else None
    return TrainedVersion(tagger, folder / tagger.version, held, curve, previous, comparison, left_out)


def _fine_tuned(
    dataset: Dataset, settings: Settings, base: TaggerSettings, freeze: str, folder: Path, seed: int
) -> FineTuned:
    """Fine-tune the base network; it is compared on the part validation with a head that has not learnt it."""

    def report(number: int, epoch: Epoch) -> None:
        _log.info("epoch %d: validation loss %.4f, accuracy %.3f", number, epoch.loss, epoch.accuracy)

    without_validation = replace(dataset, parts=np.where(dataset.parts == "validation", "test", dataset.parts))
    head = train_head(without_validation, "linear", seed)
    worker = Worker(best_device(), os.cpu_count() or 1)
    chosen = FineTuningSettings(freeze=freeze, seed=seed)
    tuned = fine_tune(dataset, settings.images, base, head, chosen, folder, worker, report)
    for uri, reason, detail in tuned.rejected:
        _log.warning("%s: %s, left out (%s)", uri, reason, detail)
    if not tuned.is_better:
        _log.warning(
            "the fine-tuned network has validation loss %.4f, must be below %.4f of the head alone: the head stays",
            *(min(each.loss for each in tuned.epochs), tuned.of_head.loss),
        )
    return tuned


def _what_was_tuned(tuned: FineTuned | None, freeze: str | None) -> dict[str, Any] | None:
    if tuned is None:
        return None
    return {
        "freeze": freeze,
        "is_used": tuned.is_better,
        "validation_of_head": asdict(tuned.of_head),
        "validation_by_epoch": [asdict(epoch) for epoch in tuned.epochs],
        "photos_left_out": len(tuned.rejected),
    }


def card_of(
    tagger: TrainedTagger,
    dataset: Dataset,
    held: HeldOut,
    curve: LearningCurve | None,
    left_out: Mapping[str, int],
    at: datetime,
    seed: int,
) -> dict[str, Any]:
    """Return what a version was made of, and its metrics, as plain values; an estimate is value, low and high."""
    confidence, is_true = confidences(held)
    needed = curve.needed if curve else None
    return {
        "trained_at": at.isoformat(),
        "head": "mlp" if len(tagger.head.weights) > 1 else "linear",
        "seed": seed,
        "photos": {part: int((dataset.parts == part).sum()) for part in ("train", "validation", "test")},
        "photos_by_label": dict(zip(dataset.labels, dataset.targets.sum(0).tolist(), strict=True)),
        "photos_by_label_left_out": dict(left_out),
        "measured_on": held.source,
        "photos_measured": len(held.photos),
        **_accuracies(held),
        "calibration_error": calibration_error(confidence, is_true),
        "reviewed_share": float(1 - held.is_sure.mean()),
        "accuracy_of_sure": float(held.is_right[held.is_sure].mean()) if held.is_sure.any() else None,
        "classes": [asdict(each) for each in class_reports(held)],
        "photos_needed": None
        if curve is None or needed is None
        else {"accuracy": curve.target} | {name: _finite(value) for name, value in needed._asdict().items()},
    }


def _accuracies(held: HeldOut) -> dict[str, Any]:
    if held.photos.kind == "multi":
        return asdict(multi_label_report(held.is_said, held.photos.targets))
    found = top_accuracies(held.probabilities, held.photos.classes)
    return {f"top_{n}": list(estimate) for n, estimate in found.items()}


def _finite(value: float) -> float | None:
    return round(value) if np.isfinite(value) else None


def _previous(folder: Path, version: str) -> TrainedTagger | None:
    """Return the newest other version that can be read."""
    written = sorted(folder.glob(f"*/{DESCRIPTION}"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for path in written:
        if path.parent.name != version and not path.parent.name.startswith("."):
            try:
                return TrainedTagger.load(path.parent)
            except ModelError as error:
                _log.warning("%s", error)
    return None


def _compared(tagger: TrainedTagger, before: TrainedTagger, dataset: Dataset) -> Comparison | None:
    """Compare two versions on the part test, which neither has learnt; None if their base networks differ."""
    if before.base_version != tagger.base_version:
        _log.warning(
            "version %s is of base network %s, this one of %s: they are not compared",
            *(before.version, before.base_version, tagger.base_version),
        )
        return None
    test = dataset.part("test")
    return compare(is_right(tagger, test), is_right(before, test)) if len(test) else None


def is_right(tagger: TrainedTagger, photos: Dataset) -> NDArray[np.bool_]:
    """Return which photos a version has right, shape (n_photos,); a label that it does not have is not right."""
    columns = dict(zip(photos.labels, photos.targets.T, strict=True))
    absent = np.zeros(len(photos), np.bool_)
    targets = np.column_stack([columns.get(label, absent) for label in tagger.head.labels])
    own = replace(photos, labels=tagger.head.labels, targets=targets)
    return HeldOut.of(tagger.head, tagger.sure, own).is_right & (targets.sum(1) == photos.targets.sum(1))
