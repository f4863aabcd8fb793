"""What a running service says when it is asked: its health, its status, pages, their time, its clock, its metrics."""

import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families
from recommendations.v1 import admin_pb2, admin_pb2_grpc
from recommendations.v1 import recommendations_pb2 as pb
from recommendations.v1 import recommendations_pb2_grpc as pb_grpc

from recsys.config.serving import ServingSettings
from recsys.errors import ConfigurationError
from recsys.instants import SECOND
from serving.api.access import AUTHORIZATION
from serving.api.certificates import read_certificate
from serving.clocks import Clock
from serving.diagnosis.findings import Finding, fail, fail_as, ok, warn
from serving.diagnosis.installation_checks import LOOPBACK

SURFACE = "doctor"
"""The surface of the pages asked for here, so that whoever reads exposures can leave them out."""
_SERVICE = pb.DESCRIPTOR.services_by_name["Recommendations"].full_name
_SERVING = health_pb2.HealthCheckResponse.SERVING
_TIMEOUT_SECONDS = 2.0
_PAGES = 20
_SLOW_SECONDS = 0.05
_CLOCKS_APART = 1 * SECOND


class Service(NamedTuple):
    """Where a service listens, and how to speak to it."""

    settings: ServingSettings
    host: str
    target: str
    token: str | None

    @property
    def admin_target(self) -> str:
        """Where its admin service listens."""
        return f"{self.host}:{self.settings.admin_port}"

    @contextmanager
    def stub(self, kind: Any, target: str) -> Iterator[Any]:
        """Connect to a port."""
        with _channel(self.settings, target, self.host) as channel:
            yield kind(channel)

    def call(self, method: Any, request: Any) -> Any:
        """Send a request, as the holder of the token."""
        metadata = [(AUTHORIZATION, f"Bearer {self.token}")] if self.token else None
        return method(request, timeout=_TIMEOUT_SECONDS, metadata=metadata)


def service_findings(
    settings: ServingSettings, target: str | None, token: str | None, clock: Clock
) -> Iterator[Finding]:
    """Ask a service; what it does not answer is one finding, whatever would have been asked after it."""
    host = (target or "").rpartition(":")[0] or _reachable(settings.host)
    service = Service(settings, host, target or f"{host}:{settings.port}", token)
    yield from _answered("service", service.target, _asked(service, clock))
    yield _metrics(service)


def _asked(service: Service, clock: Clock) -> Iterator[Finding]:
    health = _health(service)
    yield health
    if health.status != "FAIL":
        yield from _answered("page", service.target, _pages(service))
    if service.settings.admin_port is None:
        yield ok("status", "not asked: 'serving.admin_port' is null")
    else:
        yield from _answered("status", service.admin_target, _status(service, clock))


def _answered(name: str, target: str, findings: Iterator[Finding]) -> Iterator[Finding]:
    try:
        yield from findings
    except grpc.RpcError as error:
        yield _unanswered(name, target, error)
    except ConfigurationError as error:  # the certificate cannot be read
        yield fail_as(name, error)


def _reachable(host: str) -> str:
    return "127.0.0.1" if host in ("0.0.0.0", "::", *LOOPBACK) else host


def _channel(settings: ServingSettings, target: str, host: str) -> grpc.Channel:
    """Connect; where the service is encrypted, by its own pair, whatever name it is reached by."""
    tls = settings.tls
    if tls is None:
        return grpc.insecure_channel(target)
    names = read_certificate(tls).names
    certificate, key = Path(tls.certificate).read_bytes(), Path(tls.key).read_bytes()
    own = (key, certificate) if tls.client_authority else (None, None)
    options = [("grpc.ssl_target_name_override", names[0])] if names and host not in names else []
    return grpc.secure_channel(target, grpc.ssl_channel_credentials(certificate, *own), options)


def _health(service: Service) -> Finding:
    with service.stub(health_pb2_grpc.HealthStub, service.target) as stub:
        states = [
            service.call(stub.Check, health_pb2.HealthCheckRequest(service=name)).status == _SERVING
            for name in ("", f"{_SERVICE}/fresh")
        ]
    if not states[0]:
        return fail("health", f"{service.target} answers, but is not ready", "publish a snapshot with 'recsys nightly'")
    if not states[1]:
        return warn("health", f"{service.target} is ready, but something is wrong", "see the problems below")
    return ok("health", f"{service.target} is ready, and nothing is wrong")


