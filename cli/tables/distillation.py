"""The figures of a distilled tagger, printed to a terminal."""

from collections import Counter
from collections.abc import Sequence

from recsys.console import TextConsole, TextTable
from recsys.images.lab.answers import Rejected
from recsys.images.lab.distillation import Distillation
from recsys.wording import plural


def print_distillation(found: Distillation, aside: Sequence[Rejected], console: TextConsole) -> None:
    """Print how well the head repeats the service, by label and in total, and what was left out or aside."""
    table = TextTable("label", "learnt", "judged", "threshold", "precision", "recall", "F1", labels=1)
    for each in found.by_label:
        counts = f"{found.learnt[each.label]:,}", f"{each.support:,}", f"{found.thresholds[each.label]:.2f}"
        table.add_row(each.label, *counts, *map(_cell, (each.precision, each.recall, each.f1)))
    for name, scores in (("micro", found.averages.micro), ("macro", found.averages.macro)):
        table.add_row(f"all, {name}", f"{found.n_learnt:,}", f"{found.n_judged:,}", "", *map(_cell, scores))
    console.print(table)
    by = "the test part" if found.judged_by == "test part" else "five folds, as the test part is small"
    console.print(
        "",
        f"Judged by {by}. Accuracy {found.averages.accuracy:.3f}; of saying no to every label "
        f"{found.averages.always_no:.3f}.",
        *(f"Left out: {label}, {reason}." for label, reason in found.left_out.items()),
    )
    for reason, count in Counter(each.reason.split(":")[0] for each in aside).most_common():
        console.print(f"{plural(count, 'answer')} left aside: {reason}.")


def _cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
