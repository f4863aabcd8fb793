"""Prometheus metrics: added up in the background; any process of the service returns those of all processes."""

import io
import os
import selectors
import socket
from collections import Counter as Tally
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from socketserver import ThreadingMixIn
from threading import Event, Lock, Thread
from time import monotonic
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, make_wsgi_app
from prometheus_client.multiprocess import MultiProcessCollector

from serving.telemetry.metrics_folder import FOLDER_VARIABLE, share_or_keep_alone

_SECONDS = (0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5)
_REQUEST_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_ERRORS = (
    "INVALID_ARGUMENT",
    "UNAUTHENTICATED",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "CANCELLED",
    "UNAVAILABLE",
    "INTERNAL",
)
_REFUSALS = ("unauthenticated", "forbidden", "rate_limit", "overload", "no_body")
_RENDERED_SECONDS = 0.2
_MOST_RENDERED = 8  # formats and compressions
_HALF_REQUESTS = 64
_HALF_SECONDS = 5.0
_HEAD_BYTES = 1 << 16
_MAX_QUEUED = 100_000  # answers that wait to be counted; of more, the oldest are dropped


Answered = tuple[str, str, str, float, float]
"""An answer as the metrics see it: policy, fallback level and variant; the seconds taken to rank and serialise the
page, and to pass it to the exposure log (in durable mode, until it is on disk). A plain tuple, since every request
creates one.
"""


Requested = tuple[str, float]
"""A request as the metrics see it: method, and the seconds from the arrival of its headers until its answer is made."""


