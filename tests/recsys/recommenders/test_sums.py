import numpy as np
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_matrix

from recsys.recommenders.sums import _write_sum, user_sums, write_cosines, write_sparse_sums

OFFSETS = np.array([0, 3, 3, 4])  # the second user has no events
SALES, WEIGHTS = np.array([2, 0, 2, 1], np.int32), np.array([1, 10, 0.5, 100], np.float32)
MATRIX = csr_matrix(np.array([[1, 0, 2], [0, 0, 0], [0, 3, 0]], np.float32))  # the sale of the third user has no entry


def test_sums_of_rows_are_weighted_by_event() -> None:
    features = np.full((3, 2, 3), 7, np.float32)
    write_sparse_sums(OFFSETS, SALES, WEIGHTS, MATRIX.data, MATRIX.indices, MATRIX.indptr, features, 1)
    assert features[:, 1].tolist() == [[10, 4.5, 20], [0, 0, 0], [0, 0, 0]]
    assert (features[:, 0] == 7).all()
    assert_array_equal(user_sums(OFFSETS, SALES, WEIGHTS, MATRIX), features[:, 1])


def test_sums_of_many_events_are_added_in_the_order_of_the_events() -> None:
    random = np.random.default_rng(0)
    rows = random.random((5, 9)).astype(np.float32) * (random.random((5, 9)) < 0.5)
    sparse = csr_matrix(rows)
    sales, weights = random.integers(0, 5, 91).astype(np.int32), random.random(91).astype(np.float32)
    offsets = np.concatenate(([0], np.cumsum(np.arange(14))))  # users of 0 to 13 events
    features, dense = np.full((14, 1, 9), 7, np.float32), np.full(9, 7, np.float32)
    write_sparse_sums(offsets, sales, weights, sparse.data, sparse.indices, sparse.indptr, features, 0)
    for user in range(14):
        expected = np.zeros(9, np.float32)
        for event in range(offsets[user], offsets[user + 1]):
            expected += weights[event] * rows[sales[event]]
        assert_array_equal(features[user, 0], expected)
        _write_sum(offsets[user], offsets[user + 1], sales, weights, rows, dense)
        assert_array_equal(dense, expected)


def test_cosines_are_the_sums_divided_by_the_length_of_the_users_profile() -> None:
    features = np.full((3, 1, 2), 7, np.float32)
    products = np.array([[1, 0], [2, 2], [0, 3]], np.float32)
    sparse = MATRIX.data, MATRIX.indices, MATRIX.indptr, 3
    write_cosines(OFFSETS, SALES, WEIGHTS, products, *sparse, features, 0)
    length = np.sqrt(10**2 + 4.5**2 + 20**2)
    assert_allclose(features[:, 0], [[10 / length, 4.5 / length], [0, 0], [0, 0]], rtol=1e-6)
