import numpy as np
import pytest

from recsys.images.lab.head import unit_length
from recsys.images.lab.neighbours import (
    duplicate_cosine,
    near_duplicate_pairs,
    near_duplicates,
    nearest,
    nearest_others,
    with_fewer_features,
)


def drawn(n: int, n_features: int = 12, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, n_features)).astype(np.float32)


def in_clumps(n: int, n_clumps: int, n_features: int = 12) -> np.ndarray:
    random = np.random.default_rng(1)
    middles = random.normal(size=(n_clumps, n_features))
    return (middles[np.arange(n) % n_clumps] + 0.2 * random.normal(size=(n, n_features))).astype(np.float32)


def by_brute_force(queries: np.ndarray, photos: np.ndarray, k: int) -> tuple[list[list[int]], list[list[float]]]:
    rows, cosines = [], []
    for query in queries.astype(float):
        values = [
            float(query @ photo / np.linalg.norm(query) / np.linalg.norm(photo)) for photo in photos.astype(float)
        ]
        best = sorted(range(len(photos)), key=lambda row: -values[row])[:k]
        rows.append(best)
        cosines.append([values[row] for row in best])
    return rows, cosines


@pytest.mark.parametrize("block", [2**22, 7])
def test_nearest_are_those_of_a_brute_force_search_whatever_the_size_of_the_blocks(monkeypatch, block):
    monkeypatch.setattr("recsys.images.lab.neighbours._BLOCK", block)
    queries, photos = drawn(9), drawn(31, seed=1) * 7
    found = nearest(queries, photos, 4)
    rows, cosines = by_brute_force(queries, photos, 4)
    assert found.photos.tolist() == rows
    np.testing.assert_allclose(found.cosines, cosines, atol=1e-6)


@pytest.mark.parametrize("block", [2**22, 7])
def test_the_nearest_others_leave_out_the_photo_itself_but_not_its_copy(monkeypatch, block):
    monkeypatch.setattr("recsys.images.lab.neighbours._BLOCK", block)
    photos = drawn(30)
    photos[17] = 3 * photos[4]
    found = nearest_others(photos, 2)
    assert found.photos[4, 0] == 17
    assert found.photos[17, 0] == 4
    rows, _ = by_brute_force(photos[:4], photos, 3)
    assert found.photos[:4].tolist() == [each[1:] for each in rows]


def test_few_photos_have_few_neighbours():
    assert nearest(drawn(2), drawn(3), 10).photos.shape == (2, 3)
    assert nearest_others(drawn(3), 10).photos.shape == (3, 2)
    assert nearest(drawn(2), drawn(0), 5).photos.shape == (2, 0)


def test_search_by_clusters_finds_most_of_the_nearest_with_their_exact_cosines():
    photos = in_clumps(600, 20)
    exact, fast = nearest_others(photos, 5), nearest_others(photos, 5, many=500)
    shared = np.mean(
        [len(set(a) & set(b)) / 5 for a, b in zip(exact.photos.tolist(), fast.photos.tolist(), strict=True)]
    )
    assert shared > 0.95
    assert not (fast.photos == np.arange(600)[:, None]).any()
    units = unit_length(photos)
    np.testing.assert_allclose(fast.cosines, np.einsum("nf,nkf->nk", units, units[fast.photos]), atol=1e-5)


def test_chains_of_near_duplicates_are_one_group():
    angles = np.radians([0, 10, 20, 90, 180, 181])  # cosines of neighbours on the circle: .985, of 20 degrees: .940
    photos = np.column_stack([np.cos(angles), np.sin(angles)]).astype(np.float32)
    assert near_duplicates(photos, 0.98) == [[0, 1, 2], [4, 5]]
    assert near_duplicates(photos[:1], 0.98) == []


def test_photos_are_the_same_within_a_share_of_the_mean_distance():
    photos = np.array([[1, 0], [0, 1], [0, 3]], np.float32)  # distances 1, 1 and 0
    assert duplicate_cosine(photos) == pytest.approx(1 - 0.12 * 2 / 3)
    assert near_duplicates(photos) == [[1, 2]]


def test_fewer_features_keep_the_cosines_of_photos_that_differ_in_few_directions():
    few = drawn(50, 4)
    turned = few @ drawn(4, 40, seed=2)
    fewer = with_fewer_features(turned, 4)
    assert fewer.shape == (50, 4)
    np.testing.assert_allclose(fewer @ fewer.T, unit_length(turned) @ unit_length(turned).T, atol=1e-4)
    np.testing.assert_array_equal(with_fewer_features(few, 4), unit_length(few))


def test_near_duplicate_pairs_are_those_that_are_alike_and_stand_out():
    embeddings = np.random.default_rng(0).normal(size=(80, 3)).astype(np.float32)
    units = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    distances = 1 - units @ units.T
    to_tenth = np.sort(distances + 9 * np.eye(80), axis=1)[:, 9]
    limit = 0.12 * distances[np.triu_indices(80, 1)].mean()
    expected = [
        [i, j]
        for i in range(80)
        for j in range(i + 1, 80)
        if distances[i, j] <= limit and distances[i, j] <= 0.5 * max(to_tenth[i], to_tenth[j])
    ]
    assert 0 < len(expected) < (distances[np.triu_indices(80, 1)] <= limit).sum()
    assert near_duplicate_pairs(embeddings).tolist() == expected


def test_networks_whose_embeddings_are_all_alike_have_as_few_near_duplicates():
    embeddings = np.random.default_rng(0).normal(size=(40, 32)).astype(np.float32)
    embeddings[1] = embeddings[0] + 0.2 * embeddings[2]
    assert near_duplicate_pairs(embeddings).tolist() == [[0, 1]]
    assert near_duplicate_pairs(embeddings + 10).tolist() == [[0, 1]]  # cosines of about .98


def test_photos_of_a_label_that_are_all_alike_are_no_duplicates_but_for_a_copy():
    random = np.random.default_rng(0)
    centres = np.eye(40, dtype=np.float32)[np.arange(60) % 2]
    embeddings = centres + 0.02 * random.normal(size=(60, 40)).astype(np.float32)
    embeddings[7] = embeddings[3]
    assert near_duplicate_pairs(embeddings).tolist() == [[3, 7]]
