import json
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recommendations.v1 import recommendations_pb2 as pb

from recsys.errors import ConfigurationError, DamagedRecordError, SnapshotError
from recsys.instants import HOUR, SECOND
from serving.answers.ranking_choice import RankingChooser
from serving.errors import STATUS_CODES, CallerLeftError, NotRecordedError
from tests.helpers.any_requests import EVENTS, REQUESTS
from tests.helpers.asking import refusal_of, shown
from tests.helpers.in_process import Call, InProcess, timestamp

MINUTE = 60 * SECOND
DEADLINE_NEAR = "The deadline was near: the session was left out."


@pytest.fixture
def service(shop, night):
    """A service that can rank sessions, 2 h after `as_of`."""
    shop.clock.set(2)
    with InProcess(shop.root.parent, shop.clock) as service:
        yield service


def lines(folder: Path) -> list[dict]:
    """The records in the log of events at this moment, in finished and unfinished segments."""
    files = sorted((folder / "recorded_events").glob("*.jsonl*"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def order(response: pb.GetTopSalesResponse) -> list[tuple[str, float]]:
    return [(sale.sale_id, sale.score) for sale in response.sales]


# Pages.


def test_answer_has_the_request_id_of_the_request_or_a_new_one(service):
    assert service.ask(request_id="retry-1").request_id == "retry-1"
    made = {service.ask().request_id for _ in range(50)}
    assert len(made) == 50
    assert {len(request_id) for request_id in made} == {24}


@pytest.mark.parametrize("name", ["home_ranker", "sea_ranker"])
def test_page_names_the_version_of_the_model_whatever_the_model_is_called(shop, make_sale, name):
    shop.publish([make_sale("a")], {"ann": [(0, 0.5, 0)]}, versions={name: "7"})
    with InProcess(shop.root.parent, shop.clock) as service:
        assert (service.ask("ann").policy, service.ask("ann").model_version) == ("meta", "7")


def test_similar_sales_are_logged_as_a_page_of_their_surface_without_a_session(service):
    exposures = []
    service.servicer._recorder.answer = lambda *answer: exposures.append(answer)
    page = pb.GetTopSalesRequest(user_id="ann", n=3, session_sale_ids=["s01"], request_id="like-1")
    written = service.servicer.GetSimilarSales(pb.GetSimilarSalesRequest(sale_id="s02", page=page), Call())
    found = pb.GetTopSalesResponse.FromString(written)
    (request, answer, *_), *_ = exposures
    assert (request.surface, request.session, found.request_id) == ("similar", (), "like-1")
    ids = service.watcher.served().sale_ids
    assert shown(found) == [ids[sale] for sale, *_ in answer.page.picks]
    assert "s02" not in shown(found)


def test_page_that_is_only_looked_at_is_as_usual_and_recorded_nowhere(service):
    recorded = []
    service.servicer._recorder.answer = lambda *answer: recorded.append(answer)
    looked_at = service.ask("ann", preview=True)
    similar = pb.GetSimilarSalesRequest(sale_id="s02", page=pb.GetTopSalesRequest(preview=True))
    service.servicer.GetSimilarSales(similar, Call())
    batch = pb.BatchGetTopSalesRequest(requests=[pb.GetTopSalesRequest(user_id="ann", preview=True)])
    service.servicer.BatchGetTopSales(batch, Call())
    assert recorded == []
    assert order(looked_at) == order(service.ask("ann"))
    assert len(recorded) == 1


def test_preview_leaves_out_rules_and_chooses_what_ranks_and_other_requests_may_not(shop, make_sale, tmp_path):
    rules = tmp_path / "rules.yaml"
    rules.write_text("schema_version: 1\nrules: [{kind: filter, name: no_a, match: {sale_id: a}}]\n")
    shop.publish([make_sale("a"), make_sale("b")], {"ann": [(0, 0.5, 0), (1, 0.4, 0)]})
    with InProcess(shop.root.parent, shop.clock, rules) as service:
        assert shown(service.ask("ann")) == ["b"]
        assert shown(service.ask("ann", preview=True, without_rules=True)) == ["a", "b"]
        assert shown(service.ask("ann", preview=True)) == ["b"]
        for wrong in ({"without_rules": True}, {"ranking": "live"}):
            with pytest.raises(ConfigurationError, match="unless preview"):
                service.ask("ann", **wrong)
        with pytest.raises(ConfigurationError, match="must be live or snapshot"):
            service.ask("ann", preview=True, ranking="liv")


def test_preview_is_ranked_live_or_by_the_night_as_it_says(service):
    uncounted = "the service does not count what users do"
    for ranking, is_said in (("live", True), ("snapshot", False)):  # this service counts nothing
        notes = " ".join(service.ask("u01", preview=True, ranking=ranking).notes)
        assert (uncounted in notes) == is_said, ranking


def test_batch_stops_when_its_caller_has_left(service):
    class LeftAfter(Call):
        looks = 0

        def is_active(self) -> bool:
            self.looks += 1
            return self.looks <= 3

    batch = pb.BatchGetTopSalesRequest(requests=[pb.GetTopSalesRequest()] * 10)
    with pytest.raises(CallerLeftError, match="3 of 10 pages were made"):
        service.servicer.BatchGetTopSales(batch, LeftAfter())


def test_batch_whose_reply_would_be_too_long_is_refused_with_the_number_that_fits(shop, night):
    shop.clock.set(2)
    with InProcess(shop.root.parent, shop.clock) as service:
        size = len(service.servicer.GetTopSales(pb.GetTopSalesRequest(request_id="r" * 24), Call()))
    with InProcess(shop.root.parent, shop.clock, limits={"max_reply_bytes": 7 * size}) as service:
        requests = [pb.GetTopSalesRequest(request_id="r" * 24)] * 8
        assert len(service.batch(requests[:7])) == 7
        with pytest.raises(ConfigurationError, match="requests has 8 entries, must have at most 7: their pages would"):
            service.batch(requests)


def test_batch_answers_each_request_in_order_as_if_it_were_sent_alone(service, night):
    users = ["", *night.users[:3], "stranger"]
    requests = [pb.GetTopSalesRequest(user_id=user, n=3 + row, request_id=f"r-{row}") for row, user in enumerate(users)]
    alone = [service.ask(user, n=3 + row, request_id=f"r-{row}") for row, user in enumerate(users)]
    assert service.batch(requests) == alone


def test_batch_names_the_invalid_request(service):
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
    alone = refusal_of(lambda: many_calls.servicer.GetTopSales(requests[0], Call()))
    together = refusal_of(lambda: many_calls.batch(requests))
    assert {type(alone), type(together)} <= {type(None), ConfigurationError}
    assert alone is None or together is not None


@given(st.lists(EVENTS, max_size=3))
def test_any_events_are_recorded_or_refused_by_an_error_with_a_code(many_calls, events):
    request = pb.RecordEventsRequest(events=events)
    error = refusal_of(lambda: many_calls.servicer.RecordEvents(request, Call()))
    assert type(error) in (type(None), ConfigurationError)
    for event in events:
        many_calls.ask(event.user_id[:60])


@pytest.fixture(scope="module")
def many_calls(new_shop, ranked_shop, tmp_path_factory):
    shop = new_shop(tmp_path_factory.mktemp("shop") / "snapshots")
    shop.point_at(ranked_shop.write(shop.root))
    shop.clock.set(2)
    with InProcess(shop.root.parent, shop.clock) as service:
        yield service


# Recorded events.


def test_events_are_on_disk_when_the_call_returns(service, shop):
    shop.clock.set(3)
    at = shop.clock.micros - HOUR
    event = pb.Event(user_id="ann", sale_id="s01", kind=pb.EVENT_KIND_PURCHASE, occur_time=timestamp(at), revenue=9.5)
    event.attribution_token = "r-1"
    answer = service.servicer.RecordEvents(pb.RecordEventsRequest(events=[event]), Call())
    assert answer.recorded == 1
    (line,) = lines(shop.root.parent)
    assert (line["user_id"], line["sale_id"], line["kind"], line["revenue"]) == ("ann", "s01", "purchase", 9.5)
    assert (line["occurred_at"], line["recorded_at"]) == (at, shop.clock.micros)
    assert line["attribution_token"] == "r-1"


def test_event_has_the_same_id_however_often_it_is_sent(service, shop):
    at = shop.clock.micros - MINUTE
    for _ in range(2):
        service.record("ann", "s01", "s02", at=at)
        shop.clock.micros += SECOND
    first, second, *again = [line["event_id"] for line in lines(shop.root.parent)]
    assert first != second
    assert again == [first, second]


def test_invalid_event_is_named_and_the_others_of_its_request_are_recorded(service, shop, night):
    known = night.sales[1].sale_id
    events = [pb.Event(user_id="ann", sale_id=known, kind=pb.EVENT_KIND_VISIT) for _ in range(500)]
    events[7].kind = 0
    events[11].sale_id = "nowhere"
    for number, event in enumerate(events):
        event.event_id = f"event-{number}"
    response = service.servicer.RecordEvents(pb.RecordEventsRequest(events=events), Call())
    assert response.recorded == 498
    assert [(event.index, event.reason) for event in response.refused] == [
        (7, "events[7].kind == 0, must be EVENT_KIND_VISIT or EVENT_KIND_PURCHASE"),
        (11, "events[11].sale_id == 'nowhere', must be a sale that the snapshot knows"),
    ]
    written = [line["event_id"] for line in lines(shop.root.parent)]
    assert written == [event.event_id for number, event in enumerate(events) if number not in (7, 11)]
    assert service.ask("ann").uses_session
    for cause in ("invalid", "unknown_sale"):
        value = service.metrics.registry.get_sample_value("recsys_refused_events_total", {"cause": cause})
        assert value == 1


def test_request_whose_events_are_all_refused_is_refused(service, shop):
    bad = [pb.Event(user_id="ann", sale_id="nowhere", kind=pb.EVENT_KIND_VISIT)] * 2
    rule = r"^events\[0\]\.sale_id == 'nowhere', must be a sale that the snapshot knows; all 2 events are refused$"
    with pytest.raises(ConfigurationError, match=rule):
        service.servicer.RecordEvents(pb.RecordEventsRequest(events=bad), Call())
    assert lines(shop.root.parent) == []
    assert not service.ask("ann").uses_session


def test_events_of_any_sale_are_recorded_where_the_configuration_says_so(shop, night):
    with InProcess(shop.root.parent, shop.clock, unknown_sales="record") as service:
        service.record("ann", "opened this morning")
    assert [line["sale_id"] for line in lines(shop.root.parent)] == ["opened this morning"]


def test_sale_that_closed_before_the_snapshot_is_known(service, shop, night):
    served = {sale.sale_id for sale in night.sales}
    closed = next(sale_id for sale_id in night.data.catalogue.sale_ids if sale_id not in served)
    service.record("ann", closed)
    assert [line["sale_id"] for line in lines(shop.root.parent)] == [closed]


def test_events_that_cannot_be_written_are_refused_and_change_no_session(shop, night, caplog):
    shop.clock.set(2)
    (shop.root.parent / "recorded_events").write_text("a file where the folder should be")
    with InProcess(shop.root.parent, shop.clock, record_seconds=0.5) as service:
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


def test_rules_are_reloaded_and_an_invalid_file_leaves_the_previous_ones_in_force(shop, make_sale, tmp_path):
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


def test_rules_apply_to_the_next_snapshot_and_after_a_rollback(shop, make_sale, tmp_path):
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
        assert (service.ask().snapshot, shown(service.ask())) == (first, ["b", "c", "a"])


# Failures of a user's ranking.


def test_damage_and_bugs_of_a_users_ranking_are_counted_and_logged_and_a_page_is_sent(
    service, night, monkeypatch, caplog
):
    def failing(error: Exception) -> list[str]:
        monkeypatch.setattr(RankingChooser, "choose", lambda *_: (_ for _ in ()).throw(error))
        return shown(service.ask(night.users[0]))

    popular = shown(service.ask())
    assert failing(DamagedRecordError("sale 9, must be below 2")) == failing(ZeroDivisionError()) == popular
    values = service.metrics.registry.get_sample_value
    for cause in ("damaged_record", "bug"):
        assert values("recsys_ranking_failures_total", {"cause": cause}) == 1
    logged = [record.getMessage() for record in caplog.records if "shows popular sales" in record.getMessage()]
    assert "sale 9, must be below 2" in logged[0]
    assert "ranking failed with ZeroDivisionError" in logged[1]
