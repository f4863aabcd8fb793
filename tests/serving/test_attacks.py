"""Hostile clients: malformed, huge, incomplete and too many requests."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from random import Random

import grpc
import psutil
import pytest
from grpc_reflection.v1alpha import reflection_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recommendations.v1 import admin_pb2
from recommendations.v1 import recommendations_pb2 as pb

from recsys.config.serving import TlsSettings
from serving.answers.top_sales import TopSales
from serving.client import Client
from tests.helpers.asking import SERVING, check_health, held_answers
from tests.helpers.raw_http2 import PREFACE, half_request, is_closed, open_streams, opened, unread_request
from tests.helpers.real_service import PATIENCE, RealService, shown, wait_until
from tests.helpers.scraping import scraped
from tests.helpers.tls_authority import Authority

PUBLIC = "/recommendations.v1.Recommendations/"
ADMIN = "/recommendations.v1.Admin/"
USER = "a-very-secret-user"
EXPECTED = {"OK", "INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "UNIMPLEMENTED", "NOT_FOUND", "FAILED_PRECONDITION"}
MEGABYTE = 1 << 20
_POISON = [b"\xff" * 9 + b"\x01", b"\x80" * 10, b"\x0a\xff\xff\xff\xff\x07", b"\xc3\x28"]
"""The largest varint, one without an end, a length of 2 GB, and bytes that are not UTF-8."""


@pytest.fixture
def service(published, tmp_path) -> Iterator[RealService]:
    """A service with one process, so that its memory can be measured, which logs each request."""
    with RealService(
        tmp_path, workers=1, poll_seconds=0.2, log={"requests": True, "format": "json"}
    ).start() as service:
        yield service.ready()


def send(channel: grpc.Channel, method: str, data: bytes, **options: object) -> str:
    """Send raw bytes, and return the name of the status code."""
    try:
        channel.unary_unary(method)(data, timeout=PATIENCE, **options)
    except grpc.RpcError as error:
        return error.code().name
    return "OK"


def answers_well(service: RealService) -> bool:
    with service.client() as client:
        return shown(client.top_sales("ann", 3)) == ("s00", "s02", "s04")


def valid_messages() -> dict[str, list[bytes]]:
    """Requests with every field set; those that change something name a sale that does not exist."""
    ids = [f"s{number:02d}" for number in range(5)]
    page = pb.GetTopSalesRequest(
        user_id=USER, n=7, policy="meta", session_sale_ids=ids, attributes={"market": "FR", "channel": "mail"},
        surface="mail", allowed_sale_ids=ids, denied_sale_ids=ids[:1], explain=True, request_id="r-1",
    )  # fmt: skip
    event = pb.Event(user_id=USER, sale_id="s00", kind=pb.EVENT_KIND_PURCHASE, attribution_token="r-1", revenue=9.5)
    event.occur_time.FromMilliseconds(1_772_330_000_000)
    hide = admin_pb2.HideSaleRequest(sale_id="none", comment="why")
    hide.until_time.FromSeconds(1_772_350_000)
    return {
        PUBLIC + "GetTopSales": [page.SerializeToString(), pb.GetTopSalesRequest(user_id=USER).SerializeToString()],
        PUBLIC + "BatchGetTopSales": [pb.BatchGetTopSalesRequest(requests=[page] * 3).SerializeToString()],
        PUBLIC + "RecordEvents": [pb.RecordEventsRequest(events=[event] * 2).SerializeToString()],
        ADMIN + "CloseSale": [admin_pb2.CloseSaleRequest(sale_id="none", comment="why").SerializeToString()],
        ADMIN + "HideSale": [hide.SerializeToString()],
        ADMIN + "ShowSale": [admin_pb2.ShowSaleRequest(sale_id="none").SerializeToString()],
    }


def extreme_messages() -> dict[str, list[bytes]]:
    """Requests with the most extreme values that the wire format allows."""
    numbers = (-(1 << 31), -1, 101, (1 << 31) - 1)
    texts = ("x" * 257, "é" * 200, "\0" * 300, "x" * 100_000)
    pages = [pb.GetTopSalesRequest(user_id=USER, n=n) for n in numbers]
    pages += [pb.GetTopSalesRequest(**{name: text}) for name in ("user_id", "policy", "surface") for text in texts]
    pages += [pb.GetTopSalesRequest(user_id=USER, request_id=text) for text in ("é", "a b", "x" * 65, "\n")]
    lists = ("session_sale_ids", "allowed_sale_ids", "denied_sale_ids")
    pages += [pb.GetTopSalesRequest(**{name: ["s"] * 1001}) for name in lists]
    pages += [pb.GetTopSalesRequest(**{name: texts[:1]}) for name in lists]
    pages += [pb.GetTopSalesRequest(attributes=dict.fromkeys(map(str, range(33)), "x"))]
    events = [
        pb.Event(user_id=USER, sale_id="s", kind=1, revenue=value) for value in (-1.0, float("nan"), float("inf"))
    ]
    events += [pb.Event(user_id=USER, sale_id="s", kind=kind) for kind in (0, 3, -1, (1 << 31) - 1)]
    instants = [{"seconds": far} for far in (-(1 << 63), -1, 1 << 62, (1 << 63) - 1)] + [{"nanos": -(1 << 31)}]
    events += [pb.Event(user_id=USER, sale_id="s", kind=1, occur_time=instant) for instant in instants]
    hides = [admin_pb2.HideSaleRequest(sale_id="none", until_time=instant) for instant in instants]
    return {
        PUBLIC + "GetTopSales": [page.SerializeToString() for page in pages],
        PUBLIC + "BatchGetTopSales": [
            pb.BatchGetTopSalesRequest(requests=some).SerializeToString() for some in (pages, [], pages[:1] * 501)
        ],
        PUBLIC + "RecordEvents": [pb.RecordEventsRequest(events=[event]).SerializeToString() for event in events],
        ADMIN + "HideSale": [hide.SerializeToString() for hide in hides],
        ADMIN + "CloseSale": [admin_pb2.CloseSaleRequest(sale_id=text).SerializeToString() for text in ("", *texts)],
        ADMIN + "ShowSale": [admin_pb2.ShowSaleRequest(sale_id=text).SerializeToString() for text in ("", *texts)],
    }


def mutated(random: Random, message: bytes) -> bytes:
    """Flip, cut, repeat or insert some bytes, or replace the whole message."""
    data = bytearray(message)
    for _ in range(random.randint(1, 3)):
        offset, change = random.randrange(len(data) + 1), random.random()
        if change < 0.6:
            data[offset : offset + 1] = random.randbytes(1)
        elif change < 0.7:
            del data[offset:]
        elif change < 0.8:
            data[offset:offset] = data[:offset]
        elif change < 0.9:
            data[offset:offset] = random.choice(_POISON)
        else:
            data = bytearray(random.randbytes(random.randrange(300)))
    return bytes(data[:10_000])


def bombard(channels: Sequence[grpc.Channel], requests: Sequence[tuple[int, str, bytes]]) -> Counter[str]:
    """Send requests from four threads, spread over the channels; return the number of answers by status code."""
    codes: Counter[str] = Counter()

    def work(first: int) -> None:
        codes.update([send(channels[number], method, data) for number, method, data in requests[first::4]])

    threads = [threading.Thread(target=work, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return codes


def test_ten_thousand_malformed_requests_cause_no_error_and_no_stack_trace(service):
    random, valid = Random(5), valid_messages()
    methods = 8 * [method for method in valid if method.startswith(PUBLIC)] + [m for m in valid if m.startswith(ADMIN)]
    chosen = [random.choice(methods) for _ in range(10_000)]
    requests = [(int(m.startswith(ADMIN)), m, mutated(random, random.choice(valid[m]))) for m in chosen]
    process = psutil.Process(service.workers()[0])
    with grpc.insecure_channel(service.target) as public, grpc.insecure_channel(service.admin_target) as admin:
        codes = bombard((public, admin), requests[:2000])
        before = process.memory_info().rss
        codes += bombard((public, admin), requests[2000:])
        grown = process.memory_info().rss - before
    assert codes.keys() <= EXPECTED
    assert codes["INVALID_ARGUMENT"] > 3000
    assert codes["OK"] > 300  # mutations that leave a valid message
    assert grown < 8 * MEGABYTE, f"{grown / MEGABYTE:.1f} MB"
    assert answers_well(service)
    assert USER not in service.log()
    assert "Traceback" not in service.log()


@pytest.mark.parametrize("method", list(extreme_messages()))
def test_extreme_value_is_refused_with_its_rule(published, method):
    server = published.serve()
    target = server.target if method.startswith(PUBLIC) else server.admin_target
    with grpc.insecure_channel(target) as channel:
        for data in extreme_messages()[method]:
            with pytest.raises(grpc.RpcError) as error:
                channel.unary_unary(method)(data, timeout=PATIENCE)
            assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
            assert "must" in error.value.details()
            assert len(error.value.details()) < 500
        assert send(channel, method + "s", b"") == "UNIMPLEMENTED"


KEYS = st.from_regex(r"\A(x-[0-9a-z_.-]{1,20}|authorization|traceparent|tracestate|user-agent|te-[a-z])\Z")
TEXTS = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=200)


@pytest.fixture(scope="module")
def answering(new_shop, make_sale, tmp_path_factory) -> Iterator[grpc.Channel]:
    """A connection to a service of one sale."""
    shop = new_shop(tmp_path_factory.mktemp("shop") / "snapshots")
    shop.publish([make_sale("a")], {"ann": [(0, 0.5, 0)]})
    with shop.services, grpc.insecure_channel(shop.serve().target) as channel:
        yield channel


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(metadata=st.lists(st.tuples(KEYS.filter(lambda key: not key.endswith("-bin")), TEXTS), max_size=8))
def test_any_metadata_is_answered(answering, metadata):
    request = pb.GetTopSalesRequest(user_id="ann").SerializeToString()
    assert send(answering, PUBLIC + "GetTopSales", request, metadata=metadata) == "OK"


@pytest.mark.parametrize("size", [9_000, 100_000, 1_000_000])
def test_huge_metadata_is_refused_and_the_next_request_answered(answering, size):
    code = send(answering, PUBLIC + "GetTopSales", b"", metadata=[("x-huge", "x" * size)])
    assert code in ("OK", "RESOURCE_EXHAUSTED", "UNAVAILABLE")  # the connection may be cut
    assert send(answering, PUBLIC + "GetTopSales", b"", wait_for_ready=True) == "OK"


def test_message_above_the_limit_is_resource_exhausted(published):
    server = published.serve(limits={"max_message_bytes": 10_000})
    with grpc.insecure_channel(server.target) as channel:
        assert send(channel, PUBLIC + "GetTopSales", b"x" * 10_001) == "RESOURCE_EXHAUSTED"
        assert send(channel, PUBLIC + "GetTopSales", b"\xff" * 10_000) == "INVALID_ARGUMENT"


def test_more_concurrent_requests_than_the_limit_are_resource_exhausted(published):
    server = published.serve(limits={"max_concurrent": 5}, metrics_port=0)
    with grpc.insecure_channel(server.target) as channel, held_answers() as free:
        ask = channel.unary_unary(PUBLIC + "GetTopSales")
        running = [ask.future(b"", timeout=PATIENCE) for _ in range(40)]
        wait_until(lambda: sum(call.done() for call in running) == 35)
        free.set()
        assert Counter(call.code().name for call in running) == {"OK": 5, "RESOURCE_EXHAUSTED": 35}
        wait_until(lambda: scraped(server.metrics_port)["recsys_requests_refused_total", "overload"] == 35)
        assert [send(channel, PUBLIC + "GetTopSales", b"") for _ in range(10)] == [
            "OK"
        ] * 10  # none is counted permanently


def test_refusal_needs_no_thread_of_the_service(published):
    server = published.serve(access=TOKEN)
    before = set(threading.enumerate())
    with grpc.insecure_channel(server.target) as channel:
        codes = [send(channel, PUBLIC + "GetTopSales", b"") for _ in range(20)]
        added = [thread.name for thread in set(threading.enumerate()) - before if not thread.daemon]
    assert codes == ["UNAUTHENTICATED"] * 20
    assert added == []  # daemons are the client's, and those that answer


def answered_within(target: str, seconds: float, count: int = 20) -> bool:
    """Tell whether most requests over new connections are answered in time."""
    times = []
    for _ in range(count):
        began = time.monotonic()
        with Client(target, deadline=PATIENCE) as client:
            assert len(client.top_sales("ann", 3).sales) == 3
        times.append(time.monotonic() - began)
    return sorted(times)[count // 2] < seconds


def test_client_with_a_thousand_idle_connections_blocks_no_other(service):
    process = psutil.Process(service.workers()[0])
    before = process.num_fds()
    with ExitStack() as stack:
        for number in range(1000):
            connection = stack.enter_context(opened(service.target))
            if number % 2:
                connection.sendall(PREFACE)
        wait_until(lambda: process.num_fds() >= before + 1000)
        assert answered_within(service.target, 0.1)
    wait_until(lambda: process.num_fds() < before + 100)
    assert answers_well(service)


@pytest.mark.parametrize("kind", ["half", "unread"])
def test_slow_clients_block_no_other(service, kind):
    batch = pb.BatchGetTopSalesRequest(requests=[pb.GetTopSalesRequest(n=100)] * 500).SerializeToString()
    attack: dict[str, Callable] = {
        "half": lambda: half_request(service.target, PUBLIC + "GetTopSales"),
        "unread": lambda: unread_request(service.target, PUBLIC + "BatchGetTopSales", batch),
    }
    with ExitStack() as stack:
        connections = [stack.enter_context(attack[kind]()) for _ in range(40)]
        assert answered_within(service.target, 0.1)
        assert not any(is_closed(connection) for connection in connections)  # otherwise they were no attack
    assert answers_well(service)
    assert service.stop() == 0


TOKEN = {"callers": [{"name": "shop", "role": "admin", "token_sha256": sha256(b"secret").hexdigest()}]}
HEALTH, REFLECTION = "/grpc.health.v1.Health/", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"


@contextmanager
def streams_of(
    target: str, method: str, count: int, message: bytes | None = None, is_tls: bool = False
) -> Iterator[None]:
    """Hold a number of open streams over 11 connections."""
    with ExitStack() as stack:
        for number in range(11):
            share = len(range(number, count, 11))
            stack.enter_context(open_streams(target, method, share, message, is_tls))
        yield


def assert_all_answered(client: Client, count: int = 20) -> None:
    assert all(shown(client.top_sales("ann", 3)) == ("s00", "s02", "s04") for _ in range(count))


@pytest.mark.parametrize("is_tls", [False, True])
def test_seven_hundred_half_requests_without_a_token_refuse_none_with_one(published, tmp_path, is_tls):
    authority = Authority(tmp_path)
    pair = authority.pair("recsys.test")
    tls = TlsSettings(certificate=str(pair.certificate), key=str(pair.key)) if is_tls else None
    server = published.serve(access=TOKEN, tls=tls, threads=2)
    credentials = grpc.ssl_channel_credentials(authority.file.read_bytes()) if is_tls else None
    client = Client(server.target, deadline=5, token="secret", credentials=credentials)
    with client, streams_of(server.target, PUBLIC + "GetTopSales", 700, is_tls=is_tls):
        assert_all_answered(client)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (PUBLIC + "GetTopSales", None),
        (PUBLIC + "RecordEvents", None),
        (HEALTH + "Check", None),
        (HEALTH + "Watch", None),
        (HEALTH + "Watch", b""),
        (REFLECTION, None),
        (REFLECTION, b""),
    ],
)
def test_open_streams_of_callers_who_need_no_token_block_no_other(published, method, message):
    server = published.serve(reflection=True, threads=2)
    with Client(server.target, deadline=5) as client, streams_of(server.target, method, 1000, message):
        assert_all_answered(client)
        assert check_health(server.target) == SERVING
        request = reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString()
        with grpc.insecure_channel(server.target) as channel:
            assert next(channel.stream_stream(REFLECTION)(iter([request]), timeout=5))


def test_body_that_does_not_come_in_time_ends_its_request(published):
    server = published.serve(limits={"body_seconds": 0.1}, metrics_port=0)
    sent = threading.Event()
    with grpc.insecure_channel(server.target) as channel:
        for method in (PUBLIC + "GetTopSales", HEALTH + "Check"):
            with pytest.raises(grpc.RpcError) as error:
                channel.stream_unary(method)(iter(sent.wait, True), timeout=PATIENCE)
            assert error.value.code() == grpc.StatusCode.CANCELLED
        sent.set()
        assert send(channel, PUBLIC + "GetTopSales", b"") == "OK"
        wait_until(lambda: scraped(server.metrics_port)["recsys_requests_refused_total", "no_body"] == 1)


def test_body_that_comes_late_but_in_time_is_answered(published):
    def late() -> Iterator[bytes]:
        time.sleep(0.2)
        yield b""

    server = published.serve(limits={"body_seconds": 30})
    with grpc.insecure_channel(server.target) as channel:
        assert channel.stream_unary(PUBLIC + "GetTopSales")(late(), timeout=PATIENCE)
        with pytest.raises(grpc.RpcError, match="request == 0 bytes, must be the method's request message"):
            channel.stream_unary(PUBLIC + "GetTopSales")(iter(()), timeout=PATIENCE)


def test_batch_whose_caller_leaves_ends(published, monkeypatch):
    server = published.serve()
    made, answer = [], TopSales.answer

    def slowly(*arguments: object) -> object:
        made.append(1)
        time.sleep(0.01)
        return answer(*arguments)

    monkeypatch.setattr(TopSales, "answer", slowly)
    batch = pb.BatchGetTopSalesRequest(requests=[pb.GetTopSalesRequest()] * 500).SerializeToString()
    with grpc.insecure_channel(server.target) as channel:
        with pytest.raises(grpc.RpcError):
            channel.unary_unary(PUBLIC + "BatchGetTopSales")(batch, timeout=0.1)
        wait_until(lambda: not is_growing(made))
    assert len(made) < 100


def is_growing(made: list[int]) -> bool:
    before = len(made)
    time.sleep(0.05)
    return len(made) > before
