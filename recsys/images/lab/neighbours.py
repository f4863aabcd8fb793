"""Nearest photos by the cosine of their embeddings: exact in blocks, and among the photos of near clusters for many."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from recsys.images.lab.head import unit_length

Embeddings = NDArray[np.float32]

MANY = 10_000
"""Number of photos from which those of other clusters are not compared: exact, this many take some 5 s on 2 cores."""
FEWER_FEATURES = 128
CLUSTERS_SEARCHED = 8
_BLOCK = 2**22
"""Cosines that are in memory at once, 16 MiB."""
_SAMPLE = 5_000
"""Photos from which directions and clusters are learnt."""


NEAR_DUPLICATE = 0.12
"""Share of the mean cosine distance of all pairs, up to which two photos count as the same picture.

A share, since networks differ: with some, photos that have nothing in common have a cosine of .3, with others of .8. Of
the 478 scenes and 1,485 garments that it was chosen on, it is a cosine of .92 of efficientnet_lite0. The pairs that
show the same thing from the same place have .96, .94, .93 and .92, the next ones, of skies and of jeans, .94 and .90.
A copy saved with JPEG quality 50, brightened, mirrored or with a logo is above it in nine cases of ten; one cropped by
a tenth at each side, or of half the size, mostly is not. A pair too many costs little: it stays in one part.
"""

STANDS_OUT = 0.5
_NEIGHBOURS = 10
_ROUNDING = 1e-6
"""Of cosines in single precision."""


class Neighbours(NamedTuple):
    """The nearest photos of each query, nearest first; both arrays have the shape (n_queries, k)."""

    photos: NDArray[np.int64]  # row numbers
    cosines: NDArray[np.float32]


def nearest(queries: Embeddings, photos: Embeddings, k: int) -> Neighbours:
    """Find the k photos nearest to each query by cosine, exactly.

    Args:
        queries: Shape (n_queries, n_features), of any length.
        photos: Shape (n_photos, n_features), of any length.
        k: Number of neighbours, at least 1; n_photos if there are fewer.
    """
    queries, photos = unit_length(queries), unit_length(photos)
    found = _empty(len(queries), min(k, len(photos)))
    for rows in _blocks(len(queries), len(photos)):
        found.photos[rows], found.cosines[rows] = _highest(queries[rows] @ photos.T, found.photos.shape[1])
    return found


def nearest_others(photos: Embeddings, k: int, many: int = MANY, seed: int = 0) -> Neighbours:
    """Find the k photos nearest to each photo by cosine, without itself.

    Exact for up to `many` photos. Of more, only the photos of the clusters next to a photo's own are compared, by
    FEWER_FEATURES features; the cosines returned are exact.

    Args:
        photos: Shape (n_photos, n_features), of any length.
        k: Number of neighbours, at least 1; n_photos - 1 if there are fewer.
        many: Number of photos above which the search is by clusters.
        seed: Seed of the clusters.
    """
    photos = unit_length(photos)
    k = min(k, len(photos) - 1)
    if len(photos) > many:
        return _nearest_in_clusters(photos, k, seed)
    found = _empty(len(photos), k)
    for rows in _blocks(len(photos), len(photos)):
        cosines = photos[rows] @ photos.T
        numbers = np.arange(len(photos))[rows]
        cosines[np.arange(len(numbers)), numbers] = -np.inf
        found.photos[rows], found.cosines[rows] = _highest(cosines, k)
    return found


def near_duplicates(photos: Embeddings, cosine: float | None = None) -> list[list[int]]:
    """Return the groups of two or more photos that `near_duplicate_pairs` links, largest first.

    Args:
        photos: Shape (n_photos, n_features), of any length.
        cosine: See `near_duplicate_pairs`.

    Returns:
        Row numbers in ascending order for each group.
    """
    first, second = near_duplicate_pairs(photos, cosine).T
    links = coo_array((np.ones(len(first)), (first, second)), shape=(len(photos), len(photos)))
    groups = connected_components(links, directed=False)[1]
    order = np.argsort(groups, kind="stable")
    together = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    return sorted((each.tolist() for each in together if len(each) > 1), key=lambda each: (-len(each), each))


def near_duplicate_pairs(photos: Embeddings, cosine: float | None = None) -> NDArray[np.int64]:
    """Return the pairs of photos that count as the same picture, shape (n_pairs, 2), first < second.

    Two conditions: they are alike beyond NEAR_DUPLICATE, and they stand out, being at most STANDS_OUT times as far from
    each other as one of them is from its tenth neighbour. Where all photos of a label are alike, such as packages of
    one product on white, nearness alone would chain them into one group.

    Args:
        photos: Shape (n_photos, n_features), of any length.
        cosine: Least cosine of a pair, instead of both conditions.
    """
    if len(photos) < 2:
        return np.zeros((0, 2), np.int64)
    found = nearest_others(photos, min(_NEIGHBOURS, len(photos) - 1))
    if cosine is None:
        distances = np.maximum(1 - found.cosines, 0)
        is_same = (found.cosines >= duplicate_cosine(photos)) & (
            distances <= STANDS_OUT * distances[:, -1:] + _ROUNDING
        )
    else:
        is_same = found.cosines >= cosine
    first, place = np.nonzero(is_same)
    pairs = np.sort(np.column_stack([first, found.photos[first, place]]), axis=1)
    return np.unique(pairs, axis=0).astype(np.int64)


def duplicate_cosine(photos: Embeddings) -> float:
    """Return the cosine from which two of these photos count as the same picture; see `NEAR_DUPLICATE`."""
    photos = photos[:: 1 + len(photos) // _SAMPLE]  # of many photos, the mean distance of some is the same
    n_photos = len(photos)
    if n_photos < 2:
        return 1 - NEAR_DUPLICATE
    sum_of_cosines = float(np.square(unit_length(photos).sum(0, dtype=np.float64)).sum()) - n_photos
    return 1 - NEAR_DUPLICATE * (1 - sum_of_cosines / (n_photos * (n_photos - 1)))


def with_fewer_features(embeddings: Embeddings, n_features: int = FEWER_FEATURES, seed: int = 0) -> Embeddings:
    """Return embeddings of length 1, projected to the directions in which a sample of them is widest.

    Args:
        embeddings: Shape (n_photos, n_features before).
        n_features: Number of directions; embeddings that have no more are returned as they are, of length 1.
        seed: Seed of the sample.
    """
    embeddings = unit_length(embeddings)
    if embeddings.shape[1] <= n_features:
        return embeddings
    from sklearn.utils.extmath import randomized_svd  # here: Spark's workers import this module too

    sample = np.random.default_rng(seed).permutation(len(embeddings))[:_SAMPLE]
    _, _, directions = randomized_svd(embeddings[sample], n_features, n_iter=2, random_state=seed)
    return unit_length(embeddings @ directions.T.astype(np.float32))


def _nearest_in_clusters(photos: Embeddings, k: int, seed: int) -> Neighbours:
    from sklearn.cluster import MiniBatchKMeans

    compact = with_fewer_features(photos, seed=seed)
    sample = np.random.default_rng(seed).permutation(len(photos))[: 4 * _SAMPLE]
    n_clusters = int(np.sqrt(len(photos)))
    means = MiniBatchKMeans(n_clusters, batch_size=4096, n_init=1, max_iter=10, random_state=seed).fit(compact[sample])
    centres = unit_length(means.cluster_centers_.astype(np.float32))
    cluster = nearest(compact, centres, 1).photos[:, 0]
    members = np.split(np.argsort(cluster, kind="stable"), np.cumsum(np.bincount(cluster, minlength=n_clusters))[:-1])
    near = nearest(centres, centres, CLUSTERS_SEARCHED).photos
    found = _empty(len(photos), k)
    for own, searched in zip(members, near, strict=True):
        candidates = np.concatenate([own, *(members[each] for each in searched if members[each] is not own)])
        for rows in _blocks(len(own), len(candidates)):
            queries = own[rows]
            cosines = compact[queries] @ compact[candidates].T
            cosines[np.arange(len(queries)), np.arange(len(own))[rows]] = -np.inf
            numbers = candidates[_highest(cosines, min(k, len(candidates) - 1))[0]]
            exact = np.einsum("qf,qkf->qk", photos[queries], photos[numbers])
            order = np.argsort(-exact, axis=1, kind="stable")
            found.photos[queries, : numbers.shape[1]] = np.take_along_axis(numbers, order, 1)
            found.cosines[queries, : numbers.shape[1]] = np.take_along_axis(exact, order, 1)
    return found


def _highest(cosines: NDArray[np.float32], k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return columns and values of the k highest of each row, highest first, equal ones by column."""
    columns = np.sort(np.argpartition(cosines, cosines.shape[1] - k, axis=1)[:, cosines.shape[1] - k :], axis=1)
    values = np.take_along_axis(cosines, columns, 1)
    order = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(columns, order, 1), np.take_along_axis(values, order, 1)


def _blocks(n_rows: int, n_columns: int) -> Iterator[slice]:
    size = max(1, _BLOCK // max(1, n_columns))
    return (slice(start, start + size) for start in range(0, n_rows, size))


def _empty(n_queries: int, k: int) -> Neighbours:
    return Neighbours(np.zeros((n_queries, k), np.int64), np.full((n_queries, k), -1, np.float32))
