"""The review of photos whose label is unsure: who sees which photo next, what was suggested, and what they say."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Lock
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.errors import ConfigurationError, InputError
from recsys.images.lab.active_learning import next_batch
from recsys.images.lab.dataset import Dataset
from recsys.images.lab.head import unit_length
from recsys.images.lab.label_store import LABELS, LabelStore
from recsys.images.lab.trained_tagger import TrainedTagger
from recsys.wording import did_you_mean, visible

NEIGHBOURS = 3
FIRST_PHOTOS = 1000
"""Photos that are put in order by usefulness; the others follow, the least sure first."""
MOST_CHOICES = 9
"""Labels that a key chooses: 1 to 9."""
_ABSENT = timedelta(minutes=15)  # photos given to somebody who has done nothing for this long are given to others


class PhotosToReview(Protocol):
    """Photos of the shop; all arrays have a row per photo."""

    @property
    def image_hashes(self) -> NDArray[np.str_]:
        """Shape (n_photos,)."""

    @property
    def image_uris(self) -> NDArray[np.str_]:
        """Shape (n_photos,)."""

    @property
    def embeddings(self) -> NDArray[np.float32]:
        """Shape (n_photos, n_features)."""


Order = Callable[[NDArray[np.int64]], NDArray[np.int64]]
"""Which photos to label first: from the positions of the unsure photos, the least sure first, to some or all of them,
the most useful first. Those that it leaves out follow, the least sure first.
"""


def by_usefulness(photos: PhotosToReview, labelled: Dataset) -> Order:
    """Return the order of active learning, see `next_batch`, of the first FIRST_PHOTOS; it is computed once."""

    def order(positions: NDArray[np.int64]) -> NDArray[np.int64]:
        candidates = positions[~np.isin(photos.image_hashes[positions], labelled.image_hashes)]
        return next_batch(photos.embeddings, candidates, labelled, FIRST_PHOTOS).photos

    return order


@dataclass(frozen=True)
class Neighbour:
    """A labelled photo that is similar."""

    image_hash: str
    labels: list[str]


@dataclass(frozen=True)
class UnsurePhoto:
    """A photo to review."""

    image_hash: str
    suggestion: list[str]  # labels; none: none of these
    margin: float  # see Head.margins
    choices: list[str]  # labels that a key chooses: all in their order, or of many the most probable of this photo
    neighbours: list[Neighbour]  # the most similar first


@dataclass(frozen=True)
class Hand:
    """The photos that a person reviews next."""

    photos: list[UnsurePhoto]
    left: int  # unsure photos that this person may be shown, these included


class Review:
    """A review of the photos of a shop by any number of people; safe to call from several threads.

    What a person says is in the store when `decide` returns. Several people see different photos, or, with `double`,
    each photo is shown to two of them. A photo that a person skips comes last, for this person.

    Args:
        photos: All photos, labelled or not.
        tagger: The tagger that suggests.
        store: Where labels are kept.
        share: Share of the photos to review, the least sure ones, in [0, 1]; by default those below `tagger.sure`.
        order: Which of them come first; by default the least sure.
        double: Whether each photo is labelled by two people.

    Raises:
        InputError: If there is no photo.
    """

    def __init__(
        self,
        photos: PhotosToReview,
        tagger: TrainedTagger,
        store: LabelStore,
        share: float | None = None,
        order: Order | None = None,
        double: bool = False,
    ):
        if not len(photos.image_hashes):
            raise InputError("the shop has 0 photos with embeddings, must have some to review: run 'recsys nightly'")
        self.tagger = tagger
        self.words: dict[str, dict[str, list[str]]] = {}
        """What each person said of each photo, see `words_by_person`."""
        self.double = double
        self._store = store
        self._hashes = [str(each) for each in photos.image_hashes]
        self._uris = [str(each) for each in photos.image_uris]
        self._position = {image_hash: position for position, image_hash in enumerate(self._hashes)}
        self._embeddings = unit_length(photos.embeddings)
        self._probabilities = tagger.head.probabilities(photos.embeddings)
        self._margins = tagger.head.margins(self._probabilities)
        self._suggestions = tagger.head.said(self._probabilities)
        self._lock = Lock()
        self._given: dict[str, set[str]] = {}  # hashes by person
        self._skipped: dict[str, dict[str, None]] = {}
        self._decided: dict[str, list[list[str]]] = {}  # by person, what `undo` takes back, the last last
        self._seen: dict[str, datetime] = {}
        self._learn_words()
        positions = unsure(self._margins, tagger.sure, share)
        first = () if order is None else order(positions)
        self.queue = list(dict.fromkeys(int(each) for each in (*first, *positions)))
        """Positions of the photos to review, in order."""

    @property
    def may_be_none(self) -> bool:
        """Whether a photo may show none of the labels."""
        return self.tagger.taxonomy.kind == "multi" or self.tagger.taxonomy.other == "reject"

    @property
    def open_photos(self) -> int:
        """Number of photos of the queue that fewer people have labelled than are asked for."""
        enough = 2 if self.double else 1
        return sum(len(self.words.get(self._hashes[position], ())) < enough for position in self.queue)

    def uri_of(self, image_hash: str) -> str | None:
        """Return the address of a photo of the shop; None if the shop has no such photo."""
        position = self._position.get(image_hash)
        return None if position is None else self._uris[position]

    def sure_labels(self) -> dict[str, int]:
        """Return how many photos need no review by the label that the tagger gives them; '' for none of these."""
        counts: dict[str, int] = {}
        for position in set(range(len(self._hashes))).difference(self.queue):
            for label in self._suggestions[position] or [""]:
                counts[label] = counts.get(label, 0) + 1
        return counts

    def hand(self, by: str, n: int, at: datetime) -> Hand:
        """Give a person the next n photos, fewer at the end; those that they hold already are among them."""
        with self._lock:
            self._seen[by] = at
            self._learn_words()
            positions = self._open_photos(by, at)
            chosen = positions[:n]
            self._given[by] = {self._hashes[position] for position in chosen}
            neighbours = self._neighbours(chosen)
        return Hand([self._shown(*pair) for pair in zip(chosen, neighbours, strict=True)], len(positions))

    def decide(self, by: str, decisions: Mapping[str, Sequence[str] | None], at: datetime) -> None:
        """Store what a person says of photos, all or none, as one step of `undo`.

        Args:
            by: The person.
            decisions: By content hash the labels; none of them: none of these; None: skipped.
            at: When they say it.

        Raises:
            InputError: If a photo is not in the review, or is another person's now.
            ConfigurationError: If a label is not of the taxonomy, or there are several of kind single.
        """
        with self._lock:
            self._seen[by] = at
            for image_hash, labels in decisions.items():
                self._check(by, image_hash, labels, at)
            said = {image_hash: labels for image_hash, labels in decisions.items() if labels is not None}
            self._add(by, said, at)
            skipped = self._skipped.setdefault(by, {})
            for image_hash in decisions:
                skipped.pop(image_hash, None)
                if image_hash not in said:
                    skipped[image_hash] = None
            self._decided.setdefault(by, []).append(list(decisions))

    def undo(self, by: str, at: datetime) -> list[str]:
        """Take back what a person said or skipped last, and return the photos; none if there is nothing more."""
        with self._lock:
            self._seen[by] = at
            steps = self._decided.get(by)
            if not steps:
                return []
            skipped = self._skipped.setdefault(by, {})
            self._take_back(by, [image_hash for image_hash in steps[-1] if image_hash not in skipped], at)
            undone = steps.pop()
            for image_hash in undone:
                skipped.pop(image_hash, None)
            self._given.setdefault(by, set()).update(undone)
            return undone

    def decided(self, by: str) -> int:
        """Return on how many photos a person has said something in this review."""
        with self._lock:
            photos = {image_hash for step in self._decided.get(by, ()) for image_hash in step}
            return len(photos.difference(self._skipped.get(by, ())))

    def _learn_words(self) -> None:
        """Read what was said until now, here or elsewhere."""
        standing = standing_words(self._store.history())
        self.words = {photo: {row["by"]: row["labels"] for row in rows} for photo, rows in standing.items()}
        self._counts = {photo: rows[-1]["labels"] for photo, rows in standing.items()}

    def _add(self, by: str, said: Mapping[str, Sequence[str]], at: datetime) -> None:
        rows = [self._row(by, image_hash, labels, at) for image_hash, labels in said.items()]
        self._store.add(pa.Table.from_pylist(rows, LABELS))
        for image_hash, labels in said.items():
            self.words.setdefault(image_hash, {})[by] = self._counts[image_hash] = list(labels)

    def _take_back(self, by: str, image_hashes: Sequence[str], at: datetime) -> None:
        """Take back a person's last word on each photo. A word of somebody else that came later is said again: a row
        takes back the word before it, whoever said it."""
        standing, rows = standing_words(self._store.history()), []
        for image_hash in image_hashes:
            words = standing.get(image_hash, [])
            own = max((number for number, word in enumerate(words) if word["by"] == by), default=len(words))
            rows += [self._row(by, image_hash, None, at) for _ in words[own:]]
            rows += words[own + 1 :]
        self._store.add(pa.Table.from_pylist(rows, LABELS))
        self._learn_words()

    def _row(self, by: str, image_hash: str, labels: Sequence[str] | None, at: datetime) -> dict[str, Any]:
        return {
            "image_hash": image_hash,
            "image_uri": self.uri_of(image_hash),
            "taxonomy": self._store.taxonomy,
            "labels": None if labels is None else list(labels),
            "source": "person",
            "by": by,
            "at": at,
        }

    def _check(self, by: str, image_hash: str, labels: Sequence[str] | None, at: datetime) -> None:
        if image_hash not in self._position:
            raise InputError(f"photo {visible(image_hash)!r} is not in the review: reload the page")
        if self._others(by, image_hash, at) >= (2 if self.double else 1):
            raise InputError(f"photo {image_hash} is labelled by somebody else now: reload the page")
        known = self.tagger.taxonomy.ids
        for label in labels or ():
            if label not in known:
                raise ConfigurationError(
                    f"label {visible(label)!r}, must be one of {', '.join(known[:20])}{did_you_mean(label, known)}"
                )
        taxonomy = self.tagger.taxonomy
        if taxonomy.kind == "single" and labels is not None and len(labels) > 1:
            raise ConfigurationError(f"labels == {list(labels)}, must be one: taxonomy '{taxonomy.name}' is single")
        if labels is not None and not labels and not self.may_be_none:
            raise ConfigurationError(
                f"labels == [], must be one: skip the photo, or let taxonomy '{taxonomy.name}' say 'other: reject'"
            )

    def _others(self, by: str, image_hash: str, at: datetime) -> int:
        """Count the others who have labelled a photo, or hold it."""
        holding = {
            each
            for each, hashes in self._given.items()
            if image_hash in hashes and at - self._seen.get(each, at) < _ABSENT
        }
        return len((holding | self.words.get(image_hash, {}).keys()) - {by})

    def _open_photos(self, by: str, at: datetime) -> list[int]:
        """Return the positions of the photos that a person may be shown, in order; with `double`, what another person
        has labelled first."""
        most = 1 if not self.double else 2
        found = []
        for rank, position in enumerate(self.queue):
            image_hash = self._hashes[position]
            words = self.words.get(image_hash, {})
            if by not in words and self._others(by, image_hash, at) < most:
                found.append((image_hash in self._skipped.get(by, ()), self.double and not words, rank, position))
        return [position for *_, position in sorted(found)]

    def _neighbours(self, positions: Sequence[int]) -> list[list[Neighbour]]:
        labelled = [position for position, image_hash in enumerate(self._hashes) if image_hash in self._counts]
        similarities = self._embeddings[positions] @ self._embeddings[labelled].T
        nearest = np.argsort(-similarities, axis=1, kind="stable")[:, : NEIGHBOURS + 1]
        return [
            [
                Neighbour(self._hashes[other], self._counts[self._hashes[other]])
                for other in (labelled[each] for each in row)
                if other != position
            ][:NEIGHBOURS]
            for position, row in zip(positions, nearest.tolist(), strict=True)
        ]

    def _shown(self, position: int, neighbours: list[Neighbour]) -> UnsurePhoto:
        labels = self.tagger.head.labels
        choices = labels
        if len(labels) > MOST_CHOICES:
            best = np.argsort(-self._probabilities[position, : len(labels)], kind="stable")[:MOST_CHOICES]
            choices = [labels[each] for each in best]
        margin = round(float(self._margins[position]), 4)
        return UnsurePhoto(self._hashes[position], self._suggestions[position], margin, choices, neighbours)


def unsure(margins: NDArray[np.float32], sure: float, share: float | None = None) -> NDArray[np.int64]:
    """Return the positions of the photos to review, the least sure first.

    Args:
        margins: Shape (n_photos,), see `Head.margins`.
        sure: Margin from which a photo needs no review.
        share: Share of the photos to review instead, in [0, 1].

    Raises:
        ConfigurationError: If the share is not in [0, 1].
    """
    positions = np.argsort(margins, kind="stable")
    if share is None:
        return positions[margins[positions] < sure]
    if not 0 <= share <= 1:
        raise ConfigurationError(
            f"share == {share}, must be in 0..1: 0.25 reviews the least sure quarter of the photos"
        )
    return positions[: round(share * len(positions))]


def words_by_person(history: pa.Table) -> dict[str, dict[str, list[str]]]:
    """Return by content hash, and by person or service, the labels that they said last and that still stand.

    Args:
        history: Rows of LABELS in the order in which they were said.
    """
    return {
        image_hash: {row["by"]: row["labels"] for row in rows} for image_hash, rows in standing_words(history).items()
    }


def standing_words(history: pa.Table) -> dict[str, list[dict[str, Any]]]:
    """Return by content hash the rows that were not taken back, in the order in which they were said.

    Args:
        history: Rows of LABELS in the order in which they were said.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for row in history.to_pylist():
        rows = found.setdefault(row["image_hash"], [])
        if row["labels"] is not None:
            rows.append(row)
        elif rows:
            rows.pop()
    return {image_hash: rows for image_hash, rows in found.items() if rows}
