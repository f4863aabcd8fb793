"""The checks that call the running service: its health, status, pages, latency, clock and metrics."""

import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
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
from recsys.wording import plural
from serving.addresses import is_loopback, proxy_options, refuse_token_in_the_clear
from serving.api.access import AUTHORIZATION
from serving.api.certificates import read_certificate
from serving.clocks import Clock
from serving.diagnosis.findings import Finding, fail, fail_as, ok, warn
from serving.diagnosis.installation_checks import LOOPBACK

SURFACE = "doctor"
"""The surface of the pages requested here, so that analyses of exposures can exclude them."""
_SERVICE = pb.DESCRIPTOR.services_by_name["Recommendations"].full_name
_SERVING = health_pb2.HealthCheckResponse.SERVING
_TIMEOUT_SECONDS = 2.0
_PAGES = 20
_SLOW_SECONDS = 0.05
_CLOCKS_APART = 1 * SECOND


class Service(NamedTuple):
    """The address of a service, and how to call it."""

    settings: ServingSettings
    host: str
    target: str
    token: str | None

    @property
    def admin_target(self) -> str:
        """The address of its admin service, host:port."""
        return f"{self.host}:{self.settings.admin_port}"

    @contextmanager
    def stub(self, kind: Any, target: str) -> Iterator[Any]:
        """Connect to a port, and return the stub of one of its services."""
        if self.token and self.settings.tls is None:
            refuse_token_in_the_clear(target, "set 'serving.tls', or call it from its own machine")
        with _channel(self.settings, target, self.host) as channel:
            yield kind(channel)

    def call(self, method: Any, request: Any) -> Any:
        """Send a request with the token."""
        metadata = [(AUTHORIZATION, f"Bearer {self.token}")] if self.token else None
        return method(request, timeout=_TIMEOUT_SECONDS, metadata=metadata)


def service_findings(
    settings: ServingSettings, target: str | None, token: str | None, clock: Clock
) -> Iterator[Finding]:
    """Check a running service; a call that it does not answer gives one finding and ends that group of checks."""
    host = (target or "").rpartition(":")[0] or _reachable_host(settings.host)
    service = Service(settings, host, target or f"{host}:{settings.port}", token)
    yield from _until_unanswered("service", service.target, _all_findings(service, clock))
    yield _metrics_finding(service)


def _all_findings(service: Service, clock: Clock) -> Iterator[Finding]:
    health = _health_finding(service)
    yield health
    if health.status != "FAIL":
        yield from _until_unanswered("page", service.target, _page_findings(service))
    if service.settings.admin_port is None:
        yield ok("status", "not asked: 'serving.admin_port' is null")
    else:
        yield from _until_unanswered("status", service.admin_target, _status_findings(service, clock))


def _until_unanswered(name: str, target: str, findings: Iterator[Finding]) -> Iterator[Finding]:
    try:
        yield from findings
    except grpc.RpcError as error:
        yield _unanswered_finding(name, target, error)
    except ConfigurationError as error:  # the certificate cannot be read, or the token would be sent without TLS
        yield fail_as(name, error)


def _reachable_host(host: str) -> str:
    """Return the address by which this machine reaches a service that listens on a host; IPv6 in brackets."""
    if host in ("::", "::1"):
        return "[::1]"
    return "127.0.0.1" if host in ("0.0.0.0", *LOOPBACK) else f"[{host}]" if ":" in host else host


def _channel(settings: ServingSettings, target: str, host: str) -> grpc.Channel:
    """Connect; to a service with TLS, by trusting its own certificate, whatever host name it is reached by."""
    tls = settings.tls
    if tls is None:
        return grpc.insecure_channel(target, proxy_options(target))
    names = read_certificate(tls).names
    own: tuple[bytes | None, bytes | None] = (None, None)
    if tls.client_authority:
        pair = (tls.probe_key or tls.key, tls.probe_certificate or tls.certificate)
        own = (Path(pair[0]).read_bytes(), Path(pair[1]).read_bytes())
    options = proxy_options(target)
    options += [("grpc.ssl_target_name_override", names[0])] if names and host not in names else []
    return grpc.secure_channel(target, grpc.ssl_channel_credentials(Path(tls.certificate).read_bytes(), *own), options)


def _health_finding(service: Service) -> Finding:
    with service.stub(health_pb2_grpc.HealthStub, service.target) as stub:
        states = [
            service.call(stub.Check, health_pb2.HealthCheckRequest(service=name)).status == _SERVING
            for name in ("", f"{_SERVICE}/fresh")
        ]
    if not states[0]:
        advice = "publish a snapshot with 'recsys nightly', or follow the problem below if the store cannot be read"
        return fail("health", f"{service.target} answers, but is not ready", advice)
    if not states[1]:
        return warn("health", f"{service.target} is ready, but has problems", "see the problems below")
    return ok("health", f"{service.target} is ready, without problems")


