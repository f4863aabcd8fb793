"""The report of suspicious labels, for a person who decides on each: one HTML file that opens from disk."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from recsys.images.lab.cleaning import BANDS, Cleaning, Photo, Suspect
from recsys.images.lab.taxonomy import Taxonomy
from recsys.images.tagging.files import PhotoFiles
from recsys.reports.backtest.examples import Album
from recsys.reports.page import render
from recsys.storage.local import write_whole
from recsys.wording import plural

MOST_SHOWN = 200
"""Photos shown of each section: those that are worth a look come first."""
NEIGHBOURS_SHOWN = 5
_BAND_TITLES = {
    "wrong": "Both disagree: together they give the label less than a tenth",
    "both": "Both disagree and name different labels",
    "one": "Only one disagrees",
}


@dataclass(frozen=True)
class Picture:
    """A photo on the page."""

    name: str
    caption: str
    index: int | None
    """Index into `Album.photos`; None where the photo cannot be shown."""


@dataclass(frozen=True)
class Case:
    """A decision for the reader: photos beside each other, the first of them in question."""

    title: str
    note: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class CaseSection:
    """Cases under their own title."""

    title: str
    note: str
    cases: tuple[Case, ...]


def write_report(cleaning: Cleaning, taxonomy: Taxonomy, file: Path, photos: PhotoFiles) -> None:
    """Write the report atomically, replacing the previous one.

    Args:
        cleaning: What was found.
        taxonomy: The taxonomy, for the names of the labels.
        file: Its folder is created if missing.
        photos: Reads the photos; one that cannot be read in time becomes a tile with its address.
    """
    shown = {band: cleaning.band(band)[:MOST_SHOWN] for band in BANDS}
    suspects = list(chain.from_iterable(shown.values()))
    duplicates, ambiguous = cleaning.duplicates[:MOST_SHOWN], cleaning.ambiguous[:MOST_SHOWN]
    needed: Iterable[Photo] = chain(
        (each.photo for each in suspects),
        chain.from_iterable(each.neighbours[:NEIGHBOURS_SHOWN] for each in suspects),
        chain.from_iterable(duplicates),
        (each.photo for each in ambiguous),
    )
    album = Album(photos, (each.image_uri for each in needed))

    def names(labels: Iterable[str]) -> str:
        return ", ".join(taxonomy.name_of(label) for label in labels) or "none of these"

    def picture(photo: Photo, caption: str | None = None) -> Picture:
        return Picture(photo.image_uri, caption or names(photo.labels), album.index(photo.image_uri))

    sections = [
        CaseSection(
            "Duplicates with different labels",
            f"{plural(len(cleaning.duplicates), 'group')} of near-identical photos whose labels differ: look at these "
            "first, since whatever is learnt from them contradicts itself.",
            tuple(Case("", "", tuple(map(picture, group))) for group in duplicates),
        ),
        *(
            CaseSection(
                _BAND_TITLES[band],
                f"{plural(len(cleaning.band(band)), 'photo')}: {meaning}.",
                tuple(_case(each, names, picture) for each in shown[band]),
            )
            for band, meaning in BANDS.items()
        ),
        CaseSection(
            "Ambiguous photos",
            "The head's outputs differ least on these photos: they show several labels, or none. That does not make "
            "their labels wrong, and leaving them out makes a tagger worse.",
            tuple(Case("", "", (picture(each.photo),)) for each in ambiguous),
        ),
    ]
    text = render(
        __package__,
        taxonomy=taxonomy.name,
        headline=f"{plural(len(cleaning.band('wrong')), 'label')} most likely wrong",
        measured=f"{plural(cleaning.n_photos, 'labelled photo')} outside the test part, of which an estimated "
        f"{cleaning.expected_wrong:,} have a wrong label.",
        sections=[each for each in sections if each.cases],
        photos=album.photos,
        most_shown=MOST_SHOWN,
    )
    write_whole(file, text)


def _case(suspect: Suspect, names: Callable[[Iterable[str]], str], picture: Callable[..., Picture]) -> Case:
    note = f"P {suspect.probability:.2f}, V {suspect.votes:.2f} of the given label"
    if suspect.is_test:
        note += "; in the test part: never corrected automatically"
    return Case(
        f"{names(suspect.photo.labels)} → {names(suspect.suggested)}",
        note,
        (
            picture(suspect.photo, "in question"),
            *(picture(each) for each in suspect.neighbours[:NEIGHBOURS_SHOWN]),
        ),
    )
