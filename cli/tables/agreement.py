"""How two people agree."""

from collections.abc import Sequence

from recsys.console import TextConsole, TextTable
from recsys.images.lab.agreement import Agreement
from recsys.wording import plural


def print_agreement(found: Sequence[Agreement], console: TextConsole) -> None:
    """Print Cohen's kappa of each two people, by label too, and the photos on which they differ."""
    if not found:
        console.print("No photo has labels of two people: let two people label with 'recsys tagger review --double'.")
    for pair in found:
        console.print(
            f"{pair.one} and {pair.other}: {plural(pair.n_photos, 'photo')}, {pair.same:.1%} with the same labels"
        )
        table = TextTable("label", "kappa", "from", "to", labels=1)
        for label, kappa in [
            ("all", pair.kappa),
            *((name or "none of these", each) for name, each in pair.by_label.items()),
        ]:
            figures = (kappa.value, kappa.low, kappa.high)
            table.add_row(label, *("–" if each is None else f"{each:.2f}" for each in figures))
        console.print(table)
        if pair.differences:
            differences = TextTable("photo", pair.one, pair.other)
            for each in pair.differences:
                differences.add_row(
                    each.image_hash, *(", ".join(labels) or "none of these" for labels in (each.one, each.other))
                )
            console.print(differences)
