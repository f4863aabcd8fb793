"""Labels of photos, what became of an import, and the checks, printed to a terminal."""

from collections import Counter
from collections.abc import Mapping, Sequence

import pyarrow as pa

from recsys.console import TextConsole, TextTable, line
from recsys.images.lab.label_checks import Check
from recsys.images.lab.label_words import Rejected, Said
from recsys.images.lab.taxonomy import Taxonomy
from recsys.wording import plural

_STYLES = {"PASS": "green", "WARN": "yellow", "FAIL": "bold red"}


def print_import(said: Said, notes: Sequence[str], current: pa.Table, taxonomy: Taxonomy, console: TextConsole) -> None:
    """Print how many labels were added, known and put aside, an example of each reason, and the photos by label."""
    console.print(
        f"{plural(said.n_added, 'label')} added, {said.n_known:,} known already, {len(said.rejected):,} put aside"
    )
    if said.rejected:
        counts, examples = Counter(each.reason for each in said.rejected), _first_by_reason(said.rejected)
        table = TextTable("put aside", "rows", "such as")
        for reason, count in counts.most_common():
            example = examples[reason]
            table.add_row(line((reason, "yellow")), f"{count:,}", f"{example.where}: {example.detail}")
        console.print(table)
    for note in notes:
        console.print(f"Note: {note}", style="yellow")
    counts = Counter(label for labels in current["labels"].to_pylist() for label in labels or ("(none of these)",))
    table = TextTable("label", "photos", labels=1)
    for label in [*taxonomy.ids, *sorted(set(counts).difference(taxonomy.ids))]:
        table.add_row(label, f"{counts[label]:,}")
    console.print(table)
    console.print(f"{plural(current.num_rows, 'labelled photo')}; next: recsys tagger label check {taxonomy.name}")


def print_counts(counts: Mapping[str, Mapping[str, int]], console: TextConsole) -> None:
    """Print the number of photos by label and part."""
    parts = list(next(iter(counts.values())))
    table = TextTable("label", "photos", *parts, labels=1)
    for label, of_label in counts.items():
        table.add_row(label, f"{sum(of_label.values()):,}", *(f"{of_label[part]:,}" for part in parts))
    console.print(table)


def print_checks(checks: Sequence[Check], console: TextConsole) -> None:
    """Print a row per check, with what to do where it does not pass."""
    table = TextTable("check", "result", "found", "what to do")
    for each in checks:
        table.add_row(each.name, line((each.outcome, _STYLES[each.outcome])), each.found, each.next_step)
    console.print(table)


def _first_by_reason(rejected: Sequence[Rejected]) -> dict[str, Rejected]:
    return {each.reason: each for each in reversed(rejected)}
