import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recommendations.v1 import recommendations_pb2 as pb

from recsys.config.serving import LimitSettings
from recsys.errors import ConfigurationError, RecsysError
from recsys.instants import EARLIEST, SECOND, from_micros
from recsys.logs.records import RecordedEvent, encode_event
from serving.answers.pages import PageRequest, Visit
from serving.api.requests import CheckedEvents, check_sale_id, checked_events, cost_of, page_request, similar_request
from tests.helpers.any_requests import EVENTS, REQUESTS
from tests.helpers.asking import refusal_of

LIMITS = LimitSettings()
NOW = 1_772_323_200_000_000
LONG = "é" * 128 + "x"  # 257 bytes


def checked(**fields: object) -> PageRequest:
    return page_request(pb.GetTopSalesRequest(**fields), "meta", LIMITS)


def refusal(**fields: object) -> str:
    with pytest.raises(ConfigurationError) as error:
        checked(**fields)
    return str(error.value)


def event(**fields: object) -> pb.Event:
    return pb.Event(**{"user_id": "ann", "sale_id": "s1", "kind": pb.EVENT_KIND_VISIT, **fields})


def checked_all(*events: pb.Event, **others: object) -> CheckedEvents:
    return checked_events(pb.RecordEventsRequest(events=events), NOW, LIMITS, **others)


def recorded(*events: pb.Event, **others: object) -> list[RecordedEvent]:
    return checked_all(*events, **others).accepted


def event_refusal(**fields: object) -> str:
    """The reason why an event is refused, between two others that are not."""
    accepted, refused, of_unknown_sales = checked_all(event(), event(**fields), event())
    assert (len(accepted), [each.index for each in refused], of_unknown_sales) == (2, [1], 0)
    return refused[0].reason


# Pages.


def test_empty_request_has_the_defaults():
    assert checked() == PageRequest("", "meta", 10, "home", {}, [], [], [], False)


def test_every_field_reaches_the_page():
    request = checked(
        user_id="ann",
        n=3,
        policy="als",
        session_sale_ids=["s2", "s1", "s2"],
        attributes={"market": "FR"},
        surface="mail",
        allowed_sale_ids=["s3"],
        denied_sale_ids=["s4", "s5"],
        explain=True,
    )
    visits = [Visit("s2"), Visit("s1"), Visit("s2")]
    assert request == PageRequest("ann", "als", 3, "mail", {"market": "FR"}, visits, ["s3"], ["s4", "s5"], True)


def test_request_for_similar_sales_leaves_the_sale_itself_out_and_has_its_own_surface():
    page = pb.GetTopSalesRequest(user_id="ann", n=3, session_sale_ids=["a"], denied_sale_ids=["b"])
    asked = similar_request(pb.GetSimilarSalesRequest(sale_id=" s1 ", page=page), "meta", LIMITS)
    assert asked == PageRequest("ann", "meta", 3, "similar", denied=["b", "s1"], like="s1", session=(), allowed=[])
    assert similar_request(pb.GetSimilarSalesRequest(sale_id="s1"), "meta", LIMITS).n == 10
    mail = pb.GetTopSalesRequest(surface="mail")
    assert similar_request(pb.GetSimilarSalesRequest(sale_id="s1", page=mail), "meta", LIMITS).surface == "mail"


def test_request_for_similar_sales_without_a_sale_is_refused():
    with pytest.raises(ConfigurationError, match="sale_id == '', must be a sale id"):
        similar_request(pb.GetSimilarSalesRequest(), "meta", LIMITS)


@pytest.mark.parametrize(("n", "expected"), [(0, 10), (1, 1), (100, 100)])
def test_n_in_range_is_accepted(n, expected):
    assert checked(n=n).n == expected


@pytest.mark.parametrize("n", [-1, 101, 2**31 - 1, -(2**31)])
def test_n_out_of_range_is_refused(n):
    assert refusal(n=n) == f"n == {n}, must be in 1..100, or 0 for 10"


def test_largest_n_can_be_configured():
    with pytest.raises(ConfigurationError, match=r"n == 21, must be in 1\.\.20"):
        page_request(pb.GetTopSalesRequest(n=21), "meta", LimitSettings(max_n=20))


@pytest.mark.parametrize("name", ["user_id", "policy", "surface"])
@pytest.mark.parametrize("text", ["x" * 256, "é" * 128, "🏖" * 64])
def test_text_of_256_bytes_is_accepted(name, text):
    assert getattr(checked(**{name: text}), name) == text


@pytest.mark.parametrize("name", ["user_id", "policy", "surface"])
@pytest.mark.parametrize("text", [LONG, "x" * 257, "🏖" * 64 + "x", "y" * 100_000])
def test_longer_text_is_refused_with_its_length(name, text):
    n_bytes = len(text.encode())
    assert refusal(**{name: text}) == f"{name} == {text[:20] + '…'!r} has {n_bytes} bytes, must have at most 256"


