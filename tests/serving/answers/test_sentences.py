"""The sentences of reasons, in the words of one shop."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from serving.answers.sentences import DETAIL, ReasonTexts
from tests.helpers.snapshots import SALES

SLEEVES = [replace(sale, attributes={"colour": "red", "device_size": "13"}) for sale in SALES]
LISTED = [
    replace(SALES[0], attributes=dict.fromkeys(["d", "c", "b", "a"], "x")),
    replace(SALES[1], attributes={"d": "y"}),
]


def texts(sales=SLEEVES, n_visits: int | None = 7, **own: str) -> ReasonTexts:
    return ReasonTexts(SimpleNamespace(sales=sales, manifest=SimpleNamespace(n_visits=n_visits)), own)


def sentence(reason: str, *arguments, **others) -> str:
    return texts(*arguments, **others).reason(reason)[1]


def test_attributes_are_those_of_the_shop():
    assert texts().reason("content_metadata") == ("content_metadata", "Matches your taste in colour and device size")
    assert sentence("taste_metadata", LISTED) == "Matches your taste in d, a and b"  # the most frequent three
    nothing = [replace(sale, attributes={}) for sale in SALES]
    assert sentence("taste_metadata", nothing) == "In your usual price range"


@pytest.mark.parametrize(
    ("reason", "with_visits", "without_visits"),
    [
        ("collaborative_lift", "Like sales you looked at", "Like sales you bought"),
        ("taste_text", "Described like sales you looked at", "Described like sales you bought"),
        ("content_images/pool", "Because you looked at pool", "Like what you bought: pool"),
        ("price_gap", "In the price range you look at", "In your usual price range"),
        ("popularity", "Popular right now", "Popular right now"),
    ],
)
def test_shop_without_visits_speaks_of_what_was_bought(reason, with_visits, without_visits):
    assert sentence(reason) == sentence(reason, n_visits=None) == with_visits
    assert sentence(reason, n_visits=0) == without_visits


def test_shop_may_have_sentences_of_its_own():
    own = {"als": "Für Sie", "content_metadata": "Ihr {attributes}", DETAIL: "Wegen {detail}: 100 % {price}"}
    assert sentence("als", **own) == "Für Sie"
    assert sentence("content_metadata", **own) == "Ihr colour and device size"
    assert sentence("content_images/pool {attributes}", **own) == "Wegen pool {attributes}: 100 % {price}"
    assert sentence("popularity", **own) == "Popular right now"
    assert sentence("moon_phase", **own) == "Chosen for you"
