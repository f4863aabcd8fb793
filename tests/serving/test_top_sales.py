import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recommendations.v1 import recommendations_pb2 as pb

from recsys.instants import to_micros
from recsys.snapshot import Snapshot
from serving.answers.top_sales import TopSales


def load(shop, *arguments, **changes) -> TopSales:
    return TopSales(Snapshot.open(shop.root / shop.write(*arguments, **changes)))


def shown(response) -> list[str]:
    return [sale.sale_id for sale in response.sales]


def test_sales_that_fill_up_a_page_have_no_score(shop, make_sale):
    top_sales = load(shop, [make_sale("a"), make_sale("b"), make_sale("c")], {"ann": [(1, 0.25, 1)]})
    response = top_sales.answer("ann", "meta", 3, shop.clock())
    assert shown(response) == ["b", "c", "a"]
    assert [sale.HasField("score") for sale in response.sales] == [True, False, False]
    assert response.sales[0].score == 0.25


def test_score_of_zero_is_a_score(shop, make_sale):
    response = load(shop, [make_sale("a")], {"ann": [(0, 0.0, 1)]}).answer("ann", "meta", 1, shop.clock())
    assert response.sales[0].HasField("score")


def test_price_that_is_unknown_is_absent_and_a_free_sale_is_not(shop, make_sale):
    top_sales = load(shop, [make_sale("a"), make_sale("b", price=0.0)], {})
    response = top_sales.answer("", "meta", 2, shop.clock())
    assert {sale.sale_id: sale.HasField("price") for sale in response.sales} == {"a": False, "b": True}


def test_user_whose_sales_are_all_closed_gets_the_popular_ones(shop, make_sale):
    top_sales = load(shop, [make_sale("a", 5, 6), make_sale("b")], {"ann": [(0, 0.5, 0)]})
    response = top_sales.answer("ann", "meta", 2, shop.clock())
    assert shown(response) == ["b"]
    assert response.fallback_level == pb.FALLBACK_LEVEL_POPULAR
    assert response.fallback_reason == "No sale of this user's ranking is open: popular sales are shown."
    assert response.shortfall_reason == "Only 1 sale is open."


def test_sales_that_no_ranking_holds_come_last_the_soonest_to_close_first(shop, make_sale):
    sales = [make_sale("a"), make_sale("b", -1, 9), make_sale("c", -1, 3), make_sale("d"), make_sale("e", -1, 9)]
    top_sales = load(shop, sales, {"ann": [(2, 0.5, 0)]}, popularity=[(3, 1.0, 2)])
    response = top_sales.answer("ann", "meta", 5, shop.clock())
    assert shown(response) == ["c", "d", "b", "e", "a"]
    assert [sale.reason for sale in response.sales] == ["own_visits", "popularity", "open", "open", "open"]
    assert shown(top_sales.answer("ann", "meta", 3, shop.clock())) == ["c", "d", "b"]
    assert shown(top_sales.answer("", "meta", 5, shop.clock())) == ["d", "c", "b", "e", "a"]


def test_page_of_sales_that_no_ranking_holds_says_so(shop, make_sale):
    response = load(shop, [make_sale("a"), make_sale("b")], {}, popularity=[]).answer("", "meta", 1, shop.clock())
    assert shown(response) == ["a"]
    assert response.fallback_level == pb.FALLBACK_LEVEL_ANY_OPEN
    assert response.fallback_reason.startswith("No ranking holds an open sale")
    assert not response.sales[0].HasField("score")
    assert response.sales[0].reason_text == "Open now"


def test_sales_of_no_ranking_show_their_cover(shop, make_sale):
    sales = [make_sale("a", images=("a0.jpg", "a1.jpg")), make_sale("b"), make_sale("c", images=("c0.jpg",))]
    top_sales = load(shop, sales, {"ann": [(0, 0.5, 0, 1)]}, popularity=[])
    own, *others = top_sales.answer("ann", "meta", 3, shop.clock()).sales
    assert own.image_uri == "a1.jpg"
    assert [(sale.sale_id, sale.image_uri) for sale in others] == [("b", ""), ("c", "c0.jpg")]
    anonymous = top_sales.answer("", "meta", 3, shop.clock()).sales
    assert [sale.image_uri for sale in anonymous] == ["a0.jpg", "", "c0.jpg"]


