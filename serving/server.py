"""Starts and stops the gRPC service."""

import logging
import signal
import threading
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from recommendations.v1 import recommendations_pb2 as pb
from recommendations.v1 import recommendations_pb2_grpc as pb_grpc

from recsys.errors import ConfigurationError, SnapshotError
from recsys.serving_settings import ServingSettings
from recsys.snapshot import Snapshot
from serving.clocks import Clock, ReplayClock, system_clock
from serving.interceptors import ErrorInterceptor
from serving.servicer import RecommendationsServicer
from serving.top_sales import TopSales
from serving.watcher import SnapshotWatcher

SERVICE = pb.DESCRIPTOR.services_by_name["Recommendations"].full_name
GRACE_SECONDS = 5.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Server:
    """A running service; leaving its context stops it."""

    port: int
    target: str
    """Where clients connect: host:port."""
    watcher: SnapshotWatcher
    health: health.HealthServicer
    grpc_server: grpc.Server

    def stop(self) -> None:
        """Refuse new requests, finish the running ones, and stop."""
        self.health.enter_graceful_shutdown()
        self.grpc_server.stop(GRACE_SECONDS).wait()
        self.watcher.stop()

    def __enter__(self) -> "Server":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def start_server(settings: ServingSettings, snapshots: Path, clock: Clock | None = None) -> Server:
    """Start the service, and load the current snapshot if there is one.

    Args:
        settings: Port 0 takes any free port; the returned server says which.
        snapshots: The folder of snapshots.
        clock: Instead of the one that the settings name.

    Raises:
        ConfigurationError: If the address cannot be listened on.
    """
    clock = clock or _clock(settings)
    checks = health.HealthServicer(experimental_non_blocking=True)
    _set_health(checks, health_pb2.HealthCheckResponse.NOT_SERVING)
    watcher = SnapshotWatcher(
        snapshots,
        prepare=lambda snapshot: _prepared(snapshot, settings, clock),
        loaded=lambda: _set_health(checks, health_pb2.HealthCheckResponse.SERVING),
    )
    server = grpc.server(
        futures.ThreadPoolExecutor(settings.threads, thread_name_prefix="answer"),
        interceptors=[ErrorInterceptor(SERVICE)],
        options=[("grpc.so_reuseport", 0)],  # else a second service on the port would start without a word
    )
    servicer = RecommendationsServicer(watcher.served, clock, settings.default_policy)
    pb_grpc.add_RecommendationsServicer_to_server(servicer, server)
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    port = _listen(server, settings)
    server.start()
    watcher.poll()
    watcher.start(settings.poll_seconds)
    return Server(port, f"{settings.host}:{port}", watcher, checks, server)


def serve(settings: ServingSettings, snapshots: Path) -> None:
    """Run the service until SIGTERM or SIGINT; in the main thread only.

    Raises:
        ConfigurationError: If the address cannot be listened on.
    """
    asked_to_stop = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        for number in before:
            signal.signal(number, lambda *_: asked_to_stop.set())
        with start_server(settings, snapshots) as server:
            _log.info("listening on %s, snapshots from %s", server.target, snapshots)
            asked_to_stop.wait()
            _log.info("stopping")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _clock(settings: ServingSettings) -> Clock:
    return ReplayClock(settings.replay_start_hours) if settings.clock == "replay" else system_clock


def _prepared(snapshot: Snapshot, settings: ServingSettings, clock: Clock) -> TopSales:
    if settings.default_policy not in snapshot.all_policies:
        raise SnapshotError(
            f"serving.default_policy == {settings.default_policy!r}, snapshot {snapshot.name} has "
            f"{', '.join(snapshot.all_policies)}: choose one of these in the configuration"
        )
    top_sales = TopSales(snapshot)
    if isinstance(clock, ReplayClock):
        clock.begin(snapshot.as_of)
    return top_sales


def _set_health(checks: health.HealthServicer, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
    for service in ("", SERVICE):
        checks.set(service, status)


def _listen(server: grpc.Server, settings: ServingSettings) -> int:
    address = f"{settings.host}:{settings.port}"
    try:
        return server.add_insecure_port(address)
    except RuntimeError:
        raise ConfigurationError(
            f"cannot listen on {address}, must be an address of this machine that nothing else listens on: "
            "stop the other service, or set 'serving.host' and 'serving.port'"
        ) from None
