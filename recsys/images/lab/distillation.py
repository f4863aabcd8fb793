"""Distils a labelling service: its answers on some photos become a multi-label head that answers for all of them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from recsys.errors import ConfigurationError
from recsys.images.lab.answers import Rejected, label_rows, read_answers
from recsys.images.lab.dataset import Dataset
from recsys.images.lab.evaluation import ClassReport, MultiLabelReport, class_reports, held_out, multi_label_report
from recsys.images.lab.head import Head
from recsys.images.lab.shop_photos import ShopPhotos
from recsys.images.lab.trained_tagger import TrainedTagger
from recsys.images.lab.training import LEAST_PHOTOS, learnable, train
from recsys.images.tagging.files import PhotoFiles
from recsys.images.tagging.taggers import tagger_files
from recsys.wording import plural

TAGGERS = "taggers"
"""Subfolder of the shop's folder with the versions of each taxonomy's tagger."""


@dataclass(frozen=True)
class Answered:
    """Whose answers are distilled, recorded in the card of the tagger."""

    service: str
    terms: str  # under which the answers may be learnt from
    at: datetime  # when they were given, with a time zone


@dataclass(frozen=True)
class Distillation:
    """A distilled head, and how well it repeats the service on photos that it has not learnt."""

    head: Head
    sure: float  # see TrainedTagger
    left_out: Mapping[str, str]  # reason by label
    learnt: Mapping[str, int]  # learnt photos that show the label, by label
    n_learnt: int
    n_judged: int
    judged_by: Literal["test part", "5 folds"]
    averages: MultiLabelReport
    by_label: list[ClassReport]

    @property
    def thresholds(self) -> dict[str, float]:
        """Probability from which each label is said."""
        thresholds = [] if self.head.thresholds is None else self.head.thresholds.tolist()
        return dict(zip(self.head.labels, thresholds, strict=True))


def distil(dataset: Dataset, seed: int = 0) -> Distillation:
    """Fit a multi-label head, choose its thresholds on training folds, and measure it on photos that it has not learnt.

    Args:
        dataset: Answered photos of kind multi; all but the test part is learnt from.
        seed: Seed of the folds.

    Raises:
        EmptyInputError: If there are too few photos, or no label has enough.
    """
    dataset, too_rare = learnable(dataset)
    training = train(dataset, "linear", seed)
    held = held_out(dataset, training.head, training.sure, "linear", seed)
    photos = dataset.targets[dataset.parts != "test"]
    return Distillation(
        training.head,
        training.sure,
        {label: f"{plural(count, 'photo')} to learn from, needs {LEAST_PHOTOS}" for label, count in too_rare.items()},
        dict(zip(dataset.labels, photos.sum(0).tolist(), strict=True)),
        len(photos),
        len(held.photos),
        held.source,
        multi_label_report(held.is_said, held.photos.targets),
        class_reports(held),
    )


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
        InputError: See `read_answers`.
        EmptyInputError: See `distil`.
    """
    taxonomy = shop.taxonomy
    if taxonomy.kind != "multi":
        raise ConfigurationError(
            f"taxonomy '{taxonomy.name}': kind == 'single', must be 'multi': a service names any number of labels"
        )
    answers = read_answers(file, taxonomy, PhotoFiles.of(shop.images).absolute, min_confidence)
    seen = shop.embed(answers.labels).to_pylist()
    unseen = [Rejected(None, row["image_uri"], "", row["detail"] or row["reason"]) for row in seen if row["reason"]]
    hashes = {row["image_uri"]: row["image_hash"] for row in seen if not row["reason"]}
    rows = label_rows(answers, hashes, taxonomy, shop.labels.current(), answered.service, answered.at)
    shop.labels.add(rows)
    found = distil(shop.dataset(), seed)
    aside = [*answers.rejected, *unseen]
    card = {
        "distilled_from": {"service": answered.service, "terms": answered.terms, "at": answered.at.isoformat()},
        "answers": {"file": file.name, "photos": len(hashes), "left_aside": len(aside)},
        "min_confidence": min_confidence,
        "seed": seed,
        **_figures(found),
    }
    base_version = tagger_files(taxonomy.base).network_version
    tagger = TrainedTagger(taxonomy, taxonomy.base, base_version, found.head, found.sure, card)
    folder = shop.own_disk / TAGGERS / taxonomy.name / tagger.version
    if not folder.exists():
        tagger.save(folder)
    return tagger, found, aside


def _figures(found: Distillation) -> dict:
    return {key: value for key, value in asdict(found).items() if key not in ("head", "sure")}