def test_photo_of_a_popularity_ranking_is_shown_wherever_its_sales_are(shop, make_sale):
    sales = [make_sale("a", images=("a0.jpg", "a1.jpg")), make_sale("b")]
    top_sales = load(shop, sales, {"ann": [(1, 0.5, 0)]}, popularity=[(0, 1.0, 2, 1)])
    assert [sale.image_uri for sale in top_sales.answer("ann", "meta", 2, shop.clock()).sales] == ["", "a1.jpg"]
    assert top_sales.answer("", "meta", 1, shop.clock()).sales[0].image_uri == "a1.jpg"
    assert top_sales.answer("ann", "popularity", 1, shop.clock()).sales[0].image_uri == "a1.jpg"


def test_page_without_any_open_sale_is_empty_and_says_so(shop, make_sale):
    response = load(shop, [make_sale("a", 5, 6)], {"ann": [(0, 0.5, 0)]}).answer("ann", "meta", 10, shop.clock())
    assert shown(response) == []
    assert response.fallback_level == pb.FALLBACK_LEVEL_ANY_OPEN
    assert response.shortfall_reason == "No sale is open."


def test_model_version_is_empty_for_a_snapshot_without_model(shop, make_sale):
    top_sales = load(shop, [make_sale("a")], {}, versions={"recommenders": "f00"})
    assert top_sales.answer("", "meta", 1, shop.clock()).model_version == ""


def test_reason_without_a_sentence_of_its_own_still_reads_well(shop, make_sale, monkeypatch):
    monkeypatch.setattr("serving.sentences.REASONS", {})
    response = load(shop, [make_sale("a")], {"ann": [(0, 0.5, 1)]}).answer("ann", "meta", 1, shop.clock())
    assert (response.sales[0].reason, response.sales[0].reason_text) == ("collaborative", "Chosen for you")


def test_answers_share_nothing_that_a_caller_could_change(shop, make_sale):
    top_sales = load(shop, [make_sale("a")], {"ann": [(0, 0.5, 1)]})
    first = top_sales.answer("ann", "meta", 1, shop.clock())
    first.sales[0].title = first.policy = "changed"
    second = top_sales.answer("ann", "meta", 1, shop.clock())
    assert (second.sales[0].title, second.policy) == ("Title of a", "meta")


@st.composite
def shops(draw):
    """Windows of up to 9 sales, a user's ranking, a popularity ranking and instants, on a coarse grid of hours."""
    n_sales = draw(st.integers(1, 9))
    positions = st.permutations(range(n_sales))
    opens_and_hours = st.tuples(st.integers(-3, 6), st.integers(1, 4))
    windows = [(opens, opens + hours) for opens, hours in (draw(opens_and_hours) for _ in range(n_sales))]
    ranked = draw(positions)[: draw(st.integers(0, n_sales))]
    popular = draw(positions)[: draw(st.integers(0, n_sales))]
    instants = draw(st.lists(st.tuples(st.integers(-4, 11), st.sampled_from([-1, 0, 1])), min_size=1, max_size=6))
    return windows, ranked, popular, instants, draw(st.integers(1, 10))


@pytest.mark.parametrize("policy", ["meta", "popularity"])
@settings(max_examples=80, deadline=None)
@given(case=shops())
def test_no_closed_sale_no_duplicate_and_as_many_as_are_open(new_shop, make_sale, policy, case):
    windows, ranked, popular, instants, n = case
    sales = [make_sale(f"s{position}", *window) for position, window in enumerate(windows)]
    with tempfile.TemporaryDirectory() as folder:
        shop = new_shop(Path(folder))
        rankings = {"ann": [(position, 1 / (2 + place), 0) for place, position in enumerate(ranked)]}
        top_sales = load(shop, sales, rankings, popularity=[(position, 1.0, 2) for position in popular])
        for hours, micros in instants:
            shop.clock.set(hours, micros)
            now = shop.clock()
            is_open = [to_micros(sale.opens_at) <= now < to_micros(sale.closes_at) for sale in sales]
            for user_id in ("ann", "nobody"):
                found = [int(sale_id[1:]) for sale_id in shown(top_sales.answer(user_id, policy, n, now))]
                assert all(is_open[position] for position in found)
                assert len(set(found)) == len(found) == min(n, sum(is_open))
                first = ranked if (user_id, policy) == ("ann", "meta") else popular
                order = [*first, *(position for position in popular if position not in first)]
                expected = [position for position in order if is_open[position]]
                assert found[: len(expected)] == expected[:n]
