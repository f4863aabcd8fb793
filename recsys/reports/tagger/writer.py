"""The report of a tagger, for the decision what to label, clean or promote: one HTML file that opens from disk."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsys.images.lab.evaluation import (
    NONE_OF_THESE,
    HeldOut,
    LearningCurve,
    calibration_bins,
    calibration_error,
    class_reports,
    confidences,
    confusion,
    hardest,
    multi_label_report,
    predicted,
    top_accuracies,
)
from recsys.images.lab.trained_tagger import TrainedTagger
from recsys.images.tagging.files import PhotoFiles
from recsys.reports.album import Album
from recsys.reports.page import ReportTable, Section, render
from recsys.reports.tagger.charts import accuracy_by_photos, calibration
from recsys.reports.tagger.wording import curve_in_words, interval, share
from recsys.storage.local import write_whole
from recsys.wording import listed, plural

HARDEST = 24
MOST_CONFUSIONS = 40
PHOTOS_PER_CONFUSION = 6
MOST_LABELS = 40
"""Labels up to which the matrix of confusions is drawn; the list of confusions is there for any number."""
_TERMS = {
    "accuracy, top 1": "Share of photos whose most probable label is right.",
    "top 3": "Share of photos whose label is among the three most probable ones.",
    "precision": "Share of the photos that got a label which do show it.",
    "recall": "Share of the photos that show a label which got it.",
    "F1": "Harmonic mean of precision and recall.",
    "calibration error": "Mean distance between predicted probability and share of right answers, in 15 bins.",
    "95 % interval": "Wilson's interval: where the share lies for other photos of the same kind.",
    "sure": "A photo whose two most probable labels are so far apart that it is filed without review.",
}


@dataclass(frozen=True)
class Picture:
    """A photo of the report; `photo` is its index in the album, None for one that cannot be shown."""

    photo: int | None
    uri: str
    text: str


@dataclass(frozen=True)
class Confusion:
    """The photos of one label that got another."""

    name: str  # anchor
    title: str
    pictures: tuple[Picture, ...]


def write_report(
    tagger: TrainedTagger, held: HeldOut, curve: LearningCurve | None, file: Path, photos: PhotoFiles
) -> None:
    """Write the report atomically, replacing the previous one.

    Args:
        tagger: The version.
        held: What it, or heads like it, predicted of photos that were not learnt.
        curve: Its learning curve.
        file: Its folder is created if missing.
        photos: Reads the photos that are shown. One that cannot be read in time becomes a tile with its address.
    """
    is_single = held.photos.kind == "single"
    hard = hardest(held, HARDEST)
    counts = confusion(held) if is_single else np.zeros((1, 1), np.int64)
    pairs = _confused_pairs(counts)[:MOST_CONFUSIONS] if is_single else []
    rows = {pair: _photos_of(held, *pair) for pair in pairs}
    shown = sorted({int(row) for each in (hard, *rows.values()) for row in each})
    album = Album(photos, held.photos.image_uris[shown].tolist())
    names = _names(tagger, held)
    text = render(
        __package__,
        version=tagger.version,
        headline=_headline(held),
        facts=_facts(tagger, held),
        sections=_sections(held, curve),
        names=names if is_single and len(names) <= MOST_LABELS else [],
        counts=counts.tolist(),
        linked={f"{true}-{said}" for true, said in pairs},
        confusions=[
            Confusion(
                f"{true}-{said}",
                f"{names[true]} taken for {names[said]}: {plural(int(counts[true, said]), 'photo')}",
                tuple(_picture(held, names, album, row) for row in rows[true, said]),
            )
            for true, said in pairs
        ],
        hardest=[_picture(held, names, album, row) for row in hard],
        photos=album.photos,
        terms=_TERMS,
    )
    write_whole(file, text)


def _names(tagger: TrainedTagger, held: HeldOut) -> list[str]:
    return [*(tagger.taxonomy.name_of(label) for label in held.photos.labels), NONE_OF_THESE]


def _headline(held: HeldOut) -> str:
    if held.photos.kind == "single":
        found = top_accuracies(held.probabilities, held.photos.classes)[1]
        return f"{share(found.value)} right ({interval(found)})"
    return f"F1 {share(multi_label_report(held.is_said, held.photos.targets).micro[2])}"


def _facts(tagger: TrainedTagger, held: HeldOut) -> list[str]:
    facts = [f"Measured on {plural(len(held.photos), 'photo')} that were not learnt ({held.source})."]
    if held.photos.kind == "single":
        found = top_accuracies(held.probabilities, held.photos.classes)
        facts += [f"Top {n}: {share(each.value)} ({interval(each)})." for n, each in found.items() if n > 1]
    else:
        report = multi_label_report(held.is_said, held.photos.targets)
        for name, values in (("all answers", report.micro), ("labels", report.macro)):
            precision, recall, f1 = map(share, values)
            facts.append(f"Mean over {name}: precision {precision}, recall {recall}, F1 {f1}.")
        facts.append(f"Accuracy {share(report.accuracy)}; saying no to everything: {share(report.always_no)}.")
    facts.append(f"Calibration error {calibration_error(*confidences(held)):.3f}.")
    right = share(float(held.is_right[held.is_sure].mean())) if held.is_sure.any() else "–"
    facts.append(f"Filed without review: {share(float(held.is_sure.mean()))} of the photos, {right} of them right.")
    missing = [each.label for each in class_reports(held) if each.support == 0]
    if missing:
        facts.append(f"No measured photo shows {listed(missing, 'or')}: nothing is known about it, label more photos.")
    if tagger.card.get("photos_by_label_left_out"):
        facts.append(
            f"Not learnt, with too few photos: {listed(list(tagger.card['photos_by_label_left_out']), 'and')}."
        )
    return facts


def _sections(held: HeldOut, curve: LearningCurve | None) -> list[Section]:
    reports = sorted(class_reports(held), key=lambda each: 2.0 if each.f1 is None else each.f1)
    rows = tuple(
        (each.label, f"{each.support:,}", share(each.precision), share(each.recall), share(each.f1)) for each in reports
    )
    table = ReportTable("Labels, the least recognised first", ("label", "photos", "precision", "recall", "F1"), rows)
    bins = [each for each, _ in calibration_bins(*confidences(held))]
    sections = [Section("Labels", tables=(table,)), Section("Calibration", charts=(calibration(bins),))]
    if curve and curve.points:
        sections.append(Section("Learning curve", (curve_in_words(curve),), (accuracy_by_photos(curve),)))
    return sections


def _confused_pairs(counts: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Return the pairs of true and predicted class that differ and occur, the most frequent first."""
    wrong = counts * ~np.eye(len(counts), dtype=bool)
    order = np.argsort(-wrong, axis=None, kind="stable")[: int((wrong > 0).sum())]
    return [(int(flat // len(counts)), int(flat % len(counts))) for flat in order]


def _photos_of(held: HeldOut, true: int, said: int) -> NDArray[np.int64]:
    """Return the photos of a confusion, the surest mistakes first."""
    rows = np.flatnonzero((held.photos.classes == true) & (predicted(held) == said))
    return rows[np.argsort(-held.probabilities[rows].max(1), kind="stable")][:PHOTOS_PER_CONFUSION]


def _picture(held: HeldOut, names: Sequence[str], album: Album, row: int) -> Picture:
    uri = str(held.photos.image_uris[row])
    true = [names[int(n)] for n in np.flatnonzero(held.photos.targets[row])] or [NONE_OF_THESE]
    if held.photos.kind == "single":
        sure = share(float(held.probabilities[row].max()))
        text = f"labelled {true[0]}, predicted {names[int(predicted(held)[row])]} ({sure})"
    else:
        said = [names[int(n)] for n in np.flatnonzero(held.is_said[row])] or [NONE_OF_THESE]
        text = f"labelled {listed(true, 'and')}, predicted {listed(said, 'and')}"
    return Picture(album.index(uri), uri, text)