@pytest.mark.parametrize(
    ("name", "most"), [("session_sale_ids", 100), ("allowed_sale_ids", 1000), ("denied_sale_ids", 1000)]
)
def test_lists_have_a_maximum_length_and_maximum_entries(name, most):
    checked(**{name: ["x" * 256] * most})
    assert refusal(**{name: ["x"] * (most + 1)}) == f"{name} has {most + 1} entries, must have at most {most}"
    assert refusal(**{name: ["x", LONG]}).endswith("has 257 bytes, must have at most 256")
    assert refusal(**{name: ["x", LONG]}).startswith(f"{name} == 'ééé")


def test_attributes_have_a_maximum_number_and_maximum_lengths():
    checked(attributes={f"{number:02d}" + "x" * 254: "y" * 256 for number in range(32)})
    attributes = {str(number): "" for number in range(33)}
    assert refusal(attributes=attributes) == "attributes has 33 entries, must have at most 32"
    assert refusal(attributes={LONG: ""}).startswith("attributes == 'ééé")
    assert refusal(attributes={"market": LONG}).startswith("attributes['market'] == 'ééé")


@pytest.mark.parametrize("request_id", ["a", "A-9_z", "x" * 64])
def test_request_id_of_letters_and_digits_is_accepted(request_id):
    checked(request_id=request_id)


@pytest.mark.parametrize("request_id", [" ", "a b", "é", "x" * 65, "a\n", "\n", "a/b", "a\x00", "１"])
def test_other_request_id_is_refused(request_id):
    assert refusal(request_id=request_id).endswith(", must be 1 to 64 characters of 0-9 A-Z a-z _ -")


@given(REQUESTS)
def test_any_request_is_accepted_within_the_limits_or_refused_with_a_rule(request):
    if (error := refusal_of(lambda: page_request(request, "meta", LIMITS))) is not None:
        assert_is_short_rule(error)
        return
    found = page_request(request, "meta", LIMITS)
    assert 1 <= found.n <= 100
    texts = [found.user_id, found.policy, found.surface, *found.allowed, *found.denied, *found.attributes.values()]
    assert max(len(text.encode()) for text in [*texts, *(visit.sale_id for visit in found.session)]) <= 256
    assert found.policy
    assert found.surface


def assert_is_short_rule(error: RecsysError) -> None:
    assert isinstance(error, ConfigurationError)
    assert ", must " in str(error)
    assert len(str(error)) < 200  # a long value is not returned in full


# Events.


def test_event_without_a_time_occurs_at_present():
    (found,) = recorded(event(attribution_token="r-1"))
    assert found == RecordedEvent("ann", "s1", "visit", NOW, NOW, None, "r-1")


def test_purchase_has_its_time_and_its_revenue():
    purchase = event(kind=pb.EVENT_KIND_PURCHASE, occur_time={"seconds": 1_700_000_000, "nanos": 1_999}, revenue=0.0)
    (found,) = recorded(purchase)
    assert (found.kind, found.occurred_at, found.revenue) == ("purchase", 1_700_000_000_000_001, 0.0)


