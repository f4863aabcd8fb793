"""Versions of taggers, printed to a terminal."""

from jobs.lab.train_tagger import TrainedVersion
from recsys.console import TextConsole, TextTable
from recsys.images.lab.evaluation import (
    MultiLabelReport,
    calibration_error,
    class_reports,
    confidences,
    multi_label_report,
    top_accuracies,
)
from recsys.metrics import Estimate
from recsys.reports.tagger.wording import comparison_in_words, curve_in_words, interval, share
from recsys.wording import plural


def print_trained(trained: TrainedVersion, console: TextConsole) -> None:
    """Print how good a version is: accuracies, calibration, labels, and the version before."""
    held = trained.held
    kind = "two layers" if len(trained.tagger.head.weights) > 1 else "linear"
    console.print(f"Tagger {trained.tagger.version}, head: {kind}", style="bold")
    if held.photos.kind == "single":
        console.print(_accuracy_table(top_accuracies(held.probabilities, held.photos.classes)))
    else:
        console.print(_multi_label_table(multi_label_report(held.is_said, held.photos.targets)))
    sure = f"{share(float(held.is_right[held.is_sure].mean()))} of these right" if held.is_sure.any() else "none"
    console.print(
        f"Measured on {plural(len(held.photos), 'photo')} that were not learnt ({held.source}).",
        f"Calibration error {calibration_error(*confidences(held)):.3f}. Filed without review: "
        f"{share(float(held.is_sure.mean()))}, {sure}.",
        "",
    )
    labels = TextTable("label", "photos", "precision", "recall", "F1", labels=1)
    for each in sorted(class_reports(held), key=lambda each: 2.0 if each.f1 is None else each.f1):
        labels.add_row(each.label, f"{each.support:,}", share(each.precision), share(each.recall), share(each.f1))
    console.print(labels)
    for label, count in trained.left_out.items():
        console.print(f"{label}: not learnt, {plural(count, 'photo')} to learn from, needs at least 5", style="yellow")
    console.print("")
    if trained.comparison:
        console.print(comparison_in_words(trained.comparison, trained.previous or ""))
    if trained.curve:
        console.print(curve_in_words(trained.curve))
    console.print(f"Files in {trained.folder}.")


def _accuracy_table(found: dict[int, Estimate]) -> TextTable:
    table = TextTable("", "accuracy", "95 % interval", labels=1)
    for n, estimate in found.items():
        table.add_row(f"top {n}", share(estimate.value), interval(estimate))
    return table


def _multi_label_table(found: MultiLabelReport) -> TextTable:
    table = TextTable("mean over", "precision", "recall", "F1", labels=1)
    table.add_row("all answers (micro)", *map(share, found.micro))
    table.add_row("labels (macro)", *map(share, found.macro))
    table.add_row("accuracy", share(found.accuracy))
    table.add_row("accuracy of always no", share(found.always_no))
    return table
