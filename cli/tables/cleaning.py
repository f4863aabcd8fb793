"""Suspicious labels, printed to a terminal."""

from recsys.console import TextConsole, TextTable
from recsys.images.lab.cleaning import BANDS, Cleaning
from recsys.images.lab.taxonomy import Taxonomy
from recsys.wording import plural


def print_cleaning(cleaning: Cleaning, taxonomy: Taxonomy, console: TextConsole, top: int) -> None:
    """Print what was found, and the `top` most suspicious labels."""

    def names(labels: tuple[str, ...]) -> str:
        return ", ".join(taxonomy.name_of(label) for label in labels) or "none of these"

    console.print(
        f"{plural(cleaning.n_photos, 'labelled photo')} outside the test part; "
        f"{cleaning.expected_wrong:,} have a wrong label by cleanlab's estimate",
        f"{plural(len(cleaning.duplicates), 'group')} of near-identical photos with different labels",
        *(f"{plural(len(cleaning.band(band)), 'label')}: {meaning}" for band, meaning in BANDS.items()),
        f"{plural(len(cleaning.ambiguous), 'ambiguous photo')}, whose labels may be right",
        "",
    )
    for group in cleaning.duplicates[:top]:
        console.print("duplicates: " + "; ".join(f"{names(each.labels)} ({each.image_uri})" for each in group))
    table = TextTable("photo", "label", "suggested", "band", "P", "V", labels=4)
    for each in cleaning.suspects[:top]:
        band = f"{each.band}, test part" if each.is_test else each.band
        row = each.photo.image_uri, names(each.photo.labels), names(each.suggested), band
        table.add_row(*row, f"{each.probability:.2f}", f"{each.votes:.2f}")
    console.print(table)
