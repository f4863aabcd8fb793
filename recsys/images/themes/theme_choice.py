"""Comparison of numbers of themes by reconstruction error, stability over halves of the photos, and coherence."""

from collections.abc import Iterable, Iterator
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_matrix

from recsys.errors import EmptyInputError
from recsys.images.themes.themes import MIN_SHARE_OF_STRONGEST, ThemeModel, cosine, fit_themes, projection

TOP_TAGS = 4
"""Number of a theme's strongest tags that its coherence is computed from."""


class ThemeCount(NamedTuple):
    """Quality measures of one number of themes."""

    themes: int
    error: float
    """Relative reconstruction error ‖X - W H‖ / ‖X‖, in [0, 1]. It decreases with the number of themes: look for the
    elbow of the curve."""
    stability: float
    """Mean cosine of matched themes that are fitted to two halves of the photos; 1 means identical themes."""
    coherence: float
    """Mean normalised pointwise mutual information of pairs of a theme's strongest tags, in [-1, 1]: high if the
    tags of a theme occur together on photos. Bouma 2009."""
    smallest_share: float
    """Smallest share of photos that have the same strongest theme."""


def compare_counts(
    photo_tags: csr_matrix, tags: list[str], counts: Iterable[int], seed: int = 0
) -> Iterator[ThemeCount]:
    """Measure each number of themes on the same photos, shape (n_photos, n_tags) from `tag_matrix`.

    Raises:
        EmptyInputError: If fewer than 2 photos have a tag, since there are no two halves.
    """
    photo_tags = photo_tags[np.flatnonzero(photo_tags.sum(axis=1))]
    if photo_tags.shape[0] < 2:
        raise EmptyInputError(
            f"photos with a tag: {photo_tags.shape[0]}, must be at least 2 to compare numbers of themes: tag more"
        )
    together = co_occurrence(photo_tags)
    is_first_half = np.random.default_rng(seed).permutation(photo_tags.shape[0]) % 2 == 0
    for count in counts:
        model = _fit(photo_tags, tags, count, seed)
        halves = [_fit(photo_tags[np.flatnonzero(rows)], tags, count, seed) for rows in (is_first_half, ~is_first_half)]
        yield ThemeCount(
            themes=count,
            error=reconstruction_error(photo_tags, model),
            stability=stability(halves[0].matrix, halves[1].matrix),
            coherence=float(np.mean([coherence(theme, together, photo_tags.shape[0]) for theme in model.matrix])),
            smallest_share=min(model.shares),
        )


def _fit(photo_tags: csr_matrix, tags: list[str], count: int, seed: int) -> ThemeModel:
    return fit_themes(photo_tags, tags, count, as_of=0, tagger_version="", seed=seed)


def reconstruction_error(photo_tags: csr_matrix, model: ThemeModel) -> float:
    """Return ‖X - W H‖ / ‖X‖ in the Frobenius norm, without computing the dense product."""
    weights, themes = projection(photo_tags, model.matrix), model.matrix
    total = float(photo_tags.multiply(photo_tags).sum())
    cross_term = float(np.sum((photo_tags @ themes.T) * weights))
    explained = float(np.sum((weights.T @ weights) * (themes @ themes.T)))
    return float(np.sqrt(max(total - 2 * cross_term + explained, 0) / total))


def stability(themes: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    """Return the mean cosine of themes matched one to one so that it is maximal."""
    cosines = cosine(themes, others)
    return float(cosines[linear_sum_assignment(-cosines)].mean())


def co_occurrence(photo_tags: csr_matrix) -> NDArray[np.float64]:
    """Return the number of photos that have both tags, for each pair of tags; shape (n_tags, n_tags)."""
    has = (photo_tags > 0).astype(np.float64)
    return (has.T @ has).toarray()


def coherence(theme: NDArray[np.float64], together: NDArray[np.float64], n_photos: int) -> float:
    """Return the mean NPMI over pairs of the theme's strongest tags; 1 if it has a single tag."""
    threshold = MIN_SHARE_OF_STRONGEST * theme.max()
    strongest = [tag for tag in np.argsort(-theme, kind="stable")[:TOP_TAGS] if theme[tag] > threshold]
    pairs = [_npmi(together[a, b], together[a, a], together[b, b], n_photos) for a, b in combinations(strongest, 2)]
    return float(np.mean(pairs)) if pairs else 1.0


def _npmi(both: float, one: float, other: float, n_photos: int) -> float:
    if both == 0:
        return -1.0
    if both == n_photos:
        return 1.0
    return float(np.log(both * n_photos / (one * other)) / -np.log(both / n_photos))
