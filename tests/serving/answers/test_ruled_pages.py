"""The shop's rules on pages of the service; the rules themselves are tested in tests/recsys/rules."""

from recommendations.v1 import recommendations_pb2 as pb

from tests.helpers.asking import answered, shown
from tests.helpers.ruled_pages import ruled

NONE = pb.FALLBACK_LEVEL_NONE


def test_rules_change_the_page_and_are_named(shop, six):
    six = ruled(six, {"kind": "pin", "sale_ids": ["c"], "position": 1}, {"kind": "filter", "match": {"sale_id": "a"}})
    response = answered(six, shop.clock(), "ann", n=3)
    assert shown(response) == ["c", "d", "f"]
    assert [sale.rule for sale in response.sales] == ["pin", "", ""]
    assert list(response.rules) == ["pin", "filter"]
    assert (response.fallback_level, response.policy) == (NONE, "meta")
    assert [sale.HasField("score") for sale in response.sales] == [False, True, False]


def test_rule_of_another_surface_or_audience_or_time_changes_nothing(shop, six):
    pin = {"kind": "pin", "sale_ids": ["c"], "position": 1}
    six = ruled(
        six,
        {**pin, "name": "mail", "surface": "mail"},
        {**pin, "name": "french", "targeting": {"market": "FR"}},
        {**pin, "name": "later", "from": shop.as_of.replace(hour=5)},
    )
    assert shown(answered(six, shop.clock(), "ann", n=2)) == ["d", "a"]
    assert shown(answered(six, shop.clock(), "ann", n=2, surface="mail")) == ["c", "d"]
    assert list(answered(six, shop.clock(), "ann", n=2, surface="mail").rules) == ["mail"]
    assert list(answered(six, shop.clock(), "ann", n=2, attributes={"market": "FR"}).rules) == ["french"]
    shop.clock.set(5)
    assert list(answered(six, shop.clock(), "ann", n=2).rules) == ["later"]


def test_attribute_that_nothing_asks_for_is_noted_where_a_page_is_explained(shop, six):
    six = ruled(six, {"kind": "filter", "match": {"sale_id": "f"}, "targeting": {"$not": {"channel": "mail"}}})
    asked = {"channel": "app", "chanel": "mail", "weather": "rain"}
    assert list(answered(six, shop.clock(), "ann", n=2, attributes=asked, explain=True).notes)[-2:] == [
        "No segment, rule or experiment asks for attribute 'chanel'; did you mean 'channel'?",
        "No segment, rule or experiment asks for attribute 'weather'.",
    ]
    assert list(answered(six, shop.clock(), "ann", n=2, attributes=asked).notes) == []


def test_rule_cannot_show_a_closed_or_denied_sale_and_says_so(shop, six):
    six = ruled(six, {"kind": "pin", "sale_ids": ["b", "c"], "position": 1})
    response = answered(six, shop.clock(), "ann", n=3)
    assert shown(response) == ["c", "d", "a"]
    assert any("'b'" in note for note in response.notes)
    assert shown(answered(six, shop.clock(), "ann", n=3, denied=["c"])) == ["d", "a", "f"]
    assert shown(answered(six, shop.clock(), "ann", n=3, allowed=["a", "b"])) == ["a"]


def test_rule_that_empties_a_page_is_named(shop, six):
    six = ruled(six, {"kind": "filter", "match": {"sale_id": {"$exists": True}}})
    response = answered(six, shop.clock(), "ann", n=3)
    assert shown(response) == []
    assert response.shortfall_reason == "Only 4 sales are open; the request's lists and the shop's rules leave 0."
    assert list(response.notes) == ["Rule 'filter' hides 4 sales: the page fills 0 of 3 positions."]


def test_boost_reaches_sales_below_the_page(shop, six):
    six = ruled(six, {"kind": "boost", "match": {"sale_id": "c"}, "places": 3})
    response = answered(six, shop.clock(), "ann", n=1)
    assert shown(response) == ["c"]
    assert (response.sales[0].rule, response.shortfall_reason) == ("boost", "")