class Metrics:
    """The metrics of one process; answers are queued, and added up by `flush`, several times a second.

    Counters whose labels are known exist as 0 from the start: a rate needs a value before the first event.
    """

    def __init__(self) -> None:
        share_or_keep_alone()
        self.registry = registry = CollectorRegistry()
        self._requested: deque[Requested] = deque(maxlen=_MAX_QUEUED)
        self._request_seconds = Histogram(
            "recsys_request_seconds",
            "Time from the arrival of a request until its answer is made, waiting included.",
            ["method"],
            buckets=_REQUEST_SECONDS,
            registry=registry,
        )
        self.in_flight = self._gauge("recsys_requests_in_flight", "Requests that run or wait.", "livesum")
        self.requests_refused = Counter(
            "recsys_requests_refused",
            "Requests refused before they were answered: unauthenticated, forbidden, rate_limit, overload, or no_body "
            "(the body did not come in time).",
            ["reason"],
            registry=registry,
        )
        for reason in _REFUSALS:
            self.requests_refused.labels(reason)
        self._answered: deque[Answered] = deque(maxlen=_MAX_QUEUED)
        self._answers = Counter(
            "recsys_answers", "Pages returned.", ["policy", "fallback", "variant"], registry=registry
        )
        self._stages = Histogram(
            "recsys_answer_seconds", "Time of the stages of an answer.", ["stage"], buckets=_SECONDS, registry=registry
        )
        self.errors = Counter(
            "recsys_errors",
            "Requests that ended in an error.",
            ["method", "code"],
            registry=registry,
        )
        self.redone = Counter(
            "recsys_pages_redone", "Pages made again because a sale opened or closed meanwhile.", registry=registry
        )
        self.ranking_failures = Counter(
            "recsys_ranking_failures",
            "Pages made without the user's ranking: its record is damaged (damaged_record), or there is a bug (bug).",
            ["cause"],
            registry=registry,
        )
        self.events = Counter("recsys_recorded_events", "Events recorded.", ["kind"], registry=registry)
        self.refused_events = Counter(
            "recsys_refused_events",
            "Events refused: the snapshot does not know their sale (unknown_sale), or a value breaks a rule (invalid).",
            ["cause"],
            registry=registry,
        )
        self.refused = Counter("recsys_snapshots_refused", "Snapshots that were refused.", registry=registry)
        for cause in ("damaged_record", "bug"):
            self.ranking_failures.labels(cause)
        for kind in ("visit", "purchase"):
            self.events.labels(kind)
        self.exposures_lost = Counter("recsys_exposures_lost", "Exposures lost.", registry=registry)
        self.exposures_written = Counter("recsys_exposures_written", "Exposures written.", registry=registry)
        self.exposures_queued = self._gauge("recsys_exposures_queued", "Exposures that wait to be written.", "livesum")
        self.snapshot_age = self._gauge("recsys_snapshot_age_seconds", "Time since the snapshot's as_of.", "livemax")
        self.snapshot_left = self._gauge(
            "recsys_snapshot_left_seconds", "Time until the end of the snapshot's horizon.", "livemin"
        )
        self.pull_age = self._gauge(
            "recsys_pull_age_seconds", "Time since the object store last said which snapshot is served.", "livemax"
        )
        self.pull_seconds = self._gauge(
            "recsys_pull_seconds", "Time that the last pull of a snapshot took on this machine.", "livemax"
        )
        self.pull_failing = self._gauge(
            "recsys_pull_failing",
            "1 while snapshots cannot be pulled from the object store; GetStatus says why.",
            "livemax",
        )
        self.published_age = self._gauge(
            "recsys_published_age_seconds",
            "Time since the newest snapshot in the object store was published.",
            "livemax",
        )
        self.live_counts_age = self._gauge(
            "recsys_live_counts_age_seconds",
            "Time since the process read what all processes have counted, or since it started.",
            "livemax",
        )
        self.live_counts_events = self._gauge(
            "recsys_live_counts_events", "Visits and purchases of today and yesterday that count.", "livemax"
        )
        self.open_sales = self._gauge("recsys_open_sales", "Sales that may be shown now.", "livemin")
        self.withdrawn_sales = self._gauge("recsys_withdrawn_sales", "Sales closed or hidden by staff.", "livemax")
        self.vouching = self._gauge(
            "recsys_vouching", "1 while the process knows all closed and hidden sales, 0 when it is cut off.", "livemin"
        )
        self.problems = self._gauge("recsys_problems", "Current problems; GetStatus names them.", "livemax")
        self.workers = self._gauge("recsys_workers", "Running worker processes.", "livesum")
        self.workers.set(1)

    def answered(self, answer: Answered) -> None:
        """Queue an answer, to be counted at the next flush."""
        self._answered.append(answer)

    def expect(self, method: str) -> None:
        """Show a method's errors and times as 0."""
        self._request_seconds.labels(method)
        for code in _ERRORS:
            self.errors.labels(method, code)

    def requested(self, request: Requested) -> None:
        """Queue a request, to be counted at the next flush."""
        self._requested.append(request)

    def flush(self) -> None:
        """Add up the requests and answers since the last flush."""
        requests = [self._requested.popleft() for _ in range(len(self._requested))]
        for method in {method for method, _ in requests}:
            seconds = [took for each, took in requests if each == method]
            _observe(self._request_seconds.labels(method), _REQUEST_SECONDS, seconds)
        if not self._answered:
            return
        answers = [self._answered.popleft() for _ in range(len(self._answered))]
        policies, levels, variants, rank, log = zip(*answers, strict=True)
        for labels, count in Tally(zip(policies, levels, variants, strict=True)).items():
            self._answers.labels(*labels).inc(count)
        _observe(self._stages.labels("rank"), _SECONDS, rank)
        _observe(self._stages.labels("log"), _SECONDS, log)

    def _gauge(self, name: str, text: str, mode: str) -> Gauge:
        return Gauge(name, text, registry=self.registry, multiprocess_mode=mode)  # type: ignore[arg-type]


def _observe(histogram: Histogram, bounds: Sequence[float], seconds: Sequence[float]) -> None:
    """Add many observations at once: one by one, each would take a lock and write two numbers."""
    counts = np.bincount(np.searchsorted(bounds, seconds), minlength=len(bounds) + 1)
    for bucket in np.flatnonzero(counts).tolist():
        histogram._buckets[bucket].inc(int(counts[bucket]))
    histogram._sum.inc(sum(seconds))


