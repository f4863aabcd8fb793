"""Finds wrong labels: by a head that never saw the photo (P), and by the votes of the nearest labelled photos (V).

Nothing is changed here but by `corrections`, whose rows a command adds to the label store on request.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.errors import InputError
from recsys.images.lab.dataset import Dataset
from recsys.images.lab.label_store import LABELS
from recsys.images.lab.neighbours import Neighbours, near_duplicates, nearest, nearest_others
from recsys.images.lab.training import fit_linear, out_of_fold_probabilities

BY = "clean"
NEIGHBOURS = 10
VOTE_SCALE = 0.1
"""A neighbour's vote weighs exp(cosine / VOTE_SCALE): one that is nearer by .07 weighs twice as much."""
FEWEST_PHOTOS = 20
AMBIGUOUS_SHARE = 0.05
_OF_OWN_GROUP = 20
"""Neighbours looked for beyond NEIGHBOURS, since those of a photo's own group are left out."""

Band = Literal["wrong", "both", "one"]
LEAST_SUPPORT = 0.1
"""Mean of P and V below which a label is most likely wrong. Where the two only name another label, half of the garments
are right after all: hard photos, for which several labels are probable."""
BANDS: dict[Band, str] = {
    "wrong": "head and neighbours together give the label less than a tenth, and the head names another",
    "both": "both name another label, but give the label a tenth or more",
    "one": "only the head or only the neighbours name another label",
}
Outputs = NDArray[np.float64]
"""Shape (n_photos, n_outputs): a column for each label, and one for none of these where photos of kind single are so
labelled."""


@dataclass(frozen=True)
class Photo:
    """A photo with its labels; none: none of these."""

    image_hash: str
    image_uri: str
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Suspect:
    """A photo whose label may be wrong."""

    photo: Photo
    band: Band
    suggested: tuple[str, ...]
    probability: float  # P, of the given labels, by a head that was fitted without the photo's group
    votes: float  # V, the weighted share of the neighbours that have the given labels
    neighbours: tuple[Photo, ...]  # nearest first, none of the photo's own group
    is_test: bool  # photos of the test part are never corrected automatically

    @property
    def score(self) -> float:
        """(1 - P) + (1 - V), in [0, 2]: the higher, the more likely the label is wrong."""
        return 2 - self.probability - self.votes


@dataclass(frozen=True)
class Ambiguous:
    """A photo for which the head's outputs differ little: it shows several labels, or none; its label may be right."""

    photo: Photo
    spread: float


@dataclass(frozen=True)
class Cleaning:
    """What is suspicious about the labels of a dataset."""

    n_photos: int  # labelled photos outside the test part
    expected_wrong: int  # cleanlab's estimate of the number of wrong labels among them
    duplicates: tuple[tuple[Photo, ...], ...]  # groups of near-identical photos that do not all have the same labels
    suspects: tuple[Suspect, ...]  # highest score first, equal ones by hash
    ambiguous: tuple[Ambiguous, ...]  # least spread first

    def band(self, band: Band) -> list[Suspect]:
        """Return the suspects of a band, highest score first."""
        return [each for each in self.suspects if each.band == band]


@dataclass(frozen=True)
class Evidence:
    """What head and neighbours say about each photo of a dataset."""

    given: NDArray[np.bool_]  # (n_photos, n_outputs)
    by_head: Outputs  # probabilities, out of sample
    by_neighbours: Outputs  # shares of the votes
    neighbours: Neighbours  # (n_photos, n_neighbours); a cosine of -inf: of the photo's own group, without a vote


