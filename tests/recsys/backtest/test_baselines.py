import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from threadpoolctl import threadpool_limits

from recsys.backtest.baselines import CLASSIC, POPULARITY, Baseline, event_counts
from recsys.instants import DAY
from recsys.shop.histories import Histories

AS_OF = 100 * DAY
COUNTS = np.array([[2, 1, 0, 0], [0, 1, 0, 1], [3, 0, 0, 0]])
KINDS = {kind.name: kind for kind in CLASSIC}


@pytest.fixture(autouse=True)
def one_blas_thread():
    """`implicit` asks for this, and warns otherwise."""
    with threadpool_limits(1, "blas"):
        yield


@pytest.fixture
def known() -> Histories:
    """One event of yesterday for each of COUNTS."""
    users, sales = np.nonzero(COUNTS)
    times = COUNTS[users, sales]
    events, offsets = np.repeat(sales, times), np.concatenate(([0], np.cumsum(COUNTS.sum(axis=1))))
    purchases, occurred_at = np.ones(len(events), bool), np.full(len(events), AS_OF - DAY)
    return Histories(AS_OF, 4, offsets, events.astype(np.int32), purchases, occurred_at)


def test_grid_holds_every_combination_once():
    found = list(KINDS["BM25"].baselines())
    assert len(found) == len(set(found)) == np.prod([len(values) for values in KINDS["BM25"].grid.values()])
    assert str(found[0]) == "BM25 (days 30, K 200, K1 1.2, B 0.2)"
    assert [each.days for each in POPULARITY.baselines()] == list(POPULARITY.grid["days"])


def test_events_are_counted_by_user_and_sale(known):
    assert_array_equal(event_counts(known).toarray(), COUNTS)


def test_popularity_is_the_number_of_events_for_all_users(known):
    scores = Baseline(POPULARITY, (("days", 7),)).fit(known)
    assert_array_equal(scores(np.array([0, 2])), [[5, 2, 0, 1], [5, 2, 0, 1]])


def test_cosine_sums_similarities_to_each_sale_of_the_user_times_its_count(known):
    score = Baseline(KINDS["cosine"], (("days", 60), ("K", 4))).fit(known)
    columns = COUNTS / np.maximum(np.linalg.norm(COUNTS, axis=0), 1e-9)
    assert_allclose(score(np.arange(3)), COUNTS @ (columns.T @ columns), atol=1e-6)


@pytest.mark.parametrize("kind", ["TF-IDF", "BM25"])
def test_item_item_ranks_a_repeat_purchase_above_a_sale_without_common_users(kind, known):
    scores = next(KINDS[kind].baselines()).fit(known)(np.array([2]))[0]
    assert scores[0] > scores[1] > scores[2] == 0
    assert scores[3] == 0


def test_als_scores_the_given_users(known):
    score = next(KINDS["ALS"].baselines()).fit(known)
    everyone = score(np.arange(3))
    assert_allclose(score(np.array([1, 0])), everyone[[1, 0]], atol=1e-5)
    assert everyone.shape == (3, 4)
    assert everyone[1, 3] > everyone[2, 3]
