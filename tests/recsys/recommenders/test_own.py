from math import log

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from recsys.instants import DAY
from recsys.recommenders.own import bought_before, write_own_habit, write_own_recency
from recsys.shop.catalogue import Horizon
from recsys.shop.histories import Histories, HistorySettings
from recsys.testing.shops import AS_OF, make_shop, purchase, random_shop, sale, visit
from tests.helpers.shops import history_of

SALES = [sale("a", -30, 1), sale("b", -30, -2), sale("c", 0.5, 2), sale("d", -30, 4)]  # b is not in the horizon


def own_recency(histories: Histories, horizon: Horizon) -> NDArray[np.float32]:
    features = np.full((len(histories), 2, len(horizon)), np.nan, np.float32)
    write_own_recency(histories, horizon, features, 1)
    return features[:, 1]


def own_habit(histories: Histories, horizon: Horizon, fade: float) -> NDArray[np.float32]:
    features = np.full((len(histories), 2, len(horizon)), np.nan, np.float32)
    write_own_habit(histories, horizon, fade, features, 1)
    return features[:, 1]


def test_recency_is_that_of_the_last_purchase_of_the_sale() -> None:
    shop = make_shop(
        SALES,
        [
            purchase("u", "a", -9),
            purchase("u", "a", -3),
            visit("u", "a", -1),  # not a purchase
            purchase("u", "b", -1),
            purchase("v", "d", -0.5),
        ],
        users=["w"],
    )
    expected = [[log(366 / 4), 0, 0], [0, 0, log(366 / 1.5)], [0, 0, 0]]
    assert_allclose(own_recency(shop.histories(), shop.horizon()), expected, rtol=1e-6)


def test_purchase_of_more_than_a_year_ago_has_recency_0() -> None:
    shop = make_shop([sale("a", -500, 1), sale("c", -500, 2)], [purchase("u", "a", -400), purchase("u", "c", -364)])
    histories = shop.block.as_of(AS_OF, HistorySettings(days=450))
    assert_allclose(own_recency(histories, shop.horizon()), [[0, log(366 / 365)]], rtol=1e-5, atol=1e-7)


def test_habit_is_the_weighted_number_of_purchase_days_with_the_sale() -> None:
    shop = make_shop(
        SALES,
        [
            purchase("u", "a", -20.9),  # two purchase days before the last one
            purchase("u", "a", -20.8),  # the same day: counts once
            purchase("u", "d", -20.7),
            purchase("u", "b", -10),  # a purchase day, with a sale that is not ranked
            visit("u", "a", -5),  # no purchase day
            purchase("u", "a", -2),
            purchase("v", "d", -25),  # the last purchase day of another user
        ],
        users=["w"],
    )
    expected = [[1 + 0.5**2, 0, 0.5**2], [0, 0, 1], [0, 0, 0]]
    assert_allclose(own_habit(shop.histories(), shop.horizon(), fade=0.5), expected, rtol=1e-6)


@given(st.integers(0, 10_000))
def test_features_of_own_purchases_agree_with_loops_over_events(seed: int) -> None:
    shop = random_shop(seed, n_users=6, n_sales=8, n_events=80)
    histories, horizon = shop.histories(), shop.horizon()
    shape = (len(histories), len(horizon))
    recency, habit, again = np.zeros(shape), np.zeros(shape), np.zeros(shape, bool)
    for user in range(shape[0]):
        events = range(histories.offsets[user], histories.offsets[user + 1])
        bought = [(histories.sales[each], histories.occurred_at[each]) for each in events if histories.purchases[each]]
        days = sorted({moment // DAY for _, moment in bought}, reverse=True)
        for column, target in enumerate(horizon.sales):
            moments = [moment for each, moment in bought if each == target]
            if moments:
                again[user, column] = True
                recency[user, column] = log(366) - log(1 + (AS_OF - max(moments)) / DAY)
                habit[user, column] = sum(0.8 ** days.index(day) for day in {moment // DAY for moment in moments})
    assert_allclose(own_recency(histories, horizon), recency, rtol=1e-4, atol=1e-6)
    assert_allclose(own_habit(histories, horizon, 0.8), habit, rtol=1e-4, atol=1e-6)
    found = np.zeros(shape, bool)
    found[bought_before(histories, horizon)] = True
    assert_array_equal(found, again)


def test_features_of_a_user_are_the_same_alone_and_in_a_block() -> None:
    shop = random_shop(3, n_users=7, n_sales=9, n_events=120)
    histories, horizon = shop.histories(), shop.horizon()
    for user in range(7):
        alone = history_of(shop, user)
        assert_array_equal(own_recency(alone, horizon)[0], own_recency(histories, horizon)[user])
        assert_array_equal(own_habit(alone, horizon, 0.8)[0], own_habit(histories, horizon, 0.8)[user])
        users, columns = bought_before(histories, horizon)
        assert_array_equal(np.unique(bought_before(alone, horizon)[1]), np.unique(columns[users == user]))


def test_purchases_of_the_running_session_are_left_out() -> None:
    shop = make_shop(SALES, [purchase("u", "a", -3), purchase("u", "d", -1)])
    known, horizon = history_of(shop, 0), shop.horizon()
    session = known.with_session(np.array([3, 0], np.int32), np.array([True, True]))
    assert_array_equal(own_recency(session, horizon), own_recency(known, horizon))
    assert_array_equal(own_habit(session, horizon, 0.8), own_habit(known, horizon, 0.8))
    assert_array_equal(bought_before(session, horizon), bought_before(known, horizon))


def test_unknown_user_has_no_purchases() -> None:
    shop = make_shop(SALES, [visit("u", "a", -2)])
    nobody, horizon = Histories.of_unknown_user(AS_OF, len(shop.catalogue)), shop.horizon()
    assert_array_equal(own_recency(nobody, horizon), np.zeros((1, 3)))
    assert_array_equal(own_habit(nobody, horizon, 0.8), np.zeros((1, 3)))
    assert [len(each) for each in bought_before(nobody, horizon)] == [0, 0]
