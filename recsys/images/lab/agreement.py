"""How well two people agree on the labels of the same photos: Cohen's kappa."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NONE_OF_THESE = ""
_Z = 1.959964  # of a 95 % interval


@dataclass(frozen=True)
class Kappa:
    """Agreement beyond chance: 1 is complete, 0 is what two people who label at random would have."""

    value: float | None  # None if both always say the same one label: there is nothing to agree on
    low: float | None  # ends of the 95 % interval
    high: float | None


@dataclass(frozen=True)
class Difference:
    """A photo on which two people differ."""

    image_hash: str
    one: list[str]
    other: list[str]


@dataclass(frozen=True)
class Agreement:
    """Two people's labels of the same photos."""

    one: str
    other: str
    n_photos: int
    same: float | None  # share of the photos with the same labels; None without photos
    kappa: Kappa  # of kind multi over all pairs of photo and label
    by_label: dict[str, Kappa]  # whether the label is said or not; NONE_OF_THESE for photos without a label
    differences: list[Difference]


def agreements(words: Mapping[str, Mapping[str, Sequence[str]]], labels: Sequence[str]) -> list[Agreement]:
    """Return the agreement of each two people who labelled the same photos, most photos first.

    Args:
        words: By content hash and person the labels, see `words_by_person`.
        labels: The labels of the taxonomy.
    """
    people = sorted({by for each in words.values() for by in each})
    pairs = [(one, other) for n, one in enumerate(people) for other in people[n + 1 :]]
    found = [agreement(words, labels, one, other) for one, other in pairs]
    return sorted((each for each in found if each.n_photos), key=lambda each: -each.n_photos)


def agreement(
    words: Mapping[str, Mapping[str, Sequence[str]]], labels: Sequence[str], one: str, other: str
) -> Agreement:
    """Return how two people agree on the photos that both labelled; see `agreements`."""
    both = sorted(image_hash for image_hash, said in words.items() if one in said and other in said)
    pairs = [(sorted(words[each][one]), sorted(words[each][other])) for each in both]
    names = [*labels, NONE_OF_THESE]
    first, second = (_says([pair[side] or [NONE_OF_THESE] for pair in pairs], names) for side in (0, 1))
    is_single = bool((first.sum(1) == 1).all() and (second.sum(1) == 1).all())
    table = first.T.astype(np.float64) @ second if is_single else _two_by_two(first.ravel(), second.ravel())
    return Agreement(
        one,
        other,
        len(both),
        float(np.mean([a == b for a, b in pairs])) if pairs else None,
        kappa_of(table),
        {
            name: kappa_of(_two_by_two(first[:, n], second[:, n]))
            for n, name in enumerate(names)
            if first[:, n].any() or second[:, n].any()
        },
        [Difference(image_hash, a, b) for image_hash, (a, b) in zip(both, pairs, strict=True) if a != b],
    )


def kappa_of(table: NDArray[np.float64]) -> Kappa:
    """Return kappa of a table of counts, shape (n_labels, n_labels): rows are what one says, columns the other.

    Source:
        Fleiss, Cohen & Everitt 1969, whose large-sample standard error makes the interval.
    """
    n = table.sum()
    if n == 0:
        return Kappa(None, None, None)
    shares = table / n
    rows, columns, diagonal = shares.sum(1), shares.sum(0), np.diag(shares)
    observed, expected = diagonal.sum(), rows @ columns
    if np.isclose(expected, 1):
        return Kappa(None, None, None)
    kappa = (observed - expected) / (1 - expected)
    apart = shares * np.add.outer(columns, rows) ** 2
    variance = (
        (diagonal * (1 - (rows + columns) * (1 - kappa)) ** 2).sum()
        + (1 - kappa) ** 2 * (apart.sum() - np.diag(apart).sum())
        - (kappa - expected * (1 - kappa)) ** 2
    )
    half = _Z * np.sqrt(max(variance, 0.0) / n) / (1 - expected)
    return Kappa(float(kappa), float(max(kappa - half, -1)), float(min(kappa + half, 1)))


def _says(labels: Sequence[Sequence[str]], names: Sequence[str]) -> NDArray[np.bool_]:
    return np.array([[name in each for name in names] for each in labels], bool).reshape(len(labels), len(names))


def _two_by_two(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.array([[np.sum((one == a) & (other == b)) for b in (False, True)] for a in (False, True)], np.float64)
