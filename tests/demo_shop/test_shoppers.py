import numpy as np
import pytest
from numpy.testing import assert_allclose

from demo_shop.shoppers import Session, Shoppers
from demo_shop.truth import true_utilities


@pytest.fixture(scope="module")
def page(shop) -> list[str]:
    return shop.sales["offer_id"].tolist()[:10]


def test_chances_are_the_odds_of_the_true_taste(shop, page):
    users = shop.users["member_id"].tolist()[:50]
    chances = Shoppers(shop.folder, page, seed=1).chances(users)
    assert chances.shape == (50, 10)
    log_odds = np.log(chances / (1 - chances))
    utilities = true_utilities(shop.folder, users, page)
    assert_allclose(log_odds - log_odds.mean(), 0.6 * (utilities - utilities.mean()), atol=1e-4)


def test_shoppers_buy_what_they_look_at_as_often_as_their_chances_say_and_read_from_the_top(shop, page):
    shoppers = Shoppers(shop.folder, page, seed=2)
    users = shop.users["member_id"].tolist()
    chances = dict(zip(users, shoppers.chances(users), strict=True))
    at_place, bought, expected = np.zeros(10), 0, []
    for user in users:
        for look in shoppers.looks(Session(user, 0), page):
            place = page.index(look.sale_id)
            at_place[place] += 1
            bought += look.bought_at is not None
            expected.append(chances[user][place])
    variance = np.sum(np.array(expected) * (1 - np.array(expected)))
    assert len(expected) > 500
    assert abs(bought - sum(expected)) < 4 * np.sqrt(variance)
    turned = Shoppers(shop.folder, page, seed=2)
    for user in users:  # the same sales, the other way round: what a place gets is not what its sale deserves
        for look in turned.looks(Session(user, 0), page[::-1]):
            at_place[page[::-1].index(look.sale_id)] += 1
    assert at_place[:3].sum() > 1.5 * at_place[7:].sum()
