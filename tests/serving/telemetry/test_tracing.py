import sys
import time
from collections.abc import Callable, Iterator
from concurrent import futures

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from recommendations.v1 import recommendations_pb2 as pb
from recommendations.v1 import recommendations_pb2_grpc as pb_grpc

from recsys.config.serving import TracingSettings
from recsys.errors import ConfigurationError
from serving.process.server import Server
from serving.telemetry.tracing import make_tracer
from tests.helpers.real_service import free_ports
from tests.helpers.waiting import PATIENCE

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """A collector that stores the spans it receives."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.services: set[str] = set()

    def Export(self, request, context):  # noqa: ARG002, N802
        for of_service in request.resource_spans:
            names = [a.value.string_value for a in of_service.resource.attributes if a.key == "service.name"]
            self.services.update(names)
            self.spans += [span for scope in of_service.scope_spans for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    server = grpc.server(futures.ThreadPoolExecutor(1))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    collector.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield collector
    server.stop(None).wait()


@pytest.fixture
def traced(published, collector) -> Callable[[float], Server]:
    return lambda share: published.serve(tracing={"endpoint": collector.endpoint, "share": share})


def ask(server: Server, times: int, *metadata: tuple[str, str], **fields: object) -> list[grpc.StatusCode | None]:
    """Send requests, then stop the server, so that all spans have reached the collector."""
    codes = []
    with server, grpc.insecure_channel(server.target) as channel:
        stub = pb_grpc.RecommendationsStub(channel)
        for _ in range(times):
            try:
                stub.GetTopSales(pb.GetTopSalesRequest(**fields), metadata=metadata, timeout=PATIENCE)
                codes.append(None)
            except grpc.RpcError as error:
                codes.append(error.code())
    return codes


def sampled(flag: str) -> tuple[str, str]:
    return "traceparent", f"00-{TRACE}-{PARENT}-{flag}"


def test_every_request_is_traced_where_all_are(traced, collector):
    ask(traced(1.0), 5, user_id="a-very-secret-user")
    assert [span.name for span in collector.spans] == ["GetTopSales"] * 5
    assert len({span.trace_id for span in collector.spans}) == 5
    assert all(0 < span.end_time_unix_nano - span.start_time_unix_nano < PATIENCE * 1e9 for span in collector.spans)
    assert {span.kind for span in collector.spans} == {Span.SPAN_KIND_SERVER}
    assert collector.services == {"recsys"}
    assert "secret" not in str(collector.spans)


def test_configured_share_of_the_requests_is_traced(traced, collector):
    """Of 400 requests at 0.25, 100 are expected with a standard deviation of 8.7; 50 and 150 are 5.7 of these away."""
    ask(traced(0.25), 400)
    assert 50 < len(collector.spans) < 150


def test_request_that_its_caller_traces_is_traced_within_its_trace(traced, collector):
    ask(traced(0.0), 2, sampled("01"))
    assert {(span.trace_id.hex(), span.parent_span_id.hex()) for span in collector.spans} == {(TRACE, PARENT)}
    assert len({span.span_id for span in collector.spans}) == 2


def test_request_that_its_caller_chose_not_to_trace_is_not(traced, collector):
    ask(traced(1.0), 5, sampled("00"))
    assert collector.spans == []


@pytest.mark.parametrize("header", ["", "00", "00-x-y-01", f"ff-{TRACE}-{PARENT}-01", "é".encode().hex() * 100])
def test_damaged_traceparent_is_ignored(traced, collector, header):
    assert ask(traced(1.0), 1, ("traceparent", header)) == [None]
    assert [span.parent_span_id for span in collector.spans] == [b""]


def test_request_that_fails_is_traced_with_its_error(traced, collector):
    assert ask(traced(1.0), 1, n=101) == [grpc.StatusCode.INVALID_ARGUMENT]
    (span,) = collector.spans
    assert span.status.code == span.status.STATUS_CODE_ERROR
    assert "n == 101" in span.status.message


def test_collector_that_is_down_delays_neither_answers_nor_the_shutdown(published):
    (port,) = free_ports(1)
    server = published.serve(tracing={"endpoint": f"http://127.0.0.1:{port}", "share": 1.0})
    began = time.monotonic()
    assert ask(server, 20) == [None] * 20
    assert time.monotonic() - began < PATIENCE


@pytest.mark.parametrize("module", ["opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.grpc.trace_exporter"])
def test_missing_package_is_an_error_that_names_the_command(monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigurationError, match=r"pip install 'flash-sale-recsys\[tracing\]', or remove the key"):
        make_tracer(TracingSettings(endpoint="http://127.0.0.1:4317"))


def test_nothing_is_traced_and_nothing_needed_where_it_is_not_configured(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    tracer = make_tracer(None)
    with tracer.span("GetTopSales", None):
        pass
    tracer.close()
