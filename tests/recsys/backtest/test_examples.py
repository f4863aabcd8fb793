from dataclasses import replace

import numpy as np
import pytest

from recsys.backtest.examples import example_pages, examples, named_sales
from recsys.shop.gallery import Gallery
from recsys.testing.shops import HISTORY, instant, make_shop, purchase, sale, visit
from tests.helpers.measured_pages import measured, row

NAMES = "abcdefghijkl"
A, B, C, D = range(4)


@pytest.fixture(scope="module")
def shop():
    sales = [sale(name, title=f"Sale {name}") for name in NAMES]
    sales[A] |= {"price": 9.5, "attributes": [("country", "Italy"), ("category", "spa"), ("region", "Umbria")]}
    events = [visit("u", name, -9 + number / 2) for number, name in enumerate(NAMES)]
    events += [purchase("u", "c", -1), visit("u", "l", -0.5), visit("u", "a", 0.1), visit("v", "b", -200)]
    data = make_shop(sales, [*events, purchase("v", "a", -0.25), purchase("u", "l", -20)])
    none = np.zeros((2, 0), np.float32)
    gallery = Gallery(np.array([0, 2, *[2] * 11]), ["cover.jpg", "other.jpg"], [], none, none)
    return replace(data, catalogue=replace(data.catalogue, gallery=gallery))


def rows(user: str, events: int, day: int = 0) -> list[dict]:
    shown = {"popularity": [A], "collaborative": [B, A], "meta": [C, B]}
    return [row(policy, user, [1], [A, D], day=day, known_events=events, shown=each) for policy, each in shown.items()]


def test_example_holds_what_was_known_what_was_shown_and_what_was_bought(shop):
    pages = measured([*rows("u", 15), *rows("v", 1)])
    found = examples(example_pages(pages, seed=0), pages, shop.block, shop.catalogue, HISTORY)
    assert found == [
        {
            "user_id": "u",
            "as_of": "2026-03-01",
            "events": 15,
            "visited": ["l", "c", "k", "j", "i", "h", "g", "f"],  # c was bought a day ago
            "purchased": ["l", "c"],  # l long ago
            "bought": ["a", "d"],
            "pages": {"collaborative": ["b", "a"], "meta": ["c", "b"]},
        },
        {
            "user_id": "v",
            "as_of": "2026-03-01",
            "events": 1,
            "visited": ["a"],  # b is too long ago
            "purchased": ["a"],
            "bought": ["a", "d"],
            "pages": {"collaborative": ["b", "a"], "meta": ["c", "b"]},
        },
    ]


def test_sales_named_in_examples_are_described_without_what_is_unknown(shop):
    pages = measured(rows("v", 1))
    found = examples(example_pages(pages, seed=0), pages, shop.block, shop.catalogue, HISTORY)
    assert named_sales(found, shop.catalogue) == {
        "a": {"title": "Sale a", "country": "Italy", "category": "spa", "price": 9.5, "cover": "cover.jpg"},
        "b": {"title": "Sale b"},
        "c": {"title": "Sale c"},
        "d": {"title": "Sale d"},  # bought and shown nowhere
    }
    assert named_sales([], shop.catalogue) == {}


def test_seed_samples_ten_users_with_known_events():
    pages = measured(
        [each for number in range(30) for day in (0, 1) for each in rows(f"u{number:02d}", number % 2, day)]
    )
    drawn = [example_pages(pages, seed) for seed in (1, 1, 2)]
    users = [each["user_id"].to_list() for each in drawn]
    assert users[0] == users[1] != users[2]
    assert len(set(users[0])) == len(users[0]) == 10
    assert all(int(user[1:]) % 2 for user in users[0])
    assert set(drawn[0]["as_of"]) == {instant(0), instant(1)}
    assert drawn[0]["as_of"].is_monotonic_increasing
