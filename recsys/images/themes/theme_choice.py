"""How many themes: what each number explains, whether another half of the photos gives the same, and how it reads."""

from collections.abc import Iterable, Iterator
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_matrix

from recsys.errors import EmptyInputError
from recsys.images.themes.themes import LEAST_OF_STRONGEST, ThemeModel, cosine, fit_themes, projection

TOP_TAGS = 4
"""Coherence looks at so many of a theme's strongest tags."""


class ThemeCount(NamedTuple):
    """What speaks for a number of themes."""

    themes: int
    error: float
    """Share of the length of the photos' tags that the themes do not explain, in [0, 1]; falls with the number: look
    where it stops falling fast."""
    stability: float
    """Mean cosine of themes fitted to two halves of the photos, paired; 1 is the same themes."""
    coherence: float
    """Mean normalised pointwise mutual information of pairs of a theme's strongest tags, in [-1, 1]: tags of one theme
    should stand together on photos. Bouma 2009."""
    smallest_share: float
    """Share of the photos whose strongest theme is the rarest one."""


def compare_counts(
    photo_tags: csr_matrix, tags: list[str], counts: Iterable[int], seed: int = 0
) -> Iterator[ThemeCount]:
    """Measure numbers of themes on the same photos, shape (n_photos, n_tags) from `tag_matrix`.

    Raises:
        EmptyInputError: If fewer than 2 photos have a tag: there are no halves.
    """
    photo_tags = photo_tags[np.flatnonzero(photo_tags.sum(axis=1))]
    if photo_tags.shape[0] < 2:
        raise EmptyInputError(f"{photo_tags.shape[0]} photos with a tag, comparing numbers of themes needs at least 2")
    together = co_occurrence(photo_tags)
    half = np.random.default_rng(seed).permutation(photo_tags.shape[0]) % 2 == 0
    for count in counts:
        model = _fit(photo_tags, tags, count, seed)
        halves = [_fit(photo_tags[np.flatnonzero(chosen)], tags, count, seed) for chosen in (half, ~half)]
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
    """Return ‖X - W H‖ / ‖X‖ by the Frobenius norm, without making the dense product."""
    weights, themes = projection(photo_tags, model.matrix), model.matrix
    total = float(photo_tags.multiply(photo_tags).sum())
    crossed = float(np.sum((photo_tags @ themes.T) * weights))
    explained = float(np.sum((weights.T @ weights) * (themes @ themes.T)))
    return float(np.sqrt(max(total - 2 * crossed + explained, 0) / total))


def stability(themes: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    """Return the mean cosine of themes paired with others so that it is greatest."""
    cosines = cosine(themes, others)
    return float(cosines[linear_sum_assignment(-cosines)].mean())


def co_occurrence(photo_tags: csr_matrix) -> NDArray[np.float64]:
    """Count photos that have both of two tags, shape (n_tags, n_tags)."""
    has = (photo_tags > 0).astype(np.float64)
    return (has.T @ has).toarray()


def coherence(theme: NDArray[np.float64], together: NDArray[np.float64], n_photos: int) -> float:
    """Return the mean NPMI of pairs of the theme's strongest tags; 1 where it has a single tag."""
    least = LEAST_OF_STRONGEST * theme.max()
    strongest = [tag for tag in np.argsort(-theme, kind="stable")[:TOP_TAGS] if theme[tag] > least]
    pairs = [_npmi(together[a, b], together[a, a], together[b, b], n_photos) for a, b in combinations(strongest, 2)]
    return float(np.mean(pairs)) if pairs else 1.0


def _npmi(both: float, one: float, other: float, n_photos: int) -> float:
    if both == 0:
        return -1.0
    if both == n_photos:
        return 1.0
    return float(np.log(both * n_photos / (one * other)) / -np.log(both / n_photos))
