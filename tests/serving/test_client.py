import json
import socket
import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import grpc
import pytest
from recommendations.v1 import recommendations_pb2 as pb
from recommendations.v1 import recommendations_pb2_grpc as pb_grpc

from recsys.errors import ConfigurationError, RecsysError, SnapshotError
from recsys.instants import HOUR, SECOND
from recsys.logs.records import RECORDED_EVENTS
from serving.client import Client, RefusedEventsError, purchase, top_sales, trusting, visit
from serving.clocks import system_clock
from tests.helpers.asking import shown
from tests.helpers.in_process import InProcess
from tests.helpers.waiting import PATIENCE


class Recorded(pb_grpc.RecommendationsServicer):
    """A service that records its requests, and fails a given number of times."""

    def __init__(self) -> None:
        self.requests: list = []
        self.metadata: list[dict] = []
        self.failures: list[grpc.StatusCode] = []
        self.refused: list[pb.RefusedEvent] = []

    def _keep(self, request, context) -> None:
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        if self.failures:
            context.abort(self.failures.pop(0), "as requested")

    def GetTopSales(self, request, context):  # noqa: N802
        self._keep(request, context)
        return pb.GetTopSalesResponse(policy="meta")

    def RecordEvents(self, request, context):  # noqa: N802
        self._keep(request, context)
        return pb.RecordEventsResponse(recorded=len(request.events) - len(self.refused), refused=self.refused)


@pytest.fixture
def recorded():
    return Recorded()


@pytest.fixture
def target(recorded):
    with served(recorded) as target:
        yield target


@contextmanager
def served(servicer: pb_grpc.RecommendationsServicer) -> Iterator[str]:
    """Listen on a free port."""
    server = grpc.server(futures.ThreadPoolExecutor(2))
    pb_grpc.add_RecommendationsServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.fixture
def nowhere() -> str:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"127.0.0.1:{free.getsockname()[1]}"


@pytest.mark.parametrize("token", ["söcret", "secret\n", "a\0b"])
def test_token_that_no_header_can_hold_is_refused_without_being_told(nowhere, token):
    with pytest.raises(ConfigurationError, match="token must be of printable ASCII") as error:
        Client(nowhere, token=token)
    assert token not in str(error.value)


def test_authority_must_be_a_file_that_holds_a_certificate(tmp_path):
    with pytest.raises(ConfigurationError, match=r"--authority == '.*none.pem', must be a readable file: No such file"):
        trusting(tmp_path / "none.pem")
    (tmp_path / "key.pem").write_text("-----BEGIN PRIVATE KEY-----")
    with pytest.raises(ConfigurationError, match=r"--authority == '.*key.pem', must be a PEM file that holds a cert"):
        trusting(tmp_path / "key.pem")


def test_missing_service_is_an_error_that_names_the_command(nowhere):
    with pytest.raises(
        RecsysError, match=f"no service at {nowhere} .*Connection refused.*: start it with 'recsys serve'"
    ):
        top_sales(nowhere, "ann", timeout=PATIENCE)


def test_service_that_does_not_answer_is_an_error_that_names_the_deadline():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        target = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(RecsysError, match=rf"no answer from {target} within 0\.1 s"):
            top_sales(target, "ann", timeout=0.1)


def test_errors_of_the_service_come_back_as_the_same_class(published):
    server = published.serve()
    with pytest.raises(ConfigurationError, match="n == 101"):
        top_sales(server.target, "ann", n=101, timeout=PATIENCE)


def test_service_without_snapshot_is_distinguished_from_no_service(shop):
    with pytest.raises(SnapshotError, match="no snapshot is loaded"):
        top_sales(shop.serve().target, "ann", timeout=PATIENCE)


def test_number_that_does_not_fit_the_wire_is_refused_by_the_service(published):
    with pytest.raises(ConfigurationError, match="n == 2147483647, must be in 1"):
        top_sales(published.serve().target, "ann", n=1 << 40, timeout=PATIENCE)


def test_every_argument_is_a_field_of_the_request(recorded, target):
    with Client(target, deadline=PATIENCE) as client:
        client.top_sales(
            "ann",
            3,
            policy="als",
            session=["s1", "s2"],
            attributes={"market": "FR"},
            surface="mail",
            allowed=["s3"],
            denied=["s4"],
            explain=True,
            request_id="r-1",
            answer_time=datetime(2026, 3, 2, 8, tzinfo=timezone(timedelta(hours=1))),
            only={"country": ["IT", "FR"]},
            without={"theme": ["ski"]},
        )
        client.top_sales()
    assert recorded.requests == [
        pb.GetTopSalesRequest(
            user_id="ann",
            n=3,
            policy="als",
            session_sale_ids=["s1", "s2"],
            attributes={"market": "FR"},
            surface="mail",
            allowed_sale_ids=["s3"],
            denied_sale_ids=["s4"],
            explain=True,
            request_id="r-1",
            answer_time=datetime(2026, 3, 2, 7, tzinfo=UTC),
            filters=[
                pb.AttributeFilter(attribute="country", values=["IT", "FR"]),
                pb.AttributeFilter(attribute="theme", values=["ski"], exclude=True),
            ],
        ),
        pb.GetTopSalesRequest(),
    ]


def test_events_carry_the_token_of_their_page(recorded, target):
    with Client(target, deadline=PATIENCE) as client:
        assert client.record([visit("ann", "s1", "r-1"), purchase("ann", "s2", "r-1", 9.5), visit("bob", "s1")]) == 3
    (request,) = recorded.requests
    first, second, third = request.events
    assert (first.user_id, first.sale_id, first.kind) == ("ann", "s1", pb.EVENT_KIND_VISIT)
    assert first.attribution_token == "r-1"
    assert len({event.event_id for event in request.events} - {""}) == 3
    assert (second.kind, second.revenue) == (pb.EVENT_KIND_PURCHASE, 9.5)
    assert (third.attribution_token, third.HasField("revenue")) == ("", False)


