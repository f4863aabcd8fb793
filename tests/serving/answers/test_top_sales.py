import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recommendations.v1 import recommendations_pb2 as pb

from recsys.config.serving import PageSettings
from recsys.errors import ConfigurationError, StoreError
from recsys.instants import to_micros
from recsys.snapshot.format import Snapshot
from serving.answers.pages import AttributeFilter, Visit
from serving.answers.top_sales import TopSales
from tests.helpers.asking import answered, shown
from tests.helpers.ruled_pages import ruled

NONE, SEGMENT = pb.FALLBACK_LEVEL_NONE, pb.FALLBACK_LEVEL_SEGMENT
POPULAR, ANY_OPEN = pb.FALLBACK_LEVEL_POPULAR, pb.FALLBACK_LEVEL_ANY_OPEN
NO_RANKED_OPEN = "No ranking holds a sale that may be shown now. Any open sales are shown, the soonest to close first."


# The sales of a page, and their order.


def test_sales_that_fill_up_a_page_have_no_score(shop, make_sale):
    top_sales = shop.load([make_sale("a"), make_sale("b"), make_sale("c")], {"ann": [(1, 0.25, 1)]})
    response = answered(top_sales, shop.clock(), "ann", n=3)
    assert shown(response) == ["b", "c", "a"]
    assert [sale.HasField("score") for sale in response.sales] == [True, False, False]
    assert [sale.HasField("probability") for sale in response.sales] == [True, False, False]
    assert [sale.reason for sale in response.sales] == ["collaborative", "popularity", "popularity"]


def test_page_is_filled_up_with_the_segments_sales_then_popular_ones_then_any_open_ones(shop, make_sale):
    sales = [make_sale(f"s{position}", closes=20 - position) for position in range(7)]
    segments = {"market": {"FR": [(5, 9.0, 2), (0, 8.0, 2), (2, 7.0, 2)]}}
    popular = [(5, 3.0, 2), (1, 2.0, 2)]
    top_sales = shop.load(sales, {"ann": [(0, 0.5, 0)]}, popularity=popular, segments=segments)
    response = answered(top_sales, shop.clock(), "ann", n=7, attributes={"market": "FR"})
    assert shown(response) == ["s0", "s5", "s2", "s1", "s6", "s4", "s3"]
    assert [sale.reason for sale in response.sales] == ["own_visits", *["popularity"] * 3, *["open"] * 3]
    assert [sale.HasField("score") for sale in response.sales] == [True, *[False] * 6]
    assert shown(answered(top_sales, shop.clock(), "ann", n=7)) == ["s0", "s5", "s1", "s6", "s4", "s3", "s2"]
    assert shown(answered(top_sales, shop.clock(), "ann", n=2)) == ["s0", "s5"]


def test_sales_in_no_ranking_come_last_in_the_order_of_their_closing(shop, make_sale):
    sales = [make_sale("a"), make_sale("b", -1, 9), make_sale("c", -1, 3), make_sale("d"), make_sale("e", -1, 9)]
    top_sales = shop.load(sales, {"ann": [(2, 0.5, 0)]}, popularity=[(3, 1.0, 2)])
    response = answered(top_sales, shop.clock(), "ann", n=5)
    assert shown(response) == ["c", "d", "b", "e", "a"]
    assert [sale.reason for sale in response.sales] == ["own_visits", "popularity", "open", "open", "open"]
    assert shown(answered(top_sales, shop.clock(), "ann", n=3)) == ["c", "d", "b"]
    assert shown(answered(top_sales, shop.clock(), n=5)) == ["d", "c", "b", "e", "a"]


def test_requested_popularity_is_not_a_fallback(shop, make_sale):
    top_sales = shop.load([make_sale("a"), make_sale("b")], {"ann": [(0, 0.5, 0)]})
    for user_id in ("ann", "", "nobody"):
        response = answered(top_sales, shop.clock(), user_id, policy="popularity", n=2)
        assert shown(response) == ["b", "a"]
        assert (response.fallback_level, response.policy, response.fallback_reason) == (NONE, "popularity", "")
        assert [sale.score for sale in response.sales] == [101.0, 100.0]
        assert not any(sale.HasField("probability") for sale in response.sales)


def test_unknown_policy_is_refused_with_a_list_of_the_policies(shop, make_sale):
    top_sales = shop.load([make_sale("a")], {}, policies=("meta", "als"))
    with pytest.raises(ConfigurationError, match=r"policy == 'metta', must be one of als, meta, popularity$"):
        answered(top_sales, shop.clock(), policy="metta")


