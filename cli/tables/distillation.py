"""The figures of a distilled tagger, printed to a terminal."""

from collections import Counter
from collections.abc import Sequence

from recsys.console import TextConsole, TextTable
from recsys.images.lab.answers import Rejected
from recsys.images.lab.distillation import Distillation, Scores
from recsys.wording import plural


def print_distillation(found: Distillation, aside: Sequence[Rejected], console: TextConsole) -> None:
    """Print how well the head repeats the service, by label and in total, and what was left out or aside."""
    table = TextTable("label", "training", "test", "threshold", "precision", "recall", "F1", labels=1)
    for each in found.by_label:
        threshold = f"{each.threshold:.2f}{'' if each.has_own_threshold else ' shared'}"
        table.add_row(each.label, f"{each.training_photos:,}", f"{each.test_photos:,}", threshold, *_cells(each.scores))
    counts = f"{found.training_photos:,}", f"{found.test_photos:,}", ""
    table.add_row("all, micro", *counts, *_cells(found.micro))
    table.add_row("all, macro", *counts, *_cells(found.macro))
    console.print(table, "")
    console.print(f"Accuracy {found.accuracy:.3f}; of never saying a label {found.always_no:.3f}.")
    for label, reason in found.left_out.items():
        console.print(f"Left out: {label}, {reason}.")
    for reason, count in Counter(each.reason.split(":")[0] for each in aside).most_common():
        console.print(f"{plural(count, 'answer')} left aside: {reason}.")


def _cells(scores: Scores) -> tuple[str, str, str]:
    return f"{scores.precision:.2f}", f"{scores.recall:.2f}", f"{scores.f1:.2f}"
