import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from benchmarks.sasrec import SasRec, SasRecs, chunks, last_vectors, padded
from recsys.instants import DAY
from recsys.shop.histories import Histories

SETTINGS = {"length": 4, "dropout": 0.0, "epochs": 25}


def histories(users: list[list[int]], n_sales: int, as_of: int = 100 * DAY) -> Histories:
    """Return histories of users who bought these sales, in order."""
    offsets = np.concatenate(([0], np.cumsum([len(user) for user in users])))
    sales = np.array([sale for user in users for sale in user], np.int32)
    return Histories(as_of, n_sales, offsets, sales, np.ones(len(sales), bool), np.full(len(sales), as_of - DAY))


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_each_event_but_a_users_first_is_a_target_once():
    sequences, lengths = chunks(histories([[1, 2, 3, 4, 5, 6], [7], [], [8, 9]], n_sales=10), length=3)
    assert_array_equal(sequences, [[3, 4, 5, 6], [1, 2, 3, 0], [8, 9, 0, 0]])
    assert_array_equal(lengths, [4, 3, 2])


def test_the_vector_of_an_event_depends_on_earlier_events_only():
    model = SasRec(9, 4, dropout=0.0).eval()
    with torch.no_grad():
        short, long = (model(torch.from_numpy(padded([np.array(sales)], 4))) for sales in ([3, 5], [3, 5, 7, 1]))
        other = model(torch.from_numpy(padded([np.array([4, 5])], 4)))
    assert torch.allclose(short[:, :2], long[:, :2], atol=1e-6)
    assert not torch.allclose(short[:, 1], other[:, 1], atol=1e-3)


def test_a_user_is_described_by_their_latest_events():
    model = SasRec(9, 2, dropout=0.0)
    vectors = last_vectors(model, histories([[8, 1, 2], [1, 2], [1]], n_sales=9), length=2)
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)
    assert np.abs(vectors[1] - vectors[2]).max() > 1e-3


def test_what_followed_a_sale_is_ranked_first_after_it_and_a_sale_without_events_last():
    known = histories([[0, 1]] * 20 + [[2, 3]] * 20 + [[0], [2], []], n_sales=5)
    scores = SasRecs().fit(known, SETTINGS)(np.array([40, 41, 42]))
    assert_array_equal(scores[:2].argmax(axis=1), [1, 3])
    assert_array_equal(scores.argmin(axis=1), [4, 4, 4])
    assert_array_equal(scores[2, :4], np.zeros(4))  # no order but that of ties


def test_a_model_is_trained_further_for_a_later_day_and_anew_for_an_earlier_one():
    users = [[0, 1]] * 20 + [[0]]
    models, first, later = SasRecs(), histories(users, 3), histories(users, 3, as_of=101 * DAY)
    anew = models.fit(first, SETTINGS)(np.arange(21))
    model = models.models[tuple(SETTINGS.items())][1]
    models.fit(later, SETTINGS)
    assert models.models[tuple(SETTINGS.items())][1] is model
    assert_array_equal(models.fit(first, SETTINGS)(np.arange(21)), anew)
    assert models.models[tuple(SETTINGS.items())][1] is not model
