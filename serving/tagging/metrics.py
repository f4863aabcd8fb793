"""Prometheus metrics of the tagging service."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from recsys.images.tagging.decoding import REASONS

PATHS = ("/v1/tags", "/predict", "/setup", "/health")
_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class TaggingMetrics:
    """The metrics of the one process of the service; counters whose labels are known exist as 0 from the start."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._requests = Counter("recsys_tagging_requests", "Requests.", ["path", "status"], registry=registry)
        self._seconds = Histogram(
            "recsys_tagging_request_seconds",
            "Time from the arrival of a request until it is answered.",
            ["path"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.refused = Counter(
            "recsys_tagging_requests_refused",
            "Requests refused before they were answered: unauthenticated, overload, too_large, or no_body (the body "
            "did not come in time).",
            ["reason"],
            registry=registry,
        )
        for reason in ("unauthenticated", "overload", "too_large", "no_body"):
            self.refused.labels(reason)
        self._photos = Counter(
            "recsys_tagging_photos",
            "Photos: sure, unsure, or the reason why they have no tags.",
            ["outcome"],
            registry=registry,
        )
        for outcome in ("sure", "unsure", *REASONS):
            self._photos.labels(outcome)
        self.in_flight = Gauge("recsys_tagging_requests_in_flight", "Requests in progress.", registry=registry)

    def requested(self, path: str, status: int, seconds: float) -> None:
        """Count a request."""
        path = path if path in PATHS else "other"  # anybody can invent paths
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def tagged(self, outcomes: Iterable[str]) -> None:
        """Count photos by outcome."""
        for outcome in outcomes:
            self._photos.labels(outcome).inc()
