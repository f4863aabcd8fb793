"""Each kind of rule, by examples computed by hand."""

from datetime import UTC, datetime, timedelta

import pytest

from recsys.instants import to_micros
from recsys.rules import PageRules
from tests.helpers.ruled_pages import NOW, arranged, rule_set, sale, shown

ITALY = {"country": "Italy"}
SPAIN = {"country": "Spain"}


def test_without_rules_a_page_is_the_start_of_the_ranking():
    page = arranged("i1 s2 f3", n=2)
    assert (page.sales, page.rules, page.applied, page.notes) == ([0, 1], [None, None], [], [])


def test_filter_hides_what_matches():
    ranked = "i1 s2 i3 f4 s5"
    page = arranged(ranked, {"kind": "filter", "match": ITALY}, n=3)
    assert shown(page, ranked) == "s2 f4 s5"
    assert (page.rules, page.applied, page.notes) == ([None] * 3, ["filter"], [])


def test_filter_that_hides_no_sale_of_the_page_is_not_applied():
    assert arranged("s1 f2 i3 s4", {"kind": "filter", "match": ITALY}, n=2).applied == []


def test_filters_that_leave_positions_empty_are_noted():
    ranked = "i1 s2 i3 f4 x5"
    rules = [{"kind": "filter", "match": ITALY}, {"kind": "filter", "name": "no_spain", "match": SPAIN}]
    page = arranged(ranked, *rules, n=4)
    assert shown(page, ranked) == "f4 x5"
    assert page.notes == [
        "Rule 'filter' hides 2 sales: the page fills 2 of 4 positions.",
        "Rule 'no_spain' hides 1 sale: the page fills 2 of 4 positions.",
    ]


def test_filter_that_empties_a_page_is_noted():
    page = arranged("i1 i2", {"kind": "filter", "match": ITALY})
    assert page.sales == []
    assert page.notes == ["Rule 'filter' hides 2 sales: the page fills 0 of 10 positions."]


def test_boost_moves_matching_sales_up_in_their_order():
    ranked = "s1 f2 f3 i4 i5 f6 i7"
    page = arranged(ranked, {"kind": "boost", "match": ITALY, "places": 2})
    assert shown(page, ranked) == "s1 i4 i5 f2 i7 f3 f6"
    assert page.rules == [None, "boost", "boost", None, "boost", None, None]
    assert page.applied == ["boost"]


def test_boost_never_moves_a_matching_sale_past_another():
    ranked = "i1 i2 s3 i4"
    page = arranged(ranked, {"kind": "boost", "match": ITALY, "places": 9})
    assert shown(page, ranked) == "i1 i2 i4 s3"
    assert page.rules == [None, None, "boost", None]


def test_boosts_add_up_in_the_order_of_the_file():
    ranked = "f1 f2 f3 f4 i5"
    twice = [{"kind": "boost", "name": name, "match": ITALY, "places": 1} for name in ("first", "second")]
    page = arranged(ranked, *twice)
    assert shown(page, ranked) == "f1 f2 i5 f3 f4"
    assert (page.rules[2], page.applied) == ("second", ["first", "second"])


def test_bury_moves_matching_sales_behind_all_others_even_boosted_ones():
    ranked = "i1 s2 i3 f4"
    bury = {"kind": "bury", "match": ITALY}
    page = arranged(ranked, bury, {"kind": "boost", "match": ITALY, "places": 5})
    assert shown(page, ranked) == "s2 f4 i1 i3"
    assert page.rules == [None, None, "bury", "bury"]
    assert arranged("s1 f2 i3", bury).applied == []


def test_pin_puts_sales_at_successive_positions():
    ranked = "i1 s2 f3 i4 s5"
    page = arranged(ranked, {"kind": "pin", "sale_ids": ["s5", "i1"], "position": 2}, n=4)
    assert shown(page, ranked) == "s2 s5 i1 f3"
    assert page.rules == [None, "pin", "pin", None]
    assert (page.applied, page.notes) == (["pin"], [])


def test_sale_without_a_rank_can_be_pinned():
    page = arranged("i1 i2", {"kind": "pin", "sale_ids": ["f9"], "position": 1}, n=2, unranked="f9")
    assert shown(page, "i1 i2", "f9") == "f9 i1"


def test_closed_or_unknown_pinned_sale_is_skipped_and_the_next_moves_up():
    page = arranged("i1 s2", {"kind": "pin", "sale_ids": ["x7", "x8", "s2"], "position": 1}, closed="x7")
    assert shown(page, "i1 s2", "x7") == "s2 i1"
    assert page.notes == [
        "Rule 'pin' does not pin sale 'x7': it is not open.",
        "Rule 'pin' does not pin sale 'x8': it is not in the snapshot.",
    ]


