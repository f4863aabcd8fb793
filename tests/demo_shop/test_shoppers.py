import numpy as np
import pytest
from numpy.testing import assert_allclose

from demo_shop.shoppers import Session, Shoppers
from demo_shop.truth import true_utilities


@pytest.fixture(scope="module")
def page(shop) -> list[str]:
    return shop.sales["offer_id"].tolist()[:10]


def test_chances_are_the_probabilities_by_the_true_tastes(shop, page):
    users = shop.users["member_id"].tolist()[:50]
    chances = Shoppers(shop.folder, page, seed=1).chances(users)
    assert chances.shape == (50, 10)
    log_odds = np.log(chances / (1 - chances))
    utilities = true_utilities(shop.folder, users, page)
    assert_allclose(log_odds - log_odds.mean(), 0.6 * (utilities - utilities.mean()), atol=1e-4)


def test_shoppers_buy_with_the_given_probabilities_and_read_from_the_top(shop, page):
    shoppers = Shoppers(shop.folder, page, seed=2)
    users = shop.users["member_id"].tolist()
    chances = dict(zip(users, shoppers.chances(users), strict=True))
    looks_at, bought, expected = np.zeros(10), 0, []
    for user in users:
        for look in shoppers.looks(Session(user, 0), page):
            position = page.index(look.sale_id)
            looks_at[position] += 1
            bought += look.bought_at is not None
            expected.append(chances[user][position])
    variance = np.sum(np.array(expected) * (1 - np.array(expected)))
    assert len(expected) > 500
    assert abs(bought - sum(expected)) < 4 * np.sqrt(variance)
    turned = Shoppers(shop.folder, page, seed=2)
    for user in users:  # in reverse order, so that looks depend on positions and not on sales
        for look in turned.looks(Session(user, 0), page[::-1]):
            looks_at[page[::-1].index(look.sale_id)] += 1
    assert looks_at[:3].sum() > 1.5 * looks_at[7:].sum()