# The fields of each sale.


@pytest.mark.parametrize("score", [-12.5, -1.0, 0.0, 0.25, 3.0])
def test_probability_is_the_sigmoid_of_the_score_and_only_for_the_meta_model(shop, make_sale, score):
    ranking = {"ann": [(0, score, 0)]}
    top_sales = shop.load([make_sale("a")], ranking, policies=("meta", "als"))
    (sale,) = answered(top_sales, shop.clock(), "ann", n=1).sales
    assert (sale.HasField("score"), sale.score) == (True, score)
    assert sale.probability == pytest.approx(1 / (1 + math.exp(-score)), rel=1e-6)
    (sale,) = answered(top_sales, shop.clock(), "ann", n=1, policy="als").sales
    assert (sale.score, sale.HasField("probability")) == (score, False)


def test_price_that_is_unknown_is_absent_and_a_free_sale_is_not(shop, make_sale):
    response = answered(shop.load([make_sale("a"), make_sale("b", price=0.0)], {}), shop.clock(), n=2)
    assert {sale.sale_id: sale.HasField("price") for sale in response.sales} == {"a": False, "b": True}


def test_sales_of_no_ranking_show_their_cover(shop, make_sale):
    sales = [make_sale("a", images=("a0.jpg", "a1.jpg")), make_sale("b"), make_sale("c", images=("c0.jpg",))]
    top_sales = shop.load(sales, {"ann": [(0, 0.5, 0, 1)]}, popularity=[])
    own, *others = answered(top_sales, shop.clock(), "ann", n=3).sales
    assert own.image_uri == "a1.jpg"
    assert [(sale.sale_id, sale.image_uri) for sale in others] == [("b", ""), ("c", "c0.jpg")]
    assert [sale.image_uri for sale in answered(top_sales, shop.clock(), n=3).sales] == ["a0.jpg", "", "c0.jpg"]


def test_photo_of_the_popularity_ranking_is_shown_also_for_sales_that_fill_a_page_up(shop, make_sale):
    sales = [make_sale("a", images=("a0.jpg", "a1.jpg")), make_sale("b")]
    top_sales = shop.load(sales, {"ann": [(1, 0.5, 0)]}, popularity=[(0, 1.0, 2, 1)])
    assert [sale.image_uri for sale in answered(top_sales, shop.clock(), "ann", n=2).sales] == ["", "a1.jpg"]
    assert answered(top_sales, shop.clock(), n=1).sales[0].image_uri == "a1.jpg"
    assert answered(top_sales, shop.clock(), "ann", n=1, policy="popularity").sales[0].image_uri == "a1.jpg"


def test_reason_without_a_sentence_of_its_own_has_a_general_one(shop, make_sale):
    top_sales = shop.load([make_sale("a")], {"ann": [(0, 0.5, 0)]}, reasons=("moon_phase", "own_visits", "popularity"))
    (sale,) = answered(top_sales, shop.clock(), "ann", n=1).sales
    assert (sale.reason, sale.reason_text) == ("moon_phase", "Chosen for you")


def test_model_version_is_empty_for_a_snapshot_without_model(shop, make_sale):
    top_sales = shop.load([make_sale("a")], {}, versions={})
    assert answered(top_sales, shop.clock(), n=1).model_version == ""


# Fallbacks.


def test_user_whose_sales_are_all_closed_gets_the_popular_ones(shop, make_sale):
    top_sales = shop.load([make_sale("a", 5, 6), make_sale("b")], {"ann": [(0, 0.5, 0)]})
    response = answered(top_sales, shop.clock(), "ann", n=2)
    assert shown(response) == ["b"]
    assert (response.fallback_level, response.policy) == (POPULAR, "popularity")
    assert response.fallback_reason == "No sale of this user's ranking may be shown now. Popular sales are shown."
    assert response.shortfall_reason == "Only 1 sale is open."


