"""Several rules on one page: which one wins, and the notes on the others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.instants import DAY, to_micros
from recsys.rules import ArrangedPage, PageRules
from tests.helpers.ruled_pages import COUNTRIES, NOW, arranged, rule_set, sale, shown

ITALY = {"country": "Italy"}
SPAIN = {"country": "Spain"}


def pin(*sale_ids: str, position: int = 1, name: str = "pin") -> dict:
    return {"kind": "pin", "name": name, "sale_ids": list(sale_ids), "position": position}


def test_filtered_sale_is_not_pinned():
    page = arranged("i1 s2 f3", pin("i1", "f3", position=1), {"kind": "filter", "match": ITALY})
    assert shown(page, "i1 s2 f3") == "f3 s2"
    assert "Rule 'pin' does not pin sale 'i1': rule 'filter' hides it." in page.notes


def test_filter_for_other_requests_does_not_affect_a_pin():
    rule = {"kind": "filter", "match": ITALY, "targeting": {"market": "Spain"}}
    assert arranged("s2 i1", pin("i1"), rule).sales == [1, 0]


def test_pin_beyond_the_page_is_left_out_and_noted():
    page = arranged("s1 s2 s3 i4 i5", pin("i4", "i5", position=3), n=3)
    assert shown(page, "s1 s2 s3 i4 i5") == "s1 s2 i4"
    assert page.notes == ["Rule 'pin' does not pin sale 'i5': position 4 is not on the page."]


def test_pins_beyond_the_end_of_a_short_page_move_up_in_their_order():
    page = arranged("s1 i2 f3 x4", pin("f3", "i2", position=7), pin("x4", position=2, name="second"))
    assert shown(page, "s1 i2 f3 x4") == "s1 x4 f3 i2"
    assert page.rules == [None, "second", "pin", "pin"]
    assert page.notes == [
        "Rule 'pin' pins position 7, the page has 4: it is at position 3 instead.",
        "Rule 'pin' pins position 8, the page has 4: it is at position 4 instead.",
    ]


def test_second_pin_of_a_position_gets_the_next_free_one():
    page = arranged("s1 s2 i3 i4 f5", pin("i3", "i4"), pin("f5", "s2", name="second"))
    assert shown(page, "s1 s2 i3 i4 f5") == "i3 i4 f5 s2 s1"
    assert page.rules == ["pin", "pin", "second", "second", None]
    assert page.notes == ["Rule 'second' pins sale 'f5' elsewhere: position 1 is taken, it is at position 3 instead."]


def test_sale_that_is_pinned_twice_stays_where_the_first_rule_puts_it():
    page = arranged("s1 i2", pin("i2", position=2), pin("i2", name="second"))
    assert page.sales == [0, 1]
    assert page.notes == ["Rule 'second' does not pin sale 'i2': rule 'pin' pins it already."]


def test_pin_wins_over_boost_and_bury():
    ranked = "i2 f4 s1 i3"
    page = arranged(ranked, {"kind": "bury", "match": ITALY}, {"kind": "boost", "match": SPAIN, "places": 1}, pin("i3"))
    assert shown(page, ranked) == "i3 s1 f4 i2"
    assert page.rules == ["pin", "boost", None, "bury"]


def test_diversity_counts_pins_at_all_positions():
    ranked = "i1 s2 i3 f4 i5"
    page = arranged(ranked, pin("i5", position=3), {"kind": "diversity", "by": "country", "at_most": 1}, n=3)
    assert shown(page, ranked) == "s2 f4 i5"


def test_sales_in_a_row_are_counted_across_pins():
    ranked = "i1 i2 s3 i4 f5"
    page = arranged(ranked, pin("i4", position=3), {"kind": "diversity", "by": "country", "at_most_in_a_row": 2}, n=4)
    assert shown(page, ranked) == "i1 s3 i4 i2"


def test_pins_that_break_diversity_stay_and_are_noted():
    rules = [pin("i1", "i2", "i3"), {"kind": "diversity", "by": "country", "at_most": 2, "at_most_in_a_row": 1}]
    page = arranged("s4 i1 i2 i3", *rules)
    assert shown(page, "s4 i1 i2 i3") == "i1 i2 i3 s4"
    assert page.notes == [
        "Rule 'diversity' is not met: the number of sales of country 'Italy' is 3, must be at most 2.",
        "Rule 'diversity' is not met: the number of sales of country 'Italy' in a row is 3, must be at most 1.",
    ]


def test_pins_count_for_quotas_and_new_sales():
    ranked = [sale("s1"), sale("s2"), sale("s3"), sale("i4", hours_open=1), sale("i5", hours_open=1)]
    rules = [
        pin("i5", position=3),
        {"kind": "quota", "match": ITALY, "at_least": 1},
        {"kind": "new_sales", "share": 0.3},
    ]
    page = arranged(ranked, *rules, n=3)
    assert page.sales == [0, 1, 4]
    assert (page.applied, page.notes) == (["pin"], [])


@pytest.mark.parametrize(
    ("first", "second", "expected", "note"),
    [
        ("limit", "need", "s2 i1 f3", "Rule 'need' is not met: the number of matching sales is 1, must be at least 2."),
        (
            "need",
            "limit",
            "s2 i1 i4",
            "Rule 'limit' is not met: the number of sales of country 'Italy' is 2, must be at most 1.",
        ),
    ],
)
def test_earlier_of_two_contradicting_rules_wins(first, second, expected, note):
    rules = {
        "limit": {"kind": "diversity", "name": "limit", "by": "country", "at_most": 1},
        "need": {"kind": "quota", "name": "need", "match": ITALY, "at_least": 2},
    }
    page = arranged("s2 i1 f3 i4", rules[first], rules[second], n=3)
    assert note in page.notes
    assert shown(page, "s2 i1 f3 i4") == expected


def test_two_quotas_share_the_last_positions():
    ranked = "x1 x2 x3 i4 i5 s6 s7"
    rules = [
        {"kind": "quota", "name": f"q{i}", "match": match, "at_least": 2} for i, match in enumerate([ITALY, SPAIN])
    ]
    page = arranged(ranked, *rules, n=5)
    assert shown(page, ranked) == "x1 i4 i5 s6 s7"
    assert page.notes == []


def test_earlier_of_two_quotas_that_do_not_fit_is_met():
    ranked = "i1 i2 i3 s4 s5 s6"
    needs = {"italy": ITALY, "spain": SPAIN}
    for earlier, later in [("italy", "spain"), ("spain", "italy")]:
        rules = [{"kind": "quota", "name": name, "match": needs[name], "at_least": 3} for name in (earlier, later)]
        page = arranged(ranked, *rules, n=4)
        assert page.notes == [f"Rule '{later}' is not met: the number of matching sales is 1, must be at least 3."]


def test_new_sales_share_of_less_than_one_position_does_not_affect_other_rules():
    ranked = [sale("x1"), sale("s2", hours_open=1), sale("x3"), sale("i4")]
    rules = [{"kind": "new_sales", "share": 0.1}, {"kind": "quota", "match": ITALY, "at_least": 1}]
    assert arranged(ranked, *rules, n=1).sales == [3]


def test_applied_rules_are_in_the_order_of_the_file():
    rules = [
        {"kind": "diversity", "by": "country", "at_most": 1},
        pin("x9"),
        {"kind": "filter", "match": {"sale_id": "f1"}},
    ]
    page = arranged("f1 i2 i3 s4 x9", *rules, n=3)
    assert page.applied == ["diversity", "pin", "filter"]
    assert page.rules == ["pin", None, "diversity"]


SALE_IDS = [f"{'isfx'[i % 4 if i % 3 else 0]}{i}" for i in range(16)]
conditions = st.sampled_from([ITALY, SPAIN, {"$not": ITALY}, {"sale_id": {"$in": SALE_IDS[:5]}}, {"country": "Peru"}])
counts = st.integers(1, 5)
kinds = st.one_of(
    st.fixed_dictionaries({"kind": st.sampled_from(["filter", "bury"]), "match": conditions}),
    st.fixed_dictionaries({"kind": st.just("boost"), "match": conditions, "places": counts}),
    st.fixed_dictionaries(
        {
            "kind": st.just("pin"),
            "sale_ids": st.lists(st.sampled_from([*SALE_IDS, "z"]), min_size=1, max_size=4, unique=True),
            "position": st.integers(1, 14),
        }
    ),
    st.fixed_dictionaries({"kind": st.just("quota"), "match": conditions, "at_least": counts}),
    st.fixed_dictionaries({"kind": st.just("quota"), "by": st.just("country"), "at_most": counts}),
    st.fixed_dictionaries({"kind": st.just("diversity"), "by": st.just("country"), "at_most": counts}),
    st.fixed_dictionaries({"kind": st.just("diversity"), "by": st.just("country"), "at_most_in_a_row": counts}),
    st.fixed_dictionaries({"kind": st.just("new_sales"), "share": st.floats(0.01, 1)}),
)


@st.composite
def situations(draw: st.DrawFn) -> tuple:
    rules = [{**rule, "name": f"r{index}"} for index, rule in enumerate(draw(st.lists(kinds, max_size=7)))]
    sales = [sale(sale_id, hours_open=draw(st.integers(1, 20))) for sale_id in SALE_IDS]
    is_open = draw(st.lists(st.booleans(), min_size=16, max_size=16))
    open_sales = [index for index in range(16) if is_open[index]]
    ranked = draw(st.permutations(open_sales))[: draw(st.integers(0, 16))]
    return rules, sales, is_open, ranked, draw(st.integers(1, 12))


@given(situations())
def test_page_is_full_of_distinct_open_sales_that_no_filter_hides(situation):
    rules, sales, is_open, ranked, n = situation
    page = PageRules(rule_set(*rules), sales).arrange(ranked, is_open, n, "home", {}, to_micros(NOW))
    assert page == PageRules(rule_set(*rules), sales).arrange(ranked, is_open, n, "home", {}, to_micros(NOW))
    hidden = {index for rule in rules if rule["kind"] == "filter" for index in range(16) if holds(rule, index)}
    pinned = {sale for sale, name in zip(page.sales, page.rules, strict=True) if name in names(rules, "pin")}
    assert len(set(page.sales)) == len(page.sales) == len(page.rules)
    assert all(is_open[index] for index in page.sales)
    assert not hidden & set(page.sales)
    assert set(page.sales) <= set(ranked) | pinned
    assert len(page.sales) == min(n, len((set(ranked) - hidden) | pinned))
    assert set(page.applied) >= {name for name in page.rules if name}


@given(situations())
def test_rules_without_a_note_are_met(situation):
    rules, sales, is_open, ranked, n = situation
    page = PageRules(rule_set(*rules), sales).arrange(ranked, is_open, n, "home", {}, to_micros(NOW))
    for rule in rules:
        if not any(f"'{rule['name']}'" in note for note in page.notes):
            assert is_met(rule, page, sales), rule


def names(rules: list[dict], kind: str) -> set[str]:
    return {rule["name"] for rule in rules if rule["kind"] == kind}


def country(index: int) -> str | None:
    return COUNTRIES.get(SALE_IDS[index][0])


def holds(rule: dict, index: int) -> bool:
    """Return whether a sale meets the condition of a rule of this file."""
    match = rule["match"]
    if "$not" in match:
        return country(index) != "Italy"
    return SALE_IDS[index] in SALE_IDS[:5] if "sale_id" in match else country(index) == match["country"]


def is_met(rule: dict, page: ArrangedPage, sales: list) -> bool:
    countries = [country(index) for index in page.sales]
    if rule["kind"] == "pin":
        start = rule["position"] - 1
        wanted = [SALE_IDS.index(sale_id) for sale_id in rule["sale_ids"]]
        return [sale for sale in page.sales if sale in wanted] == page.sales[start : start + len(wanted)] == wanted
    if rule["kind"] == "new_sales":
        midnight = to_micros(NOW) // DAY * DAY
        new = sum(to_micros(sales[index].opens_at) >= midnight for index in page.sales)
        return new >= int(rule["share"] * len(page.sales) + 0.5)
    if "at_least" in rule:
        return sum(holds(rule, index) for index in page.sales) >= rule["at_least"]
    if "at_most" in rule:
        return all(countries.count(each) <= rule["at_most"] for each in COUNTRIES.values())
    if "at_most_in_a_row" in rule:
        length = rule["at_most_in_a_row"] + 1
        rows = [countries[start : start + length] for start in range(len(countries) - length + 1)]
        return all(None in row or len(set(row)) > 1 for row in rows)
    return True
