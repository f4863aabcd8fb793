from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from recsys.instants import DAY
from recsys.recommenders.context import ContextSettings, context_features
from recsys.shop.histories import Histories
from recsys.testing.shops import AS_OF, ShopData, make_shop, purchase, random_shop, sale, visit

SALES = [sale("a", -3, 1, price=10), sale("b", -9, -2, price=80), sale("c", 0.5, 2), sale("d", -1, 4, price=20)]


def feature(shop: ShopData, name: str, histories: Histories | None = None, **settings: float) -> np.ndarray:
    features = context_features(ContextSettings(**settings), shop.catalogue)
    context = next(each for each in features if each.name == name)
    return context.fit({}, shop.horizon()).score(shop.histories() if histories is None else histories)


def test_own_visits_are_summed_without_purchases_and_closed_sales() -> None:
    shop = make_shop(
        SALES,
        [
            visit("u", "a", -3),
            visit("u", "a", -1),
            purchase("u", "a", -1),
            visit("u", "b", -4),  # not in the horizon
            visit("w", "d", -2),
        ],
        users=["v"],
    )
    own_visits = feature(shop, "own_visits", own_half_life_days=1)
    assert_allclose(own_visits, [[1 / 8 + 1 / 2, 0, 0], [0, 0, 0], [0, 0, 1 / 4]], rtol=1e-6)


def test_own_purchases_are_summed_without_visits_by_a_half_life_of_their_own() -> None:
    shop = make_shop(
        SALES, [visit("u", "a", -1), purchase("u", "a", -2), purchase("w", "d", -4), purchase("w", "b", -4)]
    )
    own_purchases = feature(shop, "own_purchases", own_half_life_days=1, repeat_half_life_days=2)
    assert_allclose(own_purchases, [[1 / 2, 0, 0], [0, 0, 1 / 4]], rtol=1e-6)


def test_price_gap_is_the_distance_to_the_decayed_geometric_mean() -> None:
    shop = make_shop(
        SALES,
        [
            visit("u", "a", -2),  # 10, weighs 1/4
            purchase("u", "b", -1),  # 80, weighs 1/2: a purchase as a visit
            visit("u", "c", -1),  # price unknown: does not count
            visit("v", "c", -1),  # only unknown prices
        ],
    )
    usual = (1 / 4 * log(10) + 1 / 2 * log(80)) / (1 / 4 + 1 / 2)  # log 40
    assert usual == pytest.approx(log(40))
    expected = [[log(40 / 10), 0, log(40 / 20)], [0, 0, 0]]
    assert_allclose(feature(shop, "price_gap", price_half_life_days=1), expected, rtol=1e-5)


def test_unknown_user_has_a_price_gap_of_0() -> None:
    shop = make_shop(SALES, [visit("u", "a", -2)])
    nobody = Histories.of_unknown_user(AS_OF, len(shop.catalogue))
    assert feature(shop, "price_gap", nobody).tolist() == [[0, 0, 0]]


def test_price_of_0_has_a_gap_of_0() -> None:
    shop = make_shop([sale("a", price=0), sale("b", price=5)], [visit("u", "a", -1), visit("v", "b", -1)])
    assert feature(shop, "price_gap").tolist() == [[0, 0], [0, 0]]


def test_hours_open_are_0_until_a_sale_opens() -> None:
    shop = make_shop(SALES, [visit("u", "a", -2), visit("v", "a", -1)])
    assert_allclose(feature(shop, "hours_open"), [[log(1 + 72), 0, log(1 + 24)]] * 2, rtol=1e-6)


def test_hours_left_are_counted_from_as_of() -> None:
    shop = make_shop(SALES, [visit("u", "a", -2), visit("v", "a", -1)])
    assert_allclose(feature(shop, "hours_left"), [[log(1 + 24), log(1 + 48), log(1 + 96)]] * 2, rtol=1e-6)


def test_activity_is_one_number_per_user() -> None:
    shop = make_shop(SALES, [visit("u", "a", -2), visit("u", "a", -2), purchase("u", "b", -1)], users=["v"])
    assert_allclose(feature(shop, "activity"), [[log(1 + 3)] * 3, [0] * 3], rtol=1e-6)


@given(st.integers(0, 10_000))
def test_features_of_user_and_sale_agree_with_loops_over_events(seed: int) -> None:
    shop = random_shop(seed, n_users=6, n_sales=8, n_events=60)
    histories, horizon = shop.histories(), shop.horizon()
    shape = (len(histories), len(horizon))
    visits, purchases, gaps = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for user in range(shape[0]):
        events = range(histories.offsets[user], histories.offsets[user + 1])
        ages = {event: (AS_OF - histories.occurred_at[event]) / DAY for event in events}
        prices = {event: shop.catalogue.prices[histories.sales[event]] for event in events}
        priced = [event for event in events if not np.isnan(prices[event])]
        for column, target in enumerate(horizon.sales):
            own = [event for event in events if histories.sales[event] == target]
            visits[user, column] = sum(2 ** (-ages[event] / 3) for event in own if not histories.purchases[event])
            purchases[user, column] = sum(2 ** (-ages[event] / 30) for event in own if histories.purchases[event])
            price = shop.catalogue.prices[target]
            if priced and not np.isnan(price):
                weights = [2 ** (-ages[event] / 30) for event in priced]
                usual = np.average([log(prices[event]) for event in priced], weights=weights)
                gaps[user, column] = abs(log(price) - usual)
    assert_allclose(feature(shop, "own_visits"), visits, rtol=1e-4, atol=1e-7)
    assert_allclose(feature(shop, "own_purchases"), purchases, rtol=1e-4, atol=1e-7)
    assert_allclose(feature(shop, "price_gap"), gaps, atol=1e-4)