@pytest.mark.parametrize(
    ("user_id", "why"), [("", "No user_id was given."), ("eve", "The snapshot has no ranking for this user.")]
)
def test_unknown_user_gets_the_sales_of_their_segment_or_else_the_popular_ones(shop, make_sale, user_id, why):
    segments = {"market": {"FR": [(0, 9.0, 0)], "IT": [(1, 8.0, 2), (0, 7.0, 2)]}, "channel": {"mail": [(2, 1.0, 2)]}}
    top_sales = shop.load([make_sale("a", 5), make_sale("b"), make_sale("c")], {}, segments=segments)

    def page(**attributes: str) -> pb.GetTopSalesResponse:
        return answered(top_sales, shop.clock(), user_id, n=1, attributes=attributes)

    assert shown(page(market="IT")) == ["b"]
    assert page(market="IT").fallback_level == SEGMENT
    assert page(market="IT").fallback_reason == f"{why} Sales popular with market IT are shown."
    assert page(market="IT").policy == "popularity"
    assert page(market="IT", channel="mail").fallback_reason.endswith(
        "market IT are shown."
    )  # as the snapshot has them
    assert shown(page(channel="mail", market="IT")) == ["b"]
    assert shown(page(market="FR", channel="mail")) == ["c"]  # no sale of FR is open yet
    for attributes in ({}, {"market": "FR"}, {"market": "DE"}, {"planet": "FR"}):
        response = page(**attributes)
        assert (shown(response), response.fallback_level) == (["c"], POPULAR)
        assert response.fallback_reason == f"{why} Popular sales are shown."


@pytest.mark.parametrize("request_of", [{}, {"explain": True}, {"session": [Visit("a")]}])
def test_policy_that_the_night_could_not_rank_by_is_answered_by_the_segments_or_the_popular_sales(
    shop, make_sale, request_of
):
    sales, segments = [make_sale("a"), make_sale("b")], {"market": {"FR": [(0, 9.0, 0), (1, 7.0, 0)]}}
    top_sales = shop.load(sales, {"ann": []}, policies=(), segments=segments, missing_policies=("meta",), versions={})
    why = "The night could not rank by this policy: 'recsys doctor' says why."
    response = answered(top_sales, shop.clock(), "ann", n=2, **request_of)
    assert (shown(response), response.fallback_level, response.policy) == (["b", "a"], POPULAR, "popularity")
    assert response.fallback_reason == f"{why} Popular sales are shown."
    response = answered(top_sales, shop.clock(), "ann", n=2, attributes={"market": "FR"}, **request_of)
    assert (shown(response), response.fallback_reason) == (["a", "b"], f"{why} Sales popular with market FR are shown.")


def test_page_before_the_first_event_says_that_it_shows_the_youngest_sales(shop, make_sale):
    by_age = [(1, 2.0, 0), (0, 1.0, 0)]
    top_sales = shop.load([make_sale("a"), make_sale("b")], {}, popularity=by_age, reasons=["open"])
    response = answered(top_sales, shop.clock(), "ann", n=2)
    assert shown(response) == ["b", "a"]
    why = "The sales that opened last are shown: no event of the shop is known yet."
    assert response.fallback_reason == f"The snapshot has no ranking for this user. {why}"
    assert [(sale.reason, sale.reason_text) for sale in response.sales] == [("open", "Open now")] * 2


def test_snapshot_without_sales_has_an_empty_page(shop):
    top_sales = shop.load([], {}, policies=(), popularity=[], missing_policies=("meta",), versions={})
    for request_of in ({}, {"explain": True}, {"session": [Visit("a")]}, {"allowed": ["a"]}):
        response = answered(top_sales, shop.clock(), "ann", n=2, **request_of)
        assert (shown(response), response.shortfall_reason) == ([], "No sale is open.")


def test_page_of_sales_that_no_ranking_holds_says_so(shop, make_sale):
    response = answered(shop.load([make_sale("a"), make_sale("b")], {}, popularity=[]), shop.clock(), n=1)
    assert (shown(response), response.fallback_level) == (["a"], ANY_OPEN)
    assert response.fallback_reason == NO_RANKED_OPEN
    assert not response.sales[0].HasField("score")
    assert response.sales[0].reason_text == "Open now"


def test_page_without_any_open_sale_is_empty_and_says_so(shop, make_sale):
    response = answered(shop.load([make_sale("a", 5, 6)], {"ann": [(0, 0.5, 0)]}), shop.clock(), "ann")
    assert (shown(response), response.fallback_level) == ([], ANY_OPEN)
    assert response.shortfall_reason == "No sale is open."


def test_store_out_of_reach_is_a_fallback_that_says_so(shop, make_sale, monkeypatch):
    def fail(user_id: str) -> None:
        raise StoreError(f"no answer for {user_id}")

    top_sales = shop.load([make_sale("a")], {"ann": [(0, 0.5, 0)]})
    monkeypatch.setattr(top_sales.snapshot.users, "find", fail)
    response = answered(top_sales, shop.clock(), "ann")
    assert (shown(response), response.fallback_level) == (["a"], POPULAR)
    assert response.fallback_reason == "The store of users' rankings is out of reach. Popular sales are shown."
    assert answered(top_sales, shop.clock()).fallback_reason.startswith("No user_id was given.")