@pytest.mark.parametrize("ahead", [0, 59_999_999, 60_000_000])
def test_clock_of_a_caller_may_be_a_minute_ahead(ahead):
    at = NOW + ahead
    (found,) = recorded(event(occur_time={"seconds": at // SECOND, "nanos": at % SECOND * 1000}))
    assert found.occurred_at == at


@pytest.mark.parametrize(
    "time",
    [
        {"seconds": NOW // SECOND + 60, "nanos": 1_000},
        {"seconds": -1},
        {"seconds": 0},  # the zero of a clock
        {"seconds": EARLIEST // SECOND - 1},
        {"seconds": 2**63 - 1},
        {"seconds": -(2**63)},
        {"nanos": -1_000_000},
    ],
)
def test_event_of_the_future_or_before_the_products_range_is_refused(time):
    assert event_refusal(occur_time=time).startswith("events[1].occur_time == ")
    assert event_refusal(occur_time=time).endswith(
        f", must be from 1990-01-01 until one minute after the present, {from_micros(NOW):%Y-%m-%d %H:%M:%S} UTC"
    )


def test_instant_of_a_refused_event_is_told_as_people_read_it():
    assert "occur_time == 1970-01-01 00:00:05 UTC, must" in event_refusal(occur_time={"seconds": 5})


def test_ids_are_trimmed_as_the_night_trims_them():
    ids = [" s1", "s1\u00a0", "\ufeffs1\r\n", "s 1"]
    page = checked(user_id="ann\u200b ", session_sale_ids=ids, allowed_sale_ids=ids, denied_sale_ids=ids)
    assert page.user_id == "ann"
    assert page.session == [*[Visit("s1")] * 3, Visit("s 1")]
    assert page.allowed == page.denied == ["s1", "s1", "s1", "s 1"]
    assert check_sale_id("s1 ", LIMITS) == "s1"
    (found,) = recorded(event(user_id="\tann", sale_id="s1 "))
    assert (found.user_id, found.sale_id) == ("ann", "s1")
    assert event_refusal(user_id="\u200b ") == "events[1].user_id == '', must not be empty"


@pytest.mark.parametrize("name", ["user_id", "sale_id"])
def test_event_without_user_or_sale_is_refused(name):
    assert event_refusal(**{name: ""}) == f"events[1].{name} == '', must not be empty"


def test_event_of_a_sale_that_the_snapshot_does_not_know_is_refused_by_itself():
    events = [event(), event(sale_id="s" * 30), event(kind=0, sale_id="s3"), event(sale_id="s2")]
    accepted, refused, of_unknown_sales = checked_all(*events, known_sales={"s1", "s2"})
    assert ([each.sale_id for each in accepted], of_unknown_sales) == (["s1", "s2"], 1)
    assert [each.index for each in refused] == [1, 2]
    assert refused[0].reason == ("events[1].sale_id == 'ssssssssssssssssssss…', must be a sale that the snapshot knows")


def test_id_of_an_event_is_the_callers_if_there_is_one():
    (found,) = recorded(event(event_id="click-7"))
    assert b'"event_id":"click-7"' in encode_event(found)


def test_replay_of_the_past_takes_the_clocks_of_callers_for_its_own():
    behind = 5_000 * 3600 * SECOND
    present, of_replay = NOW + behind - SECOND, NOW - 7 * SECOND
    instants = [{"seconds": at // SECOND} for at in (present, of_replay)]
    found = recorded(*(event(occur_time=at) for at in instants), behind=behind)
    assert [each.occurred_at for each in found] == [NOW - SECOND, of_replay]
    too_late = event(occur_time={"seconds": (NOW + behind) // SECOND + 61})
    assert len(checked_all(event(), too_late, behind=behind).refused) == 1


@pytest.mark.parametrize("name", ["user_id", "sale_id", "attribution_token", "event_id"])
def test_event_with_a_long_text_is_refused(name):
    assert event_refusal(**{name: LONG}).startswith(f"events[1].{name} == 'ééé")


@pytest.mark.parametrize("kind", [0, 3, -1])
def test_event_of_unknown_kind_is_refused(kind):
    rule = f"events[1].kind == {kind}, must be EVENT_KIND_VISIT or EVENT_KIND_PURCHASE"
    assert event_refusal(kind=kind) == rule


@pytest.mark.parametrize("revenue", [-0.01, 1.01e12, 1.7e308, math.inf, -math.inf, math.nan])
def test_revenue_that_is_not_an_amount_is_refused(revenue):
    assert event_refusal(revenue=revenue) == f"events[1].revenue == {revenue}, must be a number in 0..1e+12"


def test_revenue_of_the_weakest_currency_is_accepted():
    assert recorded(event(revenue=1e12))[0].revenue == 1e12


@pytest.mark.parametrize("count", [0, 501])
def test_number_of_events_has_a_range(count):
    with pytest.raises(ConfigurationError, match=rf"^events has {count} entries, must have 1\.\.500$"):
        recorded(*[event()] * count)
    assert len(recorded(*[event()] * 500)) == 500


@given(st.lists(EVENTS, max_size=3))
def test_any_event_can_be_logged_or_is_refused_with_a_rule(events):
    if not events:
        return
    accepted, refused, _ = checked_all(*events)
    assert len(accepted) + len(refused) == len(events)
    assert all(encode_event(each).endswith(b"\n") for each in accepted)
    for each in refused:
        assert_is_short_rule(ConfigurationError(each.reason))


# Sales.


def test_id_of_a_sale_is_checked():
    assert check_sale_id("s1", LIMITS) == "s1"
    with pytest.raises(ConfigurationError, match="sale_id == '', must be a sale id"):
        check_sale_id("", LIMITS)
    with pytest.raises(ConfigurationError, match="has 257 bytes, must have at most 256"):
        check_sale_id(LONG, LIMITS)


def test_cost_of_a_request_counts_its_pages_and_their_reasons():
    page, explained = pb.GetTopSalesRequest(n=100), pb.GetTopSalesRequest(explain=True)
    assert cost_of(page) == 1
    assert cost_of(explained) == 10
    assert cost_of(pb.GetSimilarSalesRequest(page=page)) == 3
    assert cost_of(pb.BatchGetTopSalesRequest(requests=[page, explained, page])) == 12
    assert cost_of(pb.RecordEventsRequest()) == 1
