from math import log

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from recsys.instants import DAY, from_micros
from recsys.recommenders.content import MetadataSettings, content_metadata
from recsys.recommenders.popularity import Popularity, PopularitySettings, decayed_days_open
from recsys.testing.shops import AS_OF, ShopData, make_shop, purchase, random_shop, sale, visit


def scores(shop: ShopData, **settings: float) -> np.ndarray:
    metadata = content_metadata(MetadataSettings(), shop.catalogue)
    popularity = Popularity(PopularitySettings(**settings), shop.catalogue, metadata)
    model = popularity.fit(popularity.count(shop.histories(), shop.horizon()), shop.horizon())
    return model.score(shop.histories())


def test_days_open_before_as_of_are_the_integral_of_the_decay() -> None:
    catalogue = make_shop(
        [
            sale("a", -4, 3),  # open for 4 days until now
            sale("b", -4, -2),  # open from 4 to 2 days ago
            sale("c", -4000, 1),  # open since long ago: 2 / ln 2 days in total
            sale("d", 0, 1),  # opens now
            sale("e", 1, 2),
        ],
        [],
    ).catalogue
    expected = [2 / log(2) * (1 - 1 / 4), 2 / log(2) * (1 / 2 - 1 / 4), 2 / log(2), 0, 0]
    assert_allclose(decayed_days_open(catalogue, AS_OF, half_life_days=2), expected, rtol=1e-9)


def test_days_open_agree_with_a_sum_over_minutes() -> None:
    catalogue = make_shop([sale("a", -7.3, -1.2)], []).catalogue
    ages = np.arange(1.2, 7.3, 1 / 1440) + 1 / 2880
    assert_allclose(decayed_days_open(catalogue, AS_OF, 2.5), [np.sum(2 ** (-ages / 2.5)) / 1440], rtol=1e-3)


def test_rate_is_shrunk_towards_that_of_its_attributes() -> None:
    shop = make_shop(
        [
            sale("a", -2, 1, country="FR"),
            sale("b", -2, 1),  # without attributes the shop's rate is expected
            sale("c", 0.1, 2, country="FR"),  # opens tomorrow
            sale("d", -4, -2, country="IT", category="spa"),  # closed
            sale("e", 0.2, 2, country="IT", category="ski"),  # ski is not known yet
        ],
        [
            visit("u", "a", -1.7),
            purchase("u", "a", -2),  # counts for the day: the visit, later, does not
            visit("v", "a", -4),
            visit("x", "a", -2),
            visit("x", "a", -0.9),  # on the next day
            visit("v", "b", -2),
            visit("w", "d", -4),
        ],
    )
    # v's visit of a, 4 days ago, was before a opened; the visit of d, the instant that it opened, is counted.
    day = 2 / log(2)  # the maximum of decayed days open, with a half-life of 2 days
    days = {"a": day * (1 - 1 / 2), "b": day * (1 - 1 / 2), "d": day * (1 / 2 - 1 / 4)}
    events = {"a": 5 * 1 / 2 + 1 / 2 + 2 ** (-0.9 / 2), "b": 1 / 2, "d": 1 / 4}
    rate = sum(events.values()) / (sum(days.values()) + 0.5)
    fr = (events["a"] + 0.5 * rate) / (days["a"] + 0.5)
    it = (events["d"] + 0.5 * rate) / (days["d"] + 0.5)
    ski = (0 + 0.5 * rate) / (0 + 0.5)
    expected = [
        (events["a"] + 0.5 * fr) / (days["a"] + 0.5) / rate,
        (events["b"] + 0.5 * rate) / (days["b"] + 0.5) / rate,
        fr / rate,
        (it * ski) ** (1 / 2) / rate,
    ]
    found = scores(shop, half_life_days=2, purchase_weight=5, prior_days=0.5)
    assert_allclose(found, [expected] * len(found), rtol=1e-5)


def test_sale_that_opens_tomorrow_in_a_popular_country_beats_one_in_another() -> None:
    shop = make_shop(
        [
            sale("a", country="FR"),
            sale("b", country="IT"),
            sale("c", 0.5, 2, country="IT"),
            sale("d", 0.5, 2, country="FR"),
        ],
        [visit(f"u{number}", "a", -0.5) for number in range(9)] + [visit("u0", "b", -0.5)],
    )
    a, b, c, d = scores(shop)[0]
    assert a > d > 1 > c > b


def test_one_user_id_with_many_events_of_a_day_counts_once() -> None:
    sales = [sale("a", -3, 1), sale("b", -3, 1)]
    people = [visit(f"u{number}", "b", -0.5) for number in range(6)]
    a, b = scores(make_shop(sales, [*people, *[purchase("null", "a", -0.5) for _ in range(1000)]]))[0]
    once = scores(make_shop(sales, [*people, purchase("null", "a", -0.5)]))[0]
    assert (a, b) == (once[0], once[1])
    assert a < b  # five visits' worth against six


def test_reopened_sale_has_the_rate_of_its_present_window() -> None:
    before = [visit(f"u{number}", "a", -3) for number in range(50)]  # in the window before
    visits = [visit("u1", "a", -0.1), visit("u1", "b", -0.1)]
    a, b = scores(make_shop([sale("a", -0.2, 1), sale("b", -0.2, 1)], [*before, *visits]))[0]
    assert a == b


def test_without_events_only_the_days_open_count() -> None:
    shop = make_shop([sale("a", -0.5, 1), sale("b", -0.5, 1), sale("c", 0.5, 1)], [], users=["u"])
    a, b, c = scores(shop)[0]
    assert a == b
    assert 0 < a < c == 1  # a was open without events; c has no days open, so it has the prior rate


@given(st.integers(0, 10_000))
def test_scores_agree_with_loops_over_sales_and_features(seed: int) -> None:
    shop = random_shop(seed, n_users=8, n_sales=9, n_events=80)
    catalogue, histories = shop.catalogue, shop.histories()
    counted: dict[tuple, tuple] = {}
    for user, position, *event in zip(
        histories.user_of_event(), histories.sales, histories.purchases, histories.occurred_at, strict=True
    ):
        occurred_at = event[1]
        if catalogue.opens_at[position] <= occurred_at < catalogue.closes_at[position]:
            day = (user, position, from_micros(occurred_at).date())
            counted[day] = max(counted.get(day, ()), tuple(event))
    events, days = np.zeros(9), np.zeros(9)
    for (_, position, _), (is_purchase, occurred_at) in counted.items():
        events[position] += (5 if is_purchase else 1) * 2 ** (-(AS_OF - occurred_at) / DAY / 2)
    for number in range(9):
        since_opening = max(0, AS_OF - catalogue.opens_at[number]) / DAY
        since_closing = max(0, AS_OF - catalogue.closes_at[number]) / DAY
        days[number] = 2 / log(2) * (2 ** (-since_closing / 2) - 2 ** (-since_opening / 2))
    rate = (events.sum() + 1e-9) / (days.sum() + 0.5)
    has = content_metadata(MetadataSettings(), catalogue).features.counts.toarray() > 0
    expected = []
    for number in shop.horizon().sales:
        rates = [
            (events[has[:, feature]].sum() + 0.5 * rate) / (days[has[:, feature]].sum() + 0.5)
            for feature in np.flatnonzero(has[number])
        ]
        usual = np.exp(np.mean(np.log(rates))) if rates else rate
        expected.append((events[number] + 0.5 * usual) / (days[number] + 0.5) / rate)
    assert_allclose(scores(shop, half_life_days=2, purchase_weight=5, prior_days=0.5)[0], expected, rtol=1e-4)