# Allowed and denied sales.


@pytest.mark.parametrize(
    ("allowed", "denied", "expected"),
    [
        ("", "", "dafc"),
        ("ca", "", "ac"),
        ("ca", "a", "c"),
        ("", "da", "fc"),
        ("", "zzf", "dac"),
        ("be", "", ""),  # both closed
        ("dz", "", "d"),
        ("zy", "", ""),
        ("abcdef", "abcdef", ""),
        ("aaddaa", "", "da"),
    ],
)
def test_only_allowed_sales_that_are_not_denied_are_shown(shop, six, allowed, denied, expected):
    for user_id in ("ann", "nobody"):
        response = answered(six, shop.clock(), user_id, allowed=list(allowed), denied=list(denied))
        assert sorted(shown(response)) == sorted(expected)
        restricted = (
            "Only 4 sales are open" if not (allowed or denied) else "Only 4 sales are open; the request's lists"
        )
        assert response.shortfall_reason.startswith(restricted)
    assert shown(answered(six, shop.clock(), "ann", allowed=list(allowed), denied=list(denied))) == list(expected)


def test_lists_that_leave_nothing_say_so(shop, six):
    response = answered(six, shop.clock(), "ann", n=3, allowed=["b", "unknown"])
    assert response.shortfall_reason == "Only 4 sales are open; the request's lists and the shop's rules leave 0."
    assert (response.fallback_level, response.fallback_reason) == (ANY_OPEN, NO_RANKED_OPEN)


def test_lists_that_leave_enough_sales_cause_no_shortfall(shop, six):
    assert answered(six, shop.clock(), "ann", n=3, denied=["d"]).shortfall_reason == ""
    response = answered(six, shop.clock(), "ann", n=4, denied=["d"])
    assert response.shortfall_reason == "Only 4 sales are open; the request's lists and the shop's rules leave 3."


def test_user_whose_ranking_holds_no_allowed_sale_gets_the_other_allowed_ones(shop, six):
    response = answered(six, shop.clock(), "ann", n=2, allowed=["f", "b"])
    assert (shown(response), response.fallback_level) == (["f"], POPULAR)
    assert response.fallback_reason.startswith("No sale of this user's ranking may be shown now.")


# The session without a ranker, or near the deadline.


def test_snapshot_without_ranker_leaves_the_session_out_and_says_so(shop, six):
    response = answered(six, shop.clock(), "ann", session=[Visit("c")])
    assert shown(response) == ["d", "a", "f", "c"]
    assert list(response.notes) == ["The snapshot cannot rank sessions: see the service's log."]
    assert (response.fallback_level, response.uses_session) == (NONE, False)
    stranger = answered(six, shop.clock(), session=[Visit("c")])
    assert (shown(stranger), stranger.fallback_level) == (["f", "d", "c", "a"], POPULAR)
    assert (
        stranger.fallback_reason == "The snapshot cannot rank sessions: see the service's log. Popular sales are shown."
    )
    assert list(stranger.notes) == []
    assert "files/ranker is missing" in six.chooser.session_problem


def test_urgent_request_leaves_the_session_out_and_says_so(shop, night):
    snapshot = Snapshot.open(shop.root / night.write(shop.root))
    top_sales = TopSales.of(snapshot, settings=PageSettings(just_bought_hours=None))
    user_id, session = night.users[0], [Visit(night.sales[0].sale_id)]
    plain = answered(top_sales, shop.clock(), user_id, is_urgent=True)
    response = answered(top_sales, shop.clock(), user_id, session=session, is_urgent=True)
    assert shown(response) == shown(plain)
    assert list(response.notes) == ["The deadline was near: the session was left out."]
    assert answered(top_sales, shop.clock(), session=session, is_urgent=True).fallback_level == POPULAR
    assert answered(top_sales, shop.clock(), user_id, session=session).uses_session