def clean(dataset: Dataset, seed: int = 0) -> Cleaning:
    """Find the labels of a dataset that may be wrong, and duplicates with different labels.

    Photos of the test part are judged by the others, and nothing is learnt from them.

    Args:
        dataset: Labelled photos.
        seed: Seed of the folds.

    Raises:
        InputError: If fewer than FEWEST_PHOTOS photos, or fewer than two labels, are outside the test part.
    """
    evidence = evidence_of(dataset, seed)
    learnt_from = dataset.parts != "test"
    probability, votes = (
        given_probability(dataset.kind, evidence.given, outputs)
        for outputs in (evidence.by_head, evidence.by_neighbours)
    )
    said = [likeliest(dataset.kind, outputs) for outputs in (evidence.by_head, evidence.by_neighbours)]
    support = (probability + votes) / 2
    if dataset.kind == "multi":  # P and V say how good a photo's labels are on average: a single wrong one drowns
        support = np.where((said[0] == said[1]).all(1), 0.0, 1.0)
    bands = bands_of(evidence.given, said[0], said[1], support)
    disagrees = (said[0] != evidence.given).any(1)
    suggested = np.where(disagrees[:, np.newaxis], *said)[:, : len(dataset.labels)]
    photos = list(_photos(dataset, dataset.targets))
    order = np.lexsort((dataset.image_hashes, probability + votes))
    suspects = tuple(
        Suspect(
            photos[row],
            bands[row],  # not those that are None
            _names(dataset, suggested[row]),
            float(probability[row]),
            float(votes[row]),
            tuple(photos[each] for each in _voters(evidence.neighbours, row)),
            bool(~learnt_from[row]),
        )
        for row in order
        if bands[row] is not None
    )
    spread = spread_of(dataset.kind, evidence.by_head)
    least = np.lexsort((dataset.image_hashes, spread))[: int(AMBIGUOUS_SHARE * len(dataset))]
    return Cleaning(
        int(learnt_from.sum()),
        expected_wrong(dataset.kind, evidence.given[learnt_from], evidence.by_head[learnt_from]),
        tuple(_duplicates(dataset, photos)),
        suspects,
        tuple(Ambiguous(photos[row], float(spread[row])) for row in least if bands[row] != "wrong"),
    )


def evidence_of(dataset: Dataset, seed: int = 0) -> Evidence:
    """Return what head and neighbours say about each photo; see `clean`."""
    given = dataset.targets
    if dataset.kind == "single" and not given.any(1).all():
        given = np.column_stack([given, ~given.any(1)])
    learnt_from = dataset.parts != "test"
    n_labels = int(given[learnt_from].any(0).sum())
    if learnt_from.sum() < FEWEST_PHOTOS or (dataset.kind == "single" and n_labels < 2):
        raise InputError(
            f"{learnt_from.sum()} labelled photos with {n_labels} labels outside the test part, must be at least "
            f"{FEWEST_PHOTOS} with 2: label more photos before cleaning"
        )
    training, test = dataset.where(learnt_from), dataset.where(~learnt_from)
    by_head = np.zeros(given.shape)
    probabilities = out_of_fold_probabilities(training, seed=seed)
    by_head[learnt_from, : probabilities.shape[1]] = probabilities  # fewer if only test photos show none of these
    if len(test):
        probabilities = fit_linear(training).probabilities(test.embeddings)
        by_head[~learnt_from, : probabilities.shape[1]] = probabilities
    neighbours = voting_neighbours(dataset)
    return Evidence(given, by_head, shares_of_votes(neighbours, given), neighbours)


def voting_neighbours(dataset: Dataset, k: int = NEIGHBOURS) -> Neighbours:
    """Find the k photos outside the test part, and outside its own group, that are nearest to each photo.

    Returns:
        Neighbours of all photos, nearest first, more than k of each: those without a vote have a cosine of -inf.
    """
    voters, tested = np.flatnonzero(dataset.parts != "test"), np.flatnonzero(dataset.parts == "test")
    width = min(k + _OF_OWN_GROUP, len(voters) - 1)
    among_voters = nearest_others(dataset.embeddings[voters], width)
    of_tested = nearest(dataset.embeddings[tested], dataset.embeddings[voters], width)
    shape = len(dataset), width
    found = Neighbours(np.zeros(shape, np.int64), np.zeros(shape, np.float32))
    for rows, near in ((voters, among_voters), (tested, of_tested)):
        found.photos[rows], found.cosines[rows] = voters[near.photos], near.cosines
    may_vote = dataset.groups[found.photos] != dataset.groups[:, np.newaxis]
    found.cosines[~may_vote | (may_vote.cumsum(1) > k)] = -np.inf
    return found


def shares_of_votes(neighbours: Neighbours, given: NDArray[np.bool_]) -> Outputs:
    """Return each label's share of the votes, weighted by exp(cosine / VOTE_SCALE); all equal where nobody votes."""
    weights = np.exp(neighbours.cosines.astype(np.float64) / VOTE_SCALE)
    total = weights.sum(1, keepdims=True)
    shares = np.zeros((len(weights), given.shape[1]))
    for weight, photos in zip(weights.T, neighbours.photos.T, strict=True):  # all at once would take gigabytes
        shares += weight[:, np.newaxis] * given[photos]
    return np.where(total > 0, shares / np.maximum(total, np.finfo(float).tiny), 1 / given.shape[1])


def given_probability(kind: str, given: NDArray[np.bool_], outputs: Outputs) -> NDArray[np.float64]:
    """Return the probability that the given labels are right, shape (n_photos,).

    Of kind multi it is cleanlab's quality score: a moving average over the labels that gives the least likely most of
    the weight.
    """
    if kind == "single":
        return outputs[given]
    from cleanlab.multilabel_classification import get_label_quality_scores

    return np.asarray(get_label_quality_scores(_lists(given), outputs))


