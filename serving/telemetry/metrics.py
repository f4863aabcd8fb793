"""Prometheus metrics: added up in the background; any process of the service returns those of all processes."""

import os
from collections import Counter as Tally
from collections import deque
from collections.abc import Sequence
from socketserver import ThreadingMixIn
from threading import Thread
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, make_wsgi_app
from prometheus_client.multiprocess import MultiProcessCollector

from serving.telemetry.metrics_folder import FOLDER_VARIABLE

_SECONDS = (0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5)
_MAX_QUEUED = 100_000  # answers that wait to be counted; of more, the oldest are dropped


Answered = tuple[str, str, str, float, float]
"""An answer as the metrics see it: policy, fallback level and variant; the seconds taken to rank and serialise the
page, and to pass it to the exposure log (in durable mode, until it is on disk). A plain tuple, since every request
creates one.
"""


class Metrics:
    """The metrics of one process; answers are queued, and added up by `flush`, several times a second."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
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
        self.refused = Counter("recsys_snapshots_refused", "Snapshots that were refused.", registry=registry)
        self.exposures_lost = self._gauge(
            "recsys_exposures_lost", "Exposures lost since the process started.", "livesum"
        )
        self.exposures_written = self._gauge("recsys_exposures_written", "Exposures written.", "livesum")
        self.exposures_queued = self._gauge("recsys_exposures_queued", "Exposures that wait to be written.", "livesum")
        self.snapshot_age = self._gauge("recsys_snapshot_age_seconds", "Time since the snapshot's as_of.", "livemax")
        self.snapshot_left = self._gauge(
            "recsys_snapshot_left_seconds", "Time until the end of the snapshot's horizon.", "livemin"
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

    def flush(self) -> None:
        """Add up the answers since the last flush."""
        if not self._answered:
            return
        answers = [self._answered.popleft() for _ in range(len(self._answered))]
        policies, levels, variants, rank, log = zip(*answers, strict=True)
        for labels, count in Tally(zip(policies, levels, variants, strict=True)).items():
            self._answers.labels(*labels).inc(count)
        _observe(self._stages.labels("rank"), rank)
        _observe(self._stages.labels("log"), log)

    def _gauge(self, name: str, text: str, mode: str) -> Gauge:
        return Gauge(name, text, registry=self.registry, multiprocess_mode=mode)  # type: ignore[arg-type]


def _observe(histogram: Histogram, seconds: Sequence[float]) -> None:
    """Add many observations at once: one by one, each would take a lock and write two numbers."""
    counts = np.bincount(np.searchsorted(_SECONDS, seconds), minlength=len(_SECONDS) + 1)
    for bucket in np.flatnonzero(counts).tolist():
        histogram._buckets[bucket].inc(int(counts[bucket]))
    histogram._sum.inc(sum(seconds))


class MetricsServer:
    """Serves the metrics of all processes over HTTP; all processes of a service can share the port."""

    def __init__(self, metrics: Metrics, host: str, port: int, shared: bool):
        server = _SharedServer if shared else _Server
        self._server = make_server(host, port, make_wsgi_app(_registry(metrics)), server, _QuietHandler)
        self.port: int = self._server.server_port
        self._thread = Thread(target=self._server.serve_forever, args=(0.1,), name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


def _registry(metrics: Metrics) -> CollectorRegistry:
    if FOLDER_VARIABLE not in os.environ:
        return metrics.registry
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    return registry


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _SharedServer(_Server):
    allow_reuse_port = True


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: Prometheus scrapes every few seconds."""