def test_at_most_passes_over_sales_above_the_limit():
    ranked = "i1 i2 i3 s4 f5 i6"
    page = arranged(ranked, {"kind": "quota", "match": ITALY, "at_most": 2}, n=4)
    assert shown(page, ranked) == "i1 i2 s4 f5"
    assert page.rules == [None, None, "quota", "quota"]  # both are preferred to i3, which ranks higher
    assert (page.applied, page.notes) == (["quota"], [])


def test_at_least_takes_the_last_positions_if_necessary():
    ranked = "s1 s2 s3 s4 i5 f6 i7"
    page = arranged(ranked, {"kind": "quota", "match": ITALY, "at_least": 2}, n=4)
    assert shown(page, ranked) == "s1 s2 i5 i7"
    assert page.rules == [None, None, "quota", "quota"]
    assert page.notes == []


def test_at_least_that_the_ranking_meets_changes_nothing():
    assert arranged("i1 s2 i3 s4", {"kind": "quota", "match": ITALY, "at_least": 2}, n=3).applied == []


def test_at_least_that_cannot_be_met_is_met_in_part_and_noted():
    ranked = "s1 s2 s3 i4"
    page = arranged(ranked, {"kind": "quota", "match": ITALY, "at_least": 2}, n=3)
    assert shown(page, ranked) == "s1 s2 i4"
    assert page.notes == ["Rule 'quota' is not met: the number of matching sales is 1, must be at least 2."]
    assert arranged("s1", {"kind": "quota", "match": ITALY, "at_least": 1}).notes == [
        "Rule 'quota' is not met: the number of matching sales is 0, must be at least 1."
    ]


def test_quota_by_attribute_applies_to_each_value_present():
    ranked = "s1 s2 s3 x4 f5 i6"
    page = arranged(ranked, {"kind": "quota", "by": "country", "at_least": 1, "at_most": 2}, n=4)
    assert shown(page, ranked) == "s1 s2 f5 i6"  # x4 has no country: it is not limited, and does not count
    assert page.notes == []


def test_diversity_applies_to_the_whole_page_and_not_to_sales_without_a_value():
    ranked = "i1 i2 x3 x4 i5 s6 x7 f8"
    page = arranged(ranked, {"kind": "diversity", "by": "country", "at_most": 1}, n=6)
    assert shown(page, ranked) == "i1 x3 x4 s6 x7 f8"


def test_diversity_is_relaxed_rather_than_leave_a_position_empty():
    ranked = "i1 i2 s3 i4"
    page = arranged(ranked, {"kind": "diversity", "by": "country", "at_most": 1})
    assert shown(page, ranked) == "i1 s3 i2 i4"
    assert page.notes == [
        "Rule 'diversity' is not met: the number of sales of country 'Italy' is 3, must be at most 1."
    ]


def test_at_most_in_a_row_puts_the_next_best_sale_between():
    ranked = "i1 i2 i3 i4 s5 f6 i7"
    page = arranged(ranked, {"kind": "diversity", "by": "country", "at_most_in_a_row": 2})
    assert shown(page, ranked) == "i1 i2 s5 i3 i4 f6 i7"
    assert page.rules == [None, None, "diversity", None, None, None, None]


def test_at_most_in_a_row_that_cannot_be_met_is_noted():
    page = arranged("i1 i2 i3 s4", {"kind": "diversity", "by": "country", "at_most_in_a_row": 1})
    assert page.sales == [0, 3, 1, 2]
    assert page.notes == [
        "Rule 'diversity' is not met: the number of sales of country 'Italy' in a row is 2, must be at most 1."
    ]


def test_diversity_may_be_by_theme():
    ranked = [sale("i1", theme="pool"), sale("s2", theme="pool"), sale("f3", theme="snow"), sale("x4")]
    page = arranged(ranked, {"kind": "diversity", "by": "theme", "at_most": 1}, n=3)
    assert page.sales == [0, 2, 3]


@pytest.mark.parametrize(
    ("share", "positions"),
    [(0.3, [2, 5, 9]), (0.1, [5]), (0.25, [2, 6, 10]), (1.0, list(range(1, 11))), (0.04, [])],
)
def test_new_sales_are_spread_over_the_page(share, positions):
    ranked = [*(sale(f"x{i}") for i in range(10)), *(sale(f"x{i}", hours_open=1) for i in range(10, 21))]
    page = arranged(ranked, {"kind": "new_sales", "share": share})
    assert [position for position, index in enumerate(page.sales, start=1) if index >= 10] == positions
    assert page.rules == ["new_sales" if position in positions else None for position in range(1, 11)]