def _page_findings(service: Service) -> Iterator[Finding]:
    seconds = []
    request = pb.GetTopSalesRequest(surface=SURFACE)
    with service.stub(pb_grpc.RecommendationsStub, service.target) as stub:
        page = service.call(stub.GetTopSales, request)
        for _ in range(_PAGES):
            started = time.perf_counter()
            service.call(stub.GetTopSales, request)
            seconds.append(time.perf_counter() - started)
    yield _page_finding(page)
    median = sorted(seconds)[_PAGES // 2]
    found = f"median {median * 1000:.1f} ms, maximum {max(seconds) * 1000:.1f} ms of {_PAGES} pages"
    busy = "check the load of the machine, or raise 'serving.workers' up to one per core"
    yield warn("latency", found, busy) if median > _SLOW_SECONDS else ok("latency", found)


def _page_finding(page: pb.GetTopSalesResponse) -> Finding:
    now = page.answer_time.ToNanoseconds()
    closed = [
        sale.sale_id
        for sale in page.sales
        if not sale.open_time.ToNanoseconds() <= now < sale.close_time.ToNanoseconds()
    ]
    if closed:
        return fail("page", f"shows {', '.join(closed)}, not open", "stop the service, and report it")
    found = f"{plural(len(page.sales), 'open sale')} of snapshot {page.snapshot}"
    if page.shortfall_reason:
        return warn("page", f"{found}: {page.shortfall_reason}", "check whether the shop really has so few open sales")
    return ok("page", found)


def _status_findings(service: Service, clock: Clock) -> Iterator[Finding]:
    with service.stub(admin_pb2_grpc.AdminStub, service.admin_target) as stub:
        before = clock()
        status = service.call(stub.GetStatus, admin_pb2.GetStatusRequest())
        after = clock()
    yield _problems_finding(status)
    yield _exposures_finding(status)
    yield _clock_finding(service.settings, status.present_time.ToMicroseconds(), before, after)


def _problems_finding(status: admin_pb2.GetStatusResponse) -> Finding:
    if status.problems:
        return warn("status", "; ".join(status.problems), "follow the next step of each")
    return ok(
        "status",
        f"process {status.process_id}, one of {status.workers}; {plural(status.open_sales, 'open sale')}, no problem",
    )


def _exposures_finding(status: admin_pb2.GetStatusResponse) -> Finding:
    found = f"{status.exposures_queued} queued, {status.exposures_lost} lost since the process started"
    if status.exposures_lost:
        advice = "make room on the disk, correct its permissions, or raise 'serving.exposures.max_queued'"
        return fail("exposures", found, advice)
    return ok("exposures", found)


def _clock_finding(settings: ServingSettings, there: int, before: int, after: int) -> Finding:
    if settings.clock == "replay":
        return ok("clock", "not compared: the service replays the past")
    apart = max(before - there, there - after, 0)
    found = f"the service's clock and this machine's are {apart / SECOND:.1f} s apart"
    if apart > _CLOCKS_APART:
        return warn("clock", found, "synchronise both by NTP: sales open and close by the service's clock")
    return ok("clock", found)


def _metrics_finding(service: Service) -> Finding:
    settings = service.settings
    if settings.metrics_port is None:
        return ok("metrics", "not asked: 'serving.metrics_port' is null")
    url = f"http://{service.host}:{settings.metrics_port}/metrics"
    try:
        with _opener(service.host).open(url, timeout=_TIMEOUT_SECONDS) as answer:
            families = {each.name: each for each in text_string_to_metric_families(answer.read().decode())}
        workers = sum(sample.value for sample in families["recsys_workers"].samples)
    except (OSError, HTTPException, ValueError, KeyError) as error:
        cause = getattr(error, "reason", error)
        why = getattr(cause, "strerror", None) or str(cause) or type(error).__name__
        found = f"{url} gives no metrics of the service: {'other names' if isinstance(error, KeyError) else why}"
        return warn("metrics", found, "check that the service runs and that no other process has the port")
    found = f"{url} answers for {workers:.0f} of {plural(settings.workers, 'worker')}"
    if workers < settings.workers:
        return warn("metrics", found, "see in the service's log why workers end")
    return ok("metrics", found)


def _opener(host: str) -> urllib.request.OpenerDirector:
    """Return what opens a URL of a host: this machine is never asked for through a proxy."""
    return urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if is_loopback(host) else []))


def _unanswered_finding(name: str, target: str, error: grpc.RpcError) -> Finding:
    code = error.code()
    if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
        return fail(name, f"{target}: {error.details()}", "set RECSYS_TOKEN to the token of an admin")
    if code is grpc.StatusCode.UNAVAILABLE:
        start = "start it with 'recsys serve', or see its log; with TLS, check that it uses the configured certificate"
        return fail(name, f"{target} is out of reach: {error.details()}", start)
    return fail(name, f"{target} answered {code.name}: {error.details()}", "see the service's log")
