import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

from benchmarks.baselines import GRIDS, Baseline, grid

COUNTS = csr_matrix(np.array([[2, 1, 0, 0], [0, 1, 0, 1], [3, 0, 0, 0]], np.float32))


@pytest.fixture(autouse=True)
def one_blas_thread():
    """`implicit` asks for this, and warns otherwise."""
    with threadpool_limits(1, "blas"):
        yield


def test_grid_holds_every_combination_once():
    found = list(grid("BM25"))
    assert len(found) == len(set(found)) == np.prod([len(values) for values in GRIDS["BM25"].values()])
    assert str(found[0]) == "BM25 (days 30, K 200, K1 1.2, B 0.2)"
    assert [each.days for each in grid("popularity")] == list(GRIDS["popularity"]["days"])


def test_popularity_is_the_number_of_events_for_all_users():
    scores = Baseline("popularity", (("days", 7),)).fit(COUNTS)
    assert_array_equal(scores(COUNTS[:2]), [[5, 2, 0, 1], [5, 2, 0, 1]])


def test_cosine_sums_similarities_to_each_sale_of_the_user_times_its_count():
    score = Baseline("cosine", (("days", 60), ("K", 4))).fit(COUNTS)
    columns = COUNTS.toarray() / np.maximum(np.linalg.norm(COUNTS.toarray(), axis=0), 1e-9)
    assert_allclose(score(COUNTS), COUNTS @ (columns.T @ columns), atol=1e-6)


@pytest.mark.parametrize("kind", ["TF-IDF", "BM25"])
def test_item_item_ranks_a_repeat_purchase_above_a_sale_without_common_users(kind):
    scores = next(grid(kind)).fit(COUNTS)(COUNTS[2:])[0]
    assert scores[0] > scores[1] > scores[2] == 0
    assert scores[3] == 0


def test_als_scores_the_given_users_and_not_those_it_was_fitted_to():
    score = next(grid("ALS")).fit(COUNTS)
    assert_allclose(score(COUNTS[[1, 0]]), score(COUNTS)[[1, 0]], atol=1e-5)
    assert score(COUNTS).shape == (3, 4)
    assert score(COUNTS)[1, 3] > score(COUNTS)[2, 3]