def likeliest(kind: str, outputs: Outputs) -> NDArray[np.bool_]:
    """Return the labels that outputs speak for: the highest of kind single, of kind multi those from one half up."""
    if kind == "multi":
        return outputs >= 0.5
    return np.arange(outputs.shape[1]) == outputs.argmax(1)[:, np.newaxis]


def bands_of(
    given: NDArray[np.bool_],
    by_head: NDArray[np.bool_],
    by_neighbours: NDArray[np.bool_],
    support: NDArray[np.float64],
) -> list[Band | None]:
    """Return the band of each photo; None where nobody names another label.

    Args:
        given: The given labels, shape (n_photos, n_outputs).
        by_head: Those that the head names.
        by_neighbours: Those that the neighbours name.
        support: Mean of P and V, shape (n_photos,).
    """
    head, neighbours = (by_head != given).any(1), (by_neighbours != given).any(1)
    choices = np.select([head & (support < LEAST_SUPPORT), head & neighbours, head | neighbours], [0, 1, 2], 3)
    return [(*BANDS, None)[choice] for choice in choices]


def spread_of(kind: str, outputs: Outputs) -> NDArray[np.float64]:
    """Return how far a photo's outputs are from each other: their standard deviation, shape (n_photos,).

    Of kind multi, whose outputs are decided one by one, it is the least distance of one from one half.
    """
    return outputs.std(1) if kind == "single" else np.abs(outputs - 0.5).min(1)


def expected_wrong(kind: str, given: NDArray[np.bool_], by_head: Outputs) -> int:
    """Return cleanlab's estimate of the number of photos with a wrong label (confident learning)."""
    if kind == "multi":
        from cleanlab.multilabel_classification.filter import find_label_issues

        return int(find_label_issues(_lists(given), by_head, n_jobs=1).sum())
    from cleanlab.count import num_label_issues

    is_used = given.any(0)  # cleanlab wants an example of each class
    shares = by_head[:, is_used] / by_head[:, is_used].sum(1, keepdims=True)
    return int(num_label_issues(given[:, is_used].argmax(1), shares))


def corrections(cleaning: Cleaning, taxonomy: str, history: pa.Table, at: datetime) -> pa.Table:
    """Return the rows of LABELS that correct the suspects of band `wrong`, outside the test part.

    Photos on which people insist are left alone: see `confirmed`.

    Args:
        cleaning: What `clean` found.
        taxonomy: Its taxonomy.
        history: All rows of its label store.
        at: The instant of the correction, with a time zone.
    """
    left_alone = confirmed(history)
    rows = [
        {
            "image_hash": each.photo.image_hash,
            "image_uri": each.photo.image_uri,
            "taxonomy": taxonomy,
            "labels": list(each.suggested),
            "source": "rule",
            "by": BY,
            "at": at,
        }
        for each in cleaning.band("wrong")
        if not each.is_test and each.photo.image_hash not in left_alone
    ]
    return pa.Table.from_pylist(rows, LABELS)


def confirmed(history: pa.Table) -> set[str]:
    """Return the hashes of photos that were corrected before, or to which people gave the same labels twice."""
    corrected = {row["image_hash"] for row in history.to_pylist() if row["by"] == BY and row["source"] == "rule"}
    said = Counter(
        (row["image_hash"], frozenset(row["labels"]))
        for row in history.to_pylist()
        if row["source"] == "person" and row["labels"] is not None
    )
    return corrected | {image_hash for (image_hash, _), times in said.items() if times > 1}


def _duplicates(dataset: Dataset, photos: list[Photo]) -> Iterator[tuple[Photo, ...]]:
    for rows in near_duplicates(dataset.embeddings):
        if (dataset.targets[rows] != dataset.targets[rows[0]]).any():
            yield tuple(photos[row] for row in rows)


def _photos(dataset: Dataset, labels: NDArray[np.bool_]) -> Iterator[Photo]:
    for image_hash, uri, row in zip(dataset.image_hashes, dataset.image_uris, labels, strict=True):
        yield Photo(str(image_hash), str(uri), _names(dataset, row))


def _names(dataset: Dataset, labels: NDArray[np.bool_]) -> tuple[str, ...]:
    return tuple(dataset.labels[column] for column in np.flatnonzero(labels))


def _voters(neighbours: Neighbours, row: int) -> Iterable[int]:
    return neighbours.photos[row][np.isfinite(neighbours.cosines[row])].tolist()


def _lists(given: NDArray[np.bool_]) -> list[list[int]]:
    return [np.flatnonzero(row).tolist() for row in given]
