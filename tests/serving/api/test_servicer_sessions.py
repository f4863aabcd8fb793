"""The running session: a user's recent events re-rank their next page."""

import pytest
from recommendations.v1 import recommendations_pb2 as pb

from recsys.config.serving import PageSettings
from recsys.errors import StoreError
from recsys.instants import HOUR, SECOND
from tests.helpers.in_process import InProcess

MINUTE = 60 * SECOND
DEADLINE_NEAR = "The deadline was near: the session was left out."


@pytest.fixture
def service(shop, night):
    """A service that can rank sessions, 2 h after `as_of`; sales that were just bought stay in the order of scores."""
    shop.clock.set(2)
    with InProcess(shop.root.parent, shop.clock, pages=PageSettings(just_bought_hours=None)) as service:
        yield service


def order(response: pb.GetTopSalesResponse) -> list[tuple[str, float]]:
    return [(sale.sale_id, sale.score) for sale in response.sales]


def test_recorded_visits_re_rank_the_next_page_as_if_the_website_had_sent_them(service, night):
    session = [night.sales[3].sale_id, night.data.catalogue.sale_ids[20]]
    for user_id in (night.users[0], "visitor-7"):
        before = service.ask(user_id)
        sent = service.ask(user_id, session_sale_ids=session)
        service.record(user_id, *session)
        recorded = service.ask(user_id)
        assert order(recorded) == order(sent) != order(before)
        assert (recorded.uses_session, sent.uses_session, before.uses_session) == (True, True, False)


def test_recorded_purchase_counts_as_a_purchase(service, night):
    first, second = (night.data.catalogue.sale_ids[position] for position in (7, 12))
    position = {sale.sale_id: row for row, sale in enumerate(night.sales)}
    expected = [night.scores("", [(first, False), (second, bought)]) for bought in (False, True)]
    assert abs(expected[0] - expected[1]).max() > 0.01
    for bought, kind in enumerate((pb.EVENT_KIND_VISIT, pb.EVENT_KIND_PURCHASE)):
        service.record(f"user-{kind}", first)
        service.record(f"user-{kind}", second, kind=kind)
        for sale in service.ask(f"user-{kind}").sales:
            assert sale.score == pytest.approx(expected[bought][position[sale.sale_id]], rel=1e-5, abs=1e-5)


def test_session_that_the_website_sends_replaces_the_recorded_one(service, night):
    service.record("visitor", night.sales[1].sale_id)
    sent = service.ask("visitor", session_sale_ids=[night.sales[5].sale_id])
    assert order(sent) == order(service.ask("other", session_sale_ids=[night.sales[5].sale_id]))


def test_one_visitors_session_is_not_anothers(service, night):
    before = service.ask("other")
    service.record("visitor", night.sales[1].sale_id)
    assert order(service.ask("other")) == order(before)
    assert order(service.ask("")) == order(before)


def test_session_ends_after_the_configured_minutes(shop, night):
    shop.clock.set(2)
    with InProcess(shop.root.parent, shop.clock, session={"minutes": 30.0}) as service:
        service.record("visitor", night.sales[1].sale_id)
        recorded_at = shop.clock.micros
        for micros, expected in [(30 * MINUTE, True), (30 * MINUTE + 1, False), (0, True)]:
            shop.clock.micros = recorded_at + micros
            assert service.ask("visitor").uses_session is expected


def test_session_continues_over_midnight(service, shop, night):
    shop.clock.set(23.9)
    service.record("visitor", night.sales[1].sale_id)
    shop.clock.set(24.1)
    response = service.ask("visitor")
    assert response.uses_session
    assert order(response) == order(service.ask("other", session_sale_ids=[night.sales[1].sale_id]))
    service.record("visitor", night.sales[2].sale_id)
    both = [night.sales[1].sale_id, night.sales[2].sale_id]
    assert order(service.ask("visitor")) == order(service.ask("other", session_sale_ids=both))


def test_session_survives_a_restart(shop, night):
    shop.clock.set(2)
    pages = []
    for _ in range(2):
        with InProcess(shop.root.parent, shop.clock) as service:
            if not pages:
                service.record("visitor", night.sales[1].sale_id)
            pages.append(order(service.ask("visitor")))
            assert service.ask("visitor").uses_session
    assert pages[0] == pages[1]


def test_event_before_as_of_is_in_the_history_and_not_counted_twice(service, shop, night):
    as_of = shop.clock.micros - 2 * HOUR
    user_id = night.users[0]
    before = service.ask(user_id)
    shop.clock.micros = as_of + MINUTE
    service.record(user_id, night.sales[1].sale_id, at=as_of - 1)
    assert not service.ask(user_id).uses_session
    assert order(service.ask(user_id)) == order(before)
    service.record(user_id, night.sales[1].sale_id, at=as_of)
    assert service.ask(user_id).uses_session


def test_latest_sales_of_a_long_session_count(shop, night):
    shop.clock.set(2)
    ids = night.data.catalogue.sale_ids[:9]
    with InProcess(shop.root.parent, shop.clock, session={"max_sales": 4}) as service:
        service.record("visitor", *ids)
        assert order(service.ask("visitor")) == order(service.ask("other", session_sale_ids=ids[-4:]))


def test_session_of_sales_that_the_snapshot_does_not_know_says_so(service):
    response = service.ask("visitor", session_sale_ids=["nowhere"])
    assert (response.fallback_level, response.uses_session) == (pb.FALLBACK_LEVEL_POPULAR, False)
    assert response.fallback_reason.startswith("The snapshot knows neither this user nor a sale of the session.")


@pytest.mark.parametrize(("seconds_left", "expected"), [(None, True), (1.0, True), (0.006, True), (0.004, False)])
def test_session_is_left_out_when_the_deadline_is_near(service, night, seconds_left, expected):
    user_id, session = night.users[0], [night.sales[1].sale_id]
    response = service.ask(user_id, seconds_left, session_sale_ids=session)
    assert response.uses_session is expected
    assert list(response.notes) == ([] if expected else [DEADLINE_NEAR])
    assert len(response.sales) == 10
    service.record(user_id, *session)
    assert service.ask(user_id, seconds_left).uses_session is expected


def test_page_comes_without_session_when_the_store_fails(service, night, monkeypatch):
    def fail(*_: object) -> None:
        raise StoreError("out of reach")

    monkeypatch.setattr(service.store, "session", fail)
    monkeypatch.setattr(service.store, "add_to_sessions", fail)
    service.record(night.users[0], night.sales[1].sale_id)
    assert service.ask(night.users[0]).fallback_level == pb.FALLBACK_LEVEL_NONE
    assert service.troubles.listed() == ["sessions: out of reach"]
    monkeypatch.undo()
    service.ask(night.users[0])
    assert service.troubles.listed() == []
