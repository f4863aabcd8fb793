import json
import logging
from pathlib import Path

import pytest
from asking import shown
from hypothesis import given
from hypothesis import strategies as st
from in_process import Call, InProcess, timestamp
from recommendations.v1 import recommendations_pb2 as pb
from test_requests import EVENTS, REQUESTS

from recsys.errors import ConfigurationError, RecsysError, SnapshotError, StoreError
from recsys.instants import HOUR, SECOND
from serving.errors import STATUS_CODES
from serving.record_log import NotRecordedError

MINUTE = 60 * SECOND
IN_A_HURRY = "The deadline was near: the session was left out."


@pytest.fixture
def service(shop, night):
    """A service that can rank sessions, 2 h after `as_of`."""
    shop.clock.set(2)
    with InProcess(shop.root.parent, shop.clock) as service:
        yield service


def lines(folder: Path) -> list[dict]:
    """What the log of events holds at this moment, finished or not."""
    files = sorted((folder / "recorded_events").glob("*.jsonl*"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def order(response: pb.GetTopSalesResponse) -> list[tuple[str, float]]:
    return [(sale.sale_id, sale.score) for sale in response.sales]


# Pages.


def test_answer_has_the_request_id_that_was_given_or_one_of_its_own(service):
    assert service.ask(request_id="retry-1").request_id == "retry-1"
    made = {service.ask().request_id for _ in range(50)}
    assert len(made) == 50
    assert {len(request_id) for request_id in made} == {24}


def test_batch_answers_each_request_in_order_as_if_it_came_alone(service, night):
    users = ["", *night.users[:3], "stranger"]
    requests = [pb.GetTopSalesRequest(user_id=user, n=3 + row, request_id=f"r-{row}") for row, user in enumerate(users)]
    alone = [service.ask(user, n=3 + row, request_id=f"r-{row}") for row, user in enumerate(users)]
    assert service.batch(requests) == alone


def test_batch_names_the_request_that_is_wrong(service):
    requests = [pb.GetTopSalesRequest(), pb.GetTopSalesRequest(n=101)]
    with pytest.raises(ConfigurationError, match=r"^requests\[1\]\.n == 101, must be in 1\.\.100"):
        service.batch(requests)
    with pytest.raises(ConfigurationError, match=r"^requests\[0\]\.policy == 'metta', must be one of"):
        service.batch([pb.GetTopSalesRequest(policy="metta")])


@pytest.mark.parametrize("count", [0, 501])
def test_number_of_pages_has_a_range(service, count):
    with pytest.raises(ConfigurationError, match=rf"^requests has {count} entries, must have 1\.\.500$"):
        service.batch([pb.GetTopSalesRequest()] * count)


def test_largest_batch_is_answered(service):
    assert len(service.batch([pb.GetTopSalesRequest(n=1)] * 500)) == 500


@given(st.lists(REQUESTS, min_size=1, max_size=3))
def test_any_request_is_answered_or_refused_by_an_error_with_a_code(many_calls, requests):
    for ask in (lambda: many_calls.batch(requests), lambda: many_calls.servicer.GetTopSales(requests[0], Call())):
        try:
            ask()
        except RecsysError as error:
            assert STATUS_CODES[type(error)].name == "INVALID_ARGUMENT"


@given(st.lists(EVENTS, max_size=3))
def test_any_events_are_recorded_or_refused_by_an_error_with_a_code(many_calls, events):
    try:
        many_calls.servicer.RecordEvents(pb.RecordEventsRequest(events=events), Call())
    except RecsysError as error:
        assert STATUS_CODES[type(error)].name == "INVALID_ARGUMENT"
    for event in events:
        many_calls.ask(event.user_id[:60])


@pytest.fixture(scope="module")
def many_calls(new_shop, ranked_shop, tmp_path_factory):
    shop = new_shop(tmp_path_factory.mktemp("shop") / "snapshots")
    shop.point_at(ranked_shop.write(shop.root))
    shop.clock.set(2)
    with InProcess(shop.root.parent, shop.clock) as service:
        yield service


# The running session.


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


def test_session_that_the_website_sends_takes_the_place_of_the_recorded_one(service, night):
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


def test_session_goes_on_over_midnight(service, shop, night):
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
    service.record("visitor", "nowhere")
    response = service.ask("visitor")
    assert (response.fallback_level, response.uses_session) == (pb.FALLBACK_LEVEL_POPULAR, False)
    assert response.fallback_reason.startswith("The snapshot knows neither this user nor a sale of the session.")


@pytest.mark.parametrize(("seconds_left", "expected"), [(None, True), (1.0, True), (0.006, True), (0.004, False)])
def test_session_is_left_out_when_the_deadline_is_near(service, night, seconds_left, expected):
    user_id, session = night.users[0], [night.sales[1].sale_id]
    response = service.ask(user_id, seconds_left, session_sale_ids=session)
    assert response.uses_session is expected
    assert list(response.notes) == ([] if expected else [IN_A_HURRY])
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


# What is recorded.


def test_events_are_on_disk_when_the_call_returns(service, shop):
    shop.clock.set(3)
    at = shop.clock.micros - HOUR
    event = pb.Event(user_id="ann", sale_id="s1", kind=pb.EVENT_KIND_PURCHASE, occur_time=timestamp(at), revenue=9.5)
    event.attribution_token = "r-1"
    answer = service.servicer.RecordEvents(pb.RecordEventsRequest(events=[event]), Call())
    assert answer.recorded == 1
    (line,) = lines(shop.root.parent)
    assert (line["user_id"], line["sale_id"], line["kind"], line["revenue"]) == ("ann", "s1", "purchase", 9.5)
    assert (line["occurred_at"], line["recorded_at"]) == (at, shop.clock.micros)
    assert line["attribution_token"] == "r-1"


def test_event_is_recorded_by_the_same_id_however_often_it_is_sent(service, shop):
    at = shop.clock.micros - MINUTE
    for _ in range(2):
        service.record("ann", "s1", "s2", at=at)
        shop.clock.micros += SECOND
    first, second, *again = [line["event_id"] for line in lines(shop.root.parent)]
    assert first != second
    assert again == [first, second]


def test_wrong_event_is_named_and_none_of_its_request_is_recorded(service, shop):
    good = pb.Event(user_id="ann", sale_id="s1", kind=pb.EVENT_KIND_VISIT)
    with pytest.raises(ConfigurationError, match=r"^events\[1\]\.kind == 0"):
        service.servicer.RecordEvents(pb.RecordEventsRequest(events=[good, pb.Event(user_id="a", sale_id="b")]), Call())
    assert lines(shop.root.parent) == []
    assert not service.ask("ann").uses_session


def test_events_that_cannot_be_written_are_refused_and_change_no_session(shop, night, caplog):
    shop.clock.set(2)
    (shop.root.parent / "recorded_events").write_text("a file where the folder should be")
    with InProcess(shop.root.parent, shop.clock) as service:
        with pytest.raises(NotRecordedError, match="recorded_events"):
            service.record("ann", night.sales[1].sale_id)
        assert STATUS_CODES[NotRecordedError].name == "UNAVAILABLE"
        assert not service.ask("ann").uses_session
        (shop.root.parent / "recorded_events").unlink()
    assert [record.levelno for record in caplog.records if "recorded_events cannot" in record.getMessage()] == [
        logging.WARNING
    ]


def test_without_snapshot_events_are_recorded_and_pages_refused(shop, tmp_path):
    with InProcess(tmp_path, shop.clock) as service:
        service.record("ann", "s1")
        assert len(lines(tmp_path)) == 1
        with pytest.raises(SnapshotError, match="no snapshot is loaded"):
            service.ask("ann")


# The shop's rules.


def test_rules_are_reloaded_and_a_bad_file_leaves_those_before_in_force(shop, make_sale, tmp_path):
    shop.publish([make_sale(name) for name in "abc"], {})
    rules = tmp_path / "rules.yaml"
    pin = "schema_version: 1\nrules:\n- {kind: pin, name: first, sale_ids: [%s], position: 1}\n"
    rules.write_text(pin % "a")
    with InProcess(shop.root.parent, shop.clock, rules) as service:

        def page() -> tuple[list[str], list[str], list[str]]:
            service.poll()
            response = service.ask()
            return shown(response), list(response.rules), [sale.rule for sale in response.sales]

        assert page() == (["a", "c", "b"], ["first"], ["first", "", ""])
        rules.write_text(pin % "b" + "# b now\n")
        assert page() == (["b", "c", "a"], ["first"], ["first", "", ""])
        before = service.rules.fingerprint
        rules.write_text("schema_version: 1\nrules:\n- {kind: pinn}\n")
        assert page()[0] == ["b", "c", "a"]
        (trouble,) = service.troubles.listed()
        assert trouble.startswith(f"rules: refused: {rules}: 1 wrong:")
        assert trouble.endswith(f"rules {before} stay in force")
        rules.unlink()
        assert page()[0] == ["b", "c", "a"]
        rules.write_text("schema_version: 1\nrules: []\n")
        assert page() == (["c", "b", "a"], [], ["", "", ""])
        assert service.troubles.listed() == []


def test_rules_hold_for_the_next_snapshot_and_after_a_rollback(shop, make_sale, tmp_path):
    sales = [make_sale(name) for name in "abc"]
    rules = tmp_path / "rules.yaml"
    pin = "schema_version: 1\nrules:\n- {kind: pin, name: first, sale_ids: [%s], position: 1}\n"
    rules.write_text(pin % "a")
    first = shop.publish(sales, {})
    with InProcess(shop.root.parent, shop.clock, rules) as service:
        shop.publish(sales, {}, fingerprint="bbbbbbbb")
        service.poll()
        assert shown(service.ask()) == ["a", "c", "b"]
        rules.write_text(pin % "b" + "# b now\n")
        service.poll()
        shop.point_at(first)
        service.poll()
        service.poll()
        assert (service.ask().snapshot, shown(service.ask())) == (first, ["b", "c", "a"])