class MetricsServer:
    """Serves the metrics of all processes over HTTP; all processes of a service can share the port.

    Args:
        registry: The metrics of this process.
        host: The address to listen on.
        port: The port; 0 for any free one.
        shared: Whether other processes listen on the port too.
    """

    def __init__(self, registry: CollectorRegistry, host: str, port: int, shared: bool):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._server = _Server((host, port), family, shared)
        self._server.set_app(_rendered(make_wsgi_app(_of_all_processes(registry))))
        self.port: int = self._server.server_port
        self._thread = Thread(target=self._server.serve_forever, args=(0.1,), name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _of_all_processes(registry: CollectorRegistry) -> CollectorRegistry:
    if FOLDER_VARIABLE not in os.environ:
        return registry
    shared = CollectorRegistry()
    MultiProcessCollector(shared)
    return shared


def _rendered(app: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    """Return an application that reads the metrics at most five times a second, however often it is asked."""
    kept: dict[object, tuple[float, tuple[Any, ...], list[bytes]]] = {}
    lock = Lock()

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ.get("PATH_INFO") not in ("/", "/metrics"):
            start_response("404 Not Found", [])
            return [b""]
        wanted = environ.get("HTTP_ACCEPT"), environ.get("HTTP_ACCEPT_ENCODING")
        environ["QUERY_STRING"] = ""
        with lock:
            since, start, body = kept.get(wanted, (0.0, (), []))
            if monotonic() - since > _RENDERED_SECONDS:
                if len(kept) >= _MOST_RENDERED:
                    kept.clear()
                started: list[Any] = []
                body = list(app(environ, lambda *arguments: started.extend(arguments)))
                kept[wanted] = monotonic(), (start := tuple(started)), body
        start_response(*start)
        return body

    return answer


class _Handler(WSGIRequestHandler):
    server: "_Server"
    timeout = 5.0

    def setup(self) -> None:
        """Read the request from what was received of it."""
        super().setup()
        self.rfile = io.BufferedReader(io.BytesIO(self.server.head_of(self.request)))

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: Prometheus scrapes every few seconds."""


class _Server(ThreadingMixIn, WSGIServer):
    """Reads the heads of all requests in one thread, and answers in a thread of its own each one that is complete.

    So a caller who sends half requests costs no threads. Few of them are held, each for a short time: at the maximum,
    the oldest gives way to the next.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], family: int, shared: bool):
        self.address_family = family
        self.allow_reuse_port = shared
        self._half: dict[socket.socket, tuple[float, bytes]] = {}
        """By connection whose head is not complete, the time of its beginning and what was received; oldest first."""
        self._heads: dict[socket.socket, bytes] = {}
        self._ended = Event()
        super().__init__(address, _Handler)

    def serve_forever(self, poll_interval: float = 0.5) -> None:
        """Answer requests until `shutdown` is called."""
        self.socket.setblocking(False)
        with selectors.DefaultSelector() as selector:
            selector.register(self.socket, selectors.EVENT_READ)
            while not self._ended.is_set():
                for key, _ in selector.select(poll_interval):
                    if key.fileobj is self.socket:
                        self._accept(selector)
                    else:
                        self._receive(key.fileobj, selector)  # type: ignore[arg-type]  # a socket, too
                for connection, (since, _) in list(self._half.items()):
                    if monotonic() - since > _HALF_SECONDS:
                        self._hang_up(connection, selector)
            for connection in list(self._half):
                self._hang_up(connection, selector)

    def shutdown(self) -> None:
        """Let `serve_forever` end."""
        self._ended.set()

    def head_of(self, connection: socket.socket) -> bytes:
        """Return what was received of a request, once."""
        return self._heads.pop(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log nothing: the other end has gone, or was hung up on."""

    def _accept(self, selector: selectors.BaseSelector) -> None:
        try:
            connection, _ = self.socket.accept()
        except OSError:  # another process of the service took it, or it has gone
            return
        if len(self._half) >= _HALF_REQUESTS:
            self._hang_up(next(iter(self._half)), selector)
        connection.setblocking(False)
        self._half[connection] = monotonic(), b""
        selector.register(connection, selectors.EVENT_READ)

    def _receive(self, connection: socket.socket, selector: selectors.BaseSelector) -> None:
        if connection not in self._half:  # hung up on a moment ago
            return
        since, head = self._half[connection]
        try:
            received = connection.recv(_HEAD_BYTES)
        except OSError:
            received = b""
        head += received
        if not received or len(head) > _HEAD_BYTES:
            self._hang_up(connection, selector)
        elif b"\r\n\r\n" in head or b"\n\n" in head:
            del self._half[connection]
            selector.unregister(connection)
            connection.setblocking(True)
            self._heads[connection] = head
            self.process_request(connection, ("", 0))
        else:
            self._half[connection] = since, head

    def _hang_up(self, connection: socket.socket, selector: selectors.BaseSelector) -> None:
        del self._half[connection]
        selector.unregister(connection)
        connection.close()