def test_unavailable_service_is_retried(recorded, target):
    recorded.failures = [grpc.StatusCode.UNAVAILABLE] * 2
    with Client(target, deadline=PATIENCE) as client:
        assert client.top_sales("ann").policy == "meta"
        recorded.failures = [grpc.StatusCode.UNAVAILABLE] * 2
        assert client.record([visit("ann", "s1")]) == 1
    assert len(recorded.requests) == 6


@pytest.mark.parametrize("code", [grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INTERNAL])
def test_busy_or_failing_service_is_not_retried(recorded, target, code):
    recorded.failures = [code]
    with (
        Client(target, deadline=PATIENCE) as client,
        pytest.raises(RecsysError, match=f"answered {code.name}: as requested"),
    ):
        client.top_sales("ann")
    assert len(recorded.requests) == 1


def test_token_is_sent_with_each_call(recorded, target):
    with Client(target, deadline=PATIENCE, token="secret") as client:
        client.top_sales()
        client.record([visit("ann", "s1")])
    with Client(target, deadline=PATIENCE) as client:
        client.top_sales()
    assert [metadata.get("authorization") for metadata in recorded.metadata] == ["Bearer secret"] * 2 + [None]


def test_fallback_page_is_returned_where_there_is_no_answer(nowhere):
    seen = []

    def last_good_page(request: pb.GetTopSalesRequest, error: RecsysError) -> pb.GetTopSalesResponse:
        seen.append((request.user_id, type(error)))
        return pb.GetTopSalesResponse(policy="last good")

    with Client(nowhere, deadline=PATIENCE, fallback=last_good_page) as client:
        assert client.top_sales("ann").policy == "last good"
        with pytest.raises(RecsysError, match="no service at"):
            client.record([visit("ann", "s1")])
    assert seen == [("ann", RecsysError)]


def test_batch_returns_pages_in_order(published):
    with Client(published.serve().target, deadline=PATIENCE) as client:
        requests = [pb.GetTopSalesRequest(user_id=user, n=2) for user in ("ann", "bob", "")]
        assert [shown(page) for page in client.batch(requests)] == [["s00", "s02"], ["s05", "s04"], ["s13", "s12"]]


def test_many_threads_may_use_one_client(published):
    pages: list[list[str]] = []
    with Client(published.serve().target, deadline=PATIENCE) as client:
        threads = [threading.Thread(target=lambda: pages.append(shown(client.top_sales("ann", 2)))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert pages == [["s00", "s02"]] * 8


def test_client_without_admin_target_is_an_error(target):
    with Client(target) as client, pytest.raises(RecsysError, match="admin_target == None, must be the address"):
        client.status()


class LosesTheFirstAnswer(pb_grpc.RecommendationsServicer):
    """Records events as the service does, but its first answer is lost."""

    def __init__(self, service: InProcess):
        self._service = service
        self.answers: list[pb.RecordEventsResponse] = []

    def RecordEvents(self, request, context):  # noqa: N802
        self.answers.append(self._service.servicer.RecordEvents(request, context))
        if len(self.answers) == 1:
            self._service.clock.micros += SECOND
            context.abort(grpc.StatusCode.UNAVAILABLE, "the connection broke")
        return self.answers[-1]


def test_event_that_is_retried_after_a_lost_answer_counts_once(published):
    made_by_hand = pb.Event(user_id="ann", sale_id="s00", kind=pb.EVENT_KIND_PURCHASE)
    made_by_hand.occur_time.FromMicroseconds(published.clock() - SECOND)
    published.clock.micros = system_clock()  # the client stamps its events by this clock
    with InProcess(published.root.parent, published.clock) as service:
        losing = LosesTheFirstAnswer(service)
        with served(losing) as target, Client(target, deadline=PATIENCE) as client:
            events = [purchase("ann", "s00", "r-1", 9.5), visit("ann", "s00"), visit("ann", "s00"), made_by_hand]
            assert client.record(events) == 4
        session = service.store.session("ann", published.clock() - HOUR)
    delivered = recorded_lines(published.root.parent)
    ids = [line["event_id"] for line in delivered]
    assert ids[4:] == ids[:4]
    assert len(set(ids)) == 4
    assert delivered[0]["recorded_at"] < delivered[4]["recorded_at"]
    assert [line["occurred_at"] for line in delivered[4:]] == [line["occurred_at"] for line in delivered[:4]]
    assert [event.is_purchase for event in session] == [True, False, False]


def test_refused_events_are_an_error_that_names_some_and_says_that_the_others_are_recorded(recorded, target):
    reasons = [f"events[{index}].kind == 0, must be another" for index in range(5)]
    recorded.refused = [pb.RefusedEvent(index=index, reason=reason) for index, reason in enumerate(reasons)]
    with Client(target, deadline=PATIENCE) as client, pytest.raises(RefusedEventsError) as error:
        client.record([visit("ann", "s1")] * 7)
    assert str(error.value) == (f"5 of 7 events refused, the others are recorded: {'; '.join(reasons[:3])}; and 2 more")
    assert [event.index for event in error.value.response.refused] == [0, 1, 2, 3, 4]


def recorded_lines(folder: Path) -> list[dict]:
    files = (folder / RECORDED_EVENTS).glob("*.jsonl")
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]
