import numpy as np
from numpy.testing import assert_allclose
from scipy.sparse import csr_matrix

from recsys.recommenders.sums import divide_by_norms, user_sums, write_sums

OFFSETS = np.array([0, 3, 3, 4])  # the second user has no events
SALES, WEIGHTS = np.array([2, 0, 2, 1], np.int32), np.array([1, 10, 0.5, 100], np.float32)
MATRIX = csr_matrix(np.array([[1, 0, 2], [0, 0, 0], [0, 3, 0]], np.float32))  # the sale of the third user has no entry


def test_sums_of_rows_are_weighted_by_event() -> None:
    features = np.full((3, 2, 3), 7, np.float32)
    write_sums(OFFSETS, SALES, WEIGHTS, MATRIX.toarray(), features, 1)
    assert features[:, 1].tolist() == [[10, 4.5, 20], [0, 0, 0], [0, 0, 0]]
    assert (features[:, 0] == 7).all()


def test_sums_of_sparse_rows_are_those_of_the_same_dense_ones() -> None:
    assert user_sums(OFFSETS, SALES, WEIGHTS, MATRIX).tolist() == [[10, 4.5, 20], [0, 0, 0], [0, 0, 0]]


def test_scores_are_divided_by_the_length_of_the_user_s_sum() -> None:
    features = np.full((3, 1, 2), 3, np.float32)
    divide_by_norms(OFFSETS, SALES, WEIGHTS, MATRIX.data, MATRIX.indices, MATRIX.indptr, 3, features, 0)
    length = np.sqrt(10**2 + 4.5**2 + 20**2)
    assert_allclose(features[:, 0], [[3 / length] * 2, [0, 0], [0, 0]], rtol=1e-6)