def test_sale_is_new_since_midnight_utc_or_for_given_hours_inclusive():
    ages = [10.01, 10, 3.01, 3]  # hours before ten o'clock
    ranked = [sale("x0"), *(sale(f"x{i}", hours_open=age) for i, age in enumerate(ages, start=1))]
    assert arranged(ranked, {"kind": "new_sales", "share": 1.0}, n=1).sales == [2]
    assert arranged(ranked, {"kind": "new_sales", "share": 1.0, "hours": 3}, n=1).sales == [4]


def test_too_few_new_sales_are_noted():
    ranked = [sale("x0"), sale("x1"), sale("x2"), sale("x3", hours_open=2)]
    page = arranged(ranked, {"kind": "new_sales", "share": 0.5})
    assert page.sales == [3, 0, 1, 2]
    assert page.notes == ["Rule 'new_sales' is not met: the number of new sales is 1, must be at least 2."]


def test_rule_applies_to_its_surface_only():
    rule = {"kind": "filter", "match": ITALY, "surface": "home"}
    assert arranged("i1 s2", rule, surface="home").sales == [1]
    assert arranged("i1 s2", rule, surface="basket").sales == [0, 1]
    other = {"kind": "filter", "name": "other", "match": SPAIN, "surface": "basket"}
    assert arranged("i1 s2", rule, other, surface="basket").sales == [0]


def test_rule_applies_to_targeted_requests_only():
    rule = {"kind": "filter", "match": ITALY, "targeting": {"market": "France"}}
    assert arranged("i1 s2", rule, attributes={"market": "France"}).sales == [1]
    assert arranged("i1 s2", rule, attributes={"market": "Spain"}).sales == arranged("i1 s2", rule).sales == [0, 1]


def test_rule_applies_from_its_start_to_its_end_exclusive():
    start, end = datetime(2026, 3, 5, tzinfo=UTC), datetime(2026, 3, 6, tzinfo=UTC)
    rule = {"kind": "filter", "match": ITALY, "from": start, "until": end, "surface": "home"}
    rules = PageRules(rule_set(rule), [sale("i1"), sale("s2")])
    second = timedelta(seconds=1)
    for now, holds in [(start - second, False), (start, True), (end - second, True), (end, False)]:
        assert rules.is_active("home", to_micros(now)) is holds
        assert not rules.is_active("basket", to_micros(now))
        assert rules.arrange([0, 1], [True, True], 2, "home", {}, to_micros(now)).sales == ([1] if holds else [0, 1])


def test_rules_that_match_no_sale_are_noted_when_compiled():
    rules = rule_set(
        {"kind": "pin", "sale_ids": ["i1", "x9"], "position": 1},
        {"kind": "bury", "match": {"contry": "Italy"}},
        {"kind": "diversity", "by": "contry", "at_most": 1},
        {"kind": "filter", "match": ITALY},
    )
    assert sorted(PageRules(rules, [sale("i1"), sale("s2")]).notes) == [
        "Rule 'bury' asks for 'contry', which no sale has; did you mean 'country'?",
        "Rule 'bury' matches none of the 2 sales.",
        "Rule 'diversity' is by 'contry', which none of the 2 sales has; did you mean 'country'?",
        "Rule 'pin' pins sale 'x9', which the snapshot does not have.",
    ]


def test_own_values_of_a_sale_take_precedence_over_attributes_of_the_same_name():
    ranked = [sale("i1", price=99.5, theme="pool"), sale("s2", price=None), sale("f3", price=250.0)]
    for match, hidden in [
        ({"price": {"$lt": 100}}, [0]),
        ({"price": {"$exists": False}}, [1]),
        ({"theme": "pool"}, [0]),
        ({"sale_id": "f3"}, [2]),
        ({"title": "Title s2"}, [1]),
    ]:
        page = arranged(ranked, {"kind": "filter", "match": match})
        assert page.sales == [index for index in range(3) if index not in hidden], match
    ranked[0].attributes["price"] = "500"
    assert arranged(ranked, {"kind": "filter", "match": {"price": {"$gt": 400}}}).sales == [0, 1, 2]


def test_page_does_not_depend_on_earlier_requests():
    ranked = [sale(f"{country}{i}") for i in range(8) for country in "isf"]
    rules = [{"kind": "pin", "sale_ids": ["f7"], "position": 3}, {"kind": "diversity", "by": "country", "at_most": 3}]
    page_rules = PageRules(rule_set(*rules), ranked)
    pages = [page_rules.arrange(range(24), [True] * 24, n, "home", {}, to_micros(NOW)) for n in (9, 4, 9)]
    assert pages[0] == pages[2] != pages[1]