def _pages(service: Service) -> Iterator[Finding]:
    seconds = []
    request = pb.GetTopSalesRequest(surface=SURFACE)
    with service.stub(pb_grpc.RecommendationsStub, service.target) as stub:
        page = service.call(stub.GetTopSales, request)
        for _ in range(_PAGES):
            started = time.perf_counter()
            service.call(stub.GetTopSales, request)
            seconds.append(time.perf_counter() - started)
    yield _page(page)
    median = sorted(seconds)[_PAGES // 2]
    found = f"median {median * 1000:.1f} ms, worst {max(seconds) * 1000:.1f} ms of {_PAGES} pages"
    busy = "see whether the machine is busy, or set more 'serving.workers', one a core"
    yield warn("latency", found, busy) if median > _SLOW_SECONDS else ok("latency", found)


def _page(page: pb.GetTopSalesResponse) -> Finding:
    now = page.answer_time.ToNanoseconds()
    closed = [
        sale.sale_id
        for sale in page.sales
        if not sale.open_time.ToNanoseconds() <= now < sale.close_time.ToNanoseconds()
    ]
    if closed:
        return fail("page", f"shows {', '.join(closed)}, not open", "stop the service, and report it")
    found = f"{len(page.sales)} open sales of snapshot {page.snapshot}"
    if page.shortfall_reason:
        return warn("page", f"{found}: {page.shortfall_reason}", "see whether the shop has so few open sales")
    return ok("page", found)


def _status(service: Service, clock: Clock) -> Iterator[Finding]:
    with service.stub(admin_pb2_grpc.AdminStub, service.admin_target) as stub:
        before = clock()
        status = service.call(stub.GetStatus, admin_pb2.GetStatusRequest())
        after = clock()
    yield _problems(status)
    yield _lost(status)
    yield _clock(service.settings, status.present_time.ToMicroseconds(), before, after)


def _problems(status: admin_pb2.GetStatusResponse) -> Finding:
    if status.problems:
        return warn("status", "; ".join(status.problems), "do what each of them says")
    return ok("status", f"process {status.process_id} of {status.workers}, {status.open_sales} open sales, no problem")


def _lost(status: admin_pb2.GetStatusResponse) -> Finding:
    found = f"{status.exposures_queued} queued, {status.exposures_lost} lost since the process started"
    if status.exposures_lost:
        advice = "make room on the disk, correct its permissions, or set a higher 'serving.exposures.max_queued'"
        return fail("exposures", found, advice)
    return ok("exposures", found)


def _clock(settings: ServingSettings, there: int, before: int, after: int) -> Finding:
    if settings.clock == "replay":
        return ok("clock", "not compared: the service replays the past")
    apart = max(before - there, there - after, 0)
    found = f"the service's and this machine's are {apart / SECOND:.1f} s apart"
    if apart > _CLOCKS_APART:
        return warn("clock", found, "set both by NTP: sales close by the service's clock")
    return ok("clock", found)


def _metrics(service: Service) -> Finding:
    settings = service.settings
    if settings.metrics_port is None:
        return ok("metrics", "not asked: 'serving.metrics_port' is null")
    url = f"http://{service.host}:{settings.metrics_port}/metrics"
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as answer:
            families = {each.name: each for each in text_string_to_metric_families(answer.read().decode())}
        workers = sum(sample.value for sample in families["recsys_workers"].samples)
    except (OSError, ValueError, KeyError) as error:
        return warn("metrics", f"{url}: {error}", "see whether the service runs and nothing else has the port")
    found = f"{url} answers for {workers:.0f} of {settings.workers} workers"
    if workers < settings.workers:
        return warn("metrics", found, "see in the service's log why workers end")
    return ok("metrics", found)


def _unanswered(name: str, target: str, error: grpc.RpcError) -> Finding:
    code = error.code()
    if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
        return fail(name, f"{target}: {error.details()}", "give the token of an admin as RECSYS_TOKEN")
    if code is grpc.StatusCode.UNAVAILABLE:
        start = "start it with 'recsys serve', or see its log; with TLS, see that its certificate is the configured one"
        return fail(name, f"{target} is out of reach: {error.details()}", start)
    return fail(name, f"{target} answered {code.name}: {error.details()}", "see the service's log")