# Everything together, on random shops.


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
@settings(max_examples=60)
@given(case=shops())
def test_page_holds_no_closed_sale_no_duplicate_and_n_sales_if_enough_are_open(
    new_shop, make_sale, tmp_path_factory, policy, case
):
    windows, ranked, popular, instants, n = case
    sales = [make_sale(f"s{position}", *window) for position, window in enumerate(windows)]
    shop = new_shop(tmp_path_factory.mktemp("shop") / "snapshots")
    rankings = {"ann": [(position, 1 / (2 + rank), 0) for rank, position in enumerate(ranked)]}
    top_sales = shop.load(sales, rankings, popularity=[(position, 1.0, 2) for position in popular])
    for hours, micros in instants:
        shop.clock.set(hours, micros)
        now = shop.clock()
        is_open = [to_micros(sale.opens_at) <= now < to_micros(sale.closes_at) for sale in sales]
        for user_id in ("ann", "nobody"):
            found = [int(sale_id[1:]) for sale_id in shown(answered(top_sales, now, user_id, policy=policy, n=n))]
            assert all(is_open[position] for position in found)
            assert len(set(found)) == len(found) == min(n, sum(is_open))
            first = ranked if (user_id, policy) == ("ann", "meta") else popular
            order = [*first, *(position for position in popular if position not in first)]
            expected = [position for position in order if is_open[position]]
            assert found[: len(expected)] == expected[:n]


# Conditions on attributes.


@pytest.fixture
def travel(shop, make_sale) -> TopSales:
    """Sales a to f; ann's ranking is a, b, c, d, e, f."""
    places = {"a": "IT", "b": "FR", "c": "IT", "d": None, "e": "ES", "f": "IT"}
    sales = [
        make_sale(
            name, attributes={"country": place, "stars": "4" if name < "c" else "5"} if place else {}, theme="pool"
        )
        for name, place in places.items()
    ]
    return shop.load(sales, {"ann": [(position, 0.9 - position / 10, 0) for position in range(6)]})


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ([("country", "IT")], ["a", "c", "f"]),
        ([("country", "IT", "ES")], ["a", "c", "e", "f"]),
        ([("country", "IT"), ("stars", "5")], ["c", "f"]),
        ([("!country", "IT")], ["b", "d", "e"]),
        ([("!country", "IT", "ES"), ("stars", "4")], ["b"]),
        ([("theme", "pool"), ("!stars", "5")], ["a", "b", "d"]),
        ([("theme", "ski")], []),
    ],
)
def test_only_sales_that_meet_all_conditions_are_shown(shop, travel, filters, expected):
    conditions = [AttributeFilter(name.strip("!"), frozenset(values), name[0] == "!") for name, *values in filters]
    response = answered(travel, shop.clock(), "ann", filters=conditions)
    assert shown(response) == expected
    assert shown(answered(travel, shop.clock(), "ann", filters=conditions, denied=["a", "b"])) == [
        name for name in expected if name not in "ab"
    ]
    assert response.shortfall_reason.startswith("Only 6 sales are open; the request's lists")


def test_unknown_attribute_and_value_of_a_condition_are_named_with_the_nearest(shop, travel):
    rule = (
        "filters.attribute == 'contry', must be an attribute of the snapshot's sales: country, stars, theme"
        "; did you mean 'country'?"
    )
    with pytest.raises(ConfigurationError, match=f"^{re.escape(rule)}$"):
        answered(travel, shop.clock(), filters=[AttributeFilter("contry", frozenset(["IT"]), True)])
    response = answered(travel, shop.clock(), filters=[AttributeFilter("country", frozenset(["ITA"]), False)])
    assert list(response.notes) == ["No sale of the snapshot has country 'ITA'; did you mean 'IT'?"]
    response = answered(travel, shop.clock(), filters=[AttributeFilter("country", frozenset(["PT", "DE"]), True)])
    assert list(response.notes) == ["No sale of the snapshot has country 'DE' or 'PT'."]


# Surfaces, prices.


def test_surface_that_is_nearly_a_known_one_is_told(shop, six):
    ruled_mail = ruled(six, {"kind": "pin", "sale_ids": ["c"], "position": 1, "surface": "newsletter"})
    told = {name: list(answered(ruled_mail, shop.clock(), surface=name).notes) for name in ("hoem", "newsleter", "app")}
    assert told == {
        "hoem": ["No rule and no experiment is for surface 'hoem'; did you mean 'home'?"],
        "newsleter": ["No rule and no experiment is for surface 'newsleter'; did you mean 'newsletter'?"],
        "app": [],
    }


def test_page_names_the_currency_of_its_prices(shop, make_sale):
    snapshot = Snapshot.open(shop.root / shop.write([make_sale("a", price=9.5)], {}))
    for pages, currency in ((PageSettings(currency="EUR"), "EUR"), (None, "")):
        assert answered(TopSales.of(snapshot, settings=pages), shop.clock()).currency == currency
