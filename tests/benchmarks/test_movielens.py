from math import log2
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_matrix
from sklearn.linear_model import Ridge

from benchmarks.movielens import LeaveOneOut, ease, measure, read, top_popular

RATINGS = [(0, 0), (0, 2), (1, 2), (1, 3), (2, 2), (2, 4), (2, 0)]  # user, movie


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three users and seven movies in the files of the protocol; the tests are not in order of the user."""
    (tmp_path / "tiny.train.rating").write_text("".join(f"{user}\t{movie}\t5\t978\n" for user, movie in RATINGS))
    (tmp_path / "tiny.test.rating").write_text("1\t0\t4\t979\n0\t4\t3\t980\n2\t6\t1\t981\n")
    (tmp_path / "tiny.test.negative").write_text("(1,0)\t4\t5\n(0,4)\t3\t1\n(2,6)\t3\t5\n")
    return tmp_path


def test_files_are_read_into_one_row_per_user_with_the_movie_left_out_first(folder):
    data = read(folder, "tiny")
    expected = np.zeros((3, 7))
    expected[tuple(zip(*RATINGS, strict=True))] = 1
    assert_array_equal(data.train.toarray(), expected)
    assert_array_equal(data.candidates, [[4, 3, 1], [0, 4, 5], [6, 3, 5]])


def test_movie_left_out_is_ranked_among_its_candidates_only(folder):
    # Ratings of the movies: 2, 0, 3, 1, 1, 0, 0. User 0: 4 ties with 3, the smaller goes first; user 1: 0 is first;
    # user 2: 6 comes after 3, and after 5, which ties with it.
    data = read(folder, "tiny")
    hit_rate, ndcg = measure(data, top_popular(data.train))
    assert hit_rate == 1
    assert ndcg == pytest.approx((1 / log2(2 + 1) + 1 + 1 / log2(3 + 1)) / 3)


def test_rank_11_is_no_hit():
    candidates = np.array([[11, *range(11)], [0, *range(1, 12)], [10, *range(10), 11]])
    data = LeaveOneOut(csr_matrix((3, 14), dtype=np.float32), candidates)
    falling = -np.arange(14, dtype=np.float32)[None, :]  # movie m has rank m + 1
    assert measure(data, falling) == pytest.approx((1 / 3, 1 / 3))


def test_scores_of_each_user_rank_the_users_own_candidates():
    data = LeaveOneOut(csr_matrix((2, 3), dtype=np.float32), np.array([[0, 1], [2, 1]]))
    scores = np.array([[1, 2, 9], [0, 1, 2]], np.float32)
    assert measure(data, scores) == pytest.approx((1, (1 / log2(3) + 1) / 2))


def test_ease_regresses_each_movie_on_all_others():
    rng = np.random.default_rng(3)
    train = csr_matrix((rng.random((40, 6)) < 0.4).astype(np.float32))
    dense = train.toarray().astype(np.float64)
    for movie in range(6):
        others = np.delete(np.arange(6), movie)
        regression = Ridge(alpha=7.0, fit_intercept=False).fit(dense[:, others], dense[:, movie])
        expected = dense[:, others] @ regression.coef_
        assert_allclose(ease(train, l2=7.0)[:, movie], expected, atol=1e-5)
