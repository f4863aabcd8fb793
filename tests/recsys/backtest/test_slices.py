import math

import numpy as np
import pandas as pd
import pytest

from recsys.backtest.slices import SLICE_METRICS, slices
from recsys.instants import HOUR
from recsys.metrics import bootstrap
from recsys.testing.shops import AS_OF, make_shop, sale
from tests.helpers.measured_pages import measured, row

CATALOGUE = make_shop(
    [
        sale("a", opens=0.25, price=10, country="Italy"),  # opens during the day
        sale("b", opens=0, price=20, country="France"),  # opens with it
        sale("c", opens=-1, price=30, country="Italy", category="spa"),
        sale("d", opens=-2.99, price=40),
        sale("e", opens=-7, country="France"),
    ],
    [],
).catalogue
A, B, C, D, E = range(5)


def both(user: str, bought: list[int], one: list[int], other: list[int], events: int, day: int = 0) -> list[dict]:
    return [
        row(policy, user, ranks, bought, day=day, known_events=events)
        for policy, ranks in (("one", one), ("other", other))
    ]


@pytest.fixture(scope="module")
def pages():
    return measured(
        [
            *both("u", [A, C], [1, 11], [2, 3], events=0),
            *both("v", [B], [10], [12], events=5),
            *both("v", [D, E], [4, 30], [40, 2], events=6, day=1),  # a day on: d is open for 3.99 days, e for 8
            *both("w", [C], [11], [1], events=21),
        ]
    )


@pytest.fixture(scope="module")
def found(pages) -> dict:
    return slices(pages, ["one", "other"], CATALOGUE, seed=0)


def shape(rows: list[dict], counted: str = "purchases") -> list[tuple]:
    return [(each["name"], each[counted], *(value["value"] for value in each["policies"].values())) for each in rows]


def test_pages_are_sliced_by_the_known_events_of_the_user(found):
    ideal = 1 + 1 / math.log2(3)
    assert [each["name"] for each in found["history length"]] == ["0", "1 to 5", "6 to 20", "21 to 100"]
    assert [each["pages"] for each in found["history length"]] == [1, 1, 1, 1]
    new, some, *_, much = found["history length"]
    assert new["policies"]["one"]["value"] == pytest.approx(1 / ideal)  # ranks 1 and 11
    assert new["policies"]["other"]["value"] == pytest.approx((1 / math.log2(3) + 1 / 2) / ideal)  # ranks 2 and 3
    assert some["policies"]["one"]["value"] == pytest.approx(1 / math.log2(11))
    assert (much["policies"]["one"]["value"], much["policies"]["other"]["value"]) == (0, 1)


def test_purchases_are_sliced_by_how_long_the_sale_was_open_at_the_nights_instant(found):
    assert shape(found["sale age"]) == [
        ("opens on the day", 1, 1, 1),  # a of u
        ("less than 1 day", 1, 1, 0),  # b of v
        ("1 to 3 days", 2, 0, 1),  # c of u and of w
        ("3 to 7 days", 1, 1, 0),  # d of v
        ("7 days or more", 1, 0, 1),  # e of v
    ]


def test_purchases_are_sliced_by_attributes_most_bought_first(found):
    # France is bought as b and e, Italy as a, c and c; d has no country.
    assert shape(found["country"]) == [("Italy", 3, 1 / 3, 1), ("France", 2, 1 / 2, 1 / 2)]
    assert shape(found["category"]) == [("spa", 2, 0, 1)]


def test_purchases_are_sliced_by_price_quartile_without_those_that_have_no_price(found):
    # Bought at 10, 20, 30, 30 and 40: the ends are 20, 30 and 30, and two that are equal are one.
    assert shape(found["price"]) == [("up to 20", 2, 1, 1 / 2), ("20 to 30", 2, 0, 1), ("more than 30", 1, 1, 0)]


def test_intervals_are_bootstrapped_over_users(found):
    country = bootstrap({"m": np.array([1.0, 0, 0])}, np.array(["u", "u", "w"]))["m"]  # a and c of u, c of w
    assert found["country"][0]["policies"]["one"] == pytest.approx(country._asdict())
    cheap = bootstrap({"m": np.array([1.0, 0])}, np.array(["u", "v"]))["m"]  # a of u, b of v
    assert found["price"][0]["policies"]["other"] == cheap._asdict() == {"value": 1 / 2, "low": 0, "high": 1}


def test_pages_are_sliced_by_the_hour_of_the_first_purchase_where_a_policy_is_live():
    hours = {"u": 5, "v": 6, "w": 23}
    pages = measured(
        [
            row(
                policy,
                user,
                [rank],
                [C],
                first_purchase_at=pd.Timestamp(AS_OF + hours[user] * HOUR, unit="us", tz="UTC"),
            )
            for user in hours
            for policy, rank in (("one", 11), ("live_one", 1))
        ]
    )
    rows = slices(pages, ["one", "live_one"], CATALOGUE, seed=0)["hour of the day"]
    assert shape(rows, "pages") == [(name, 1, 0, 1) for name in ("0 to 6 UTC", "6 to 9 UTC", "21 to 24 UTC")]


def test_every_title_has_its_metric_and_one_without_a_slice_is_left_out(found, pages):
    assert {*found, "hour of the day"} == set(SLICE_METRICS)
    plain = make_shop([sale(each) for each in "abcde"], []).catalogue
    assert set(slices(pages, ["one"], plain, seed=0)) == {"history length", "sale age"}
