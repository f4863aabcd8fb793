"""Starts and stops one process of the gRPC service."""

import logging
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha.reflection import ReflectionServicer
from recommendations.v1 import admin_pb2
from recommendations.v1 import recommendations_pb2 as pb

from recsys.config.serving import ServingSettings, host_and_port
from recsys.errors import ConfigurationError, DamagedRecordError, SnapshotError, StoreError
from recsys.instants import SECOND, to_micros
from recsys.logs.records import EXPOSURES, RECORDED_EVENTS, Exposure, RecordedEvent, encode_event, encode_exposure
from recsys.snapshot.format import Snapshot
from serving.answers.live_counts import LatestCounts
from serving.answers.pages import PageRequest, Visit
from serving.answers.reason_texts import Languages
from serving.answers.top_sales import TopSales
from serving.api.access import Access, credentials
from serving.api.admin import AdminServicer, Status
from serving.api.certificates import read_certificate
from serving.api.guard import REFLECTION_SERVICES, MethodGuard
from serving.api.health_checks import HEALTH, HealthChecks, health_methods
from serving.api.servicer import RecommendationsServicer
from serving.api.turns import Turns
from serving.api.waiting import WaitingRequests
from serving.clocks import Clock, ReplayClock, system_clock
from serving.process.background import Background
from serving.process.experiments import ExperimentsWatcher
from serving.process.threads import AnswerThreads
from serving.process.watcher import RulesWatcher, SnapshotWatcher
from serving.stores import open_store
from serving.telemetry.metrics import Metrics, MetricsServer
from serving.telemetry.pull_status import read_status
from serving.telemetry.record_log import RecordLog
from serving.telemetry.recorder import Recorder
from serving.telemetry.tracing import make_tracer
from serving.telemetry.troubles import Troubles

_RECOMMENDATIONS = pb.DESCRIPTOR.services_by_name["Recommendations"]
_ADMIN = admin_pb2.DESCRIPTOR.services_by_name["Admin"]
SERVICE = _RECOMMENDATIONS.full_name
ADMIN = _ADMIN.full_name
FRESH = f"{SERVICE}/fresh"
"""The health check that is SERVING while there is no problem: the newest snapshot is served and covers the present."""
STORE = "store"
WITHDRAWALS = "closed and hidden sales"
LIVE_COUNTS = "live counts"
PULL = "pull of snapshots"
_WARM_UP_PAGES = 50
_REFLECTION_STREAMS = 8
_HANDSHAKE_SECONDS = 10
_KEEPALIVE_SECONDS = 60

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Server:
    """A running process of the service; leaving its context stops it."""

    port: int
    target: str
    """The address for clients, host:port."""
    admin_target: str | None
    metrics_port: int | None
    watcher: SnapshotWatcher
    health: HealthChecks
    grpc_server: grpc.Server
    resources: ExitStack
    drain_seconds: float

    def stop(self) -> None:
        """Drain and stop: refuse new requests, finish the running ones, and write the logs."""
        self.health.drain()
        self.grpc_server.stop(self.drain_seconds).wait()
        self.resources.close()

    def __enter__(self) -> "Server":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def start_server(
    settings: ServingSettings, folder: Path, clock: Clock | None = None, shares_ports: bool = False
) -> Server:
    """Start the service: load the current snapshot, if there is one, and warm up before it reports that it is ready.

    Args:
        settings: The service's settings; port 0 takes any free port, which the returned server names.
        folder: The shop's folder: snapshots are read from it, logs and state written to it.
        clock: Replaces the clock that the settings name.
        shares_ports: Whether other processes of the same service listen on the same ports.

    Raises:
        ConfigurationError: If it cannot listen on an address.
    """
    with ExitStack() as stack:
        return ServiceProcess(settings, folder, clock or clock_of(settings), stack, shares_ports).start()


class ServiceProcess:
    """The parts of one process of the service, and how they are connected.

    Args:
        settings: The service's settings.
        folder: The shop's folder.
        clock: Returns the present time.
        stack: Closes the parts.
        shares_ports: Whether other processes of the same service listen on the same ports.
        puts_in_force: Whether it puts changed experiment files in force.
    """

    def __init__(
        self,
        settings: ServingSettings,
        folder: Path,
        clock: Clock,
        stack: ExitStack,
        shares_ports: bool = False,
        puts_in_force: bool = True,
    ):
        self.settings = settings
        self.folder = folder
        self.shares_ports = shares_ports
        self.clock = clock
        self.stack = stack
        self.troubles = Troubles()
        self.metrics = Metrics()
        Languages(settings.pages)  # a file of sentences that is wrong must not wait for a snapshot
        self.access = Access(settings)
        self.tracer = make_tracer(settings.tracing)
        stack.callback(self.tracer.close)
        stack.callback(self.metrics.flush)
        stack.callback(self._count_exposures)
        self.store = open_store(settings.store, folder, clock, settings.poll_seconds)
        stack.callback(self.store.close)
        self.live_counts = LatestCounts(self.store)
        self.exposures = _exposures(settings, folder) if settings.exposures.enabled else None
        self.events = RecordLog[RecordedEvent](folder / RECORDED_EVENTS, RECORDED_EVENTS, encode_event, durable=True)
        self.counted = 0, 0
        self.pools: list[AnswerThreads] = []
        self.waiting: list[WaitingRequests] = []
        self.turns = Turns(settings.threads)
        self.checks = HealthChecks()
        self.rules = RulesWatcher(Path(settings.rules) if settings.rules else None, self.troubles)
        self.experiments = ExperimentsWatcher(
            Path(settings.experiments) if settings.experiments else None,
            folder,
            self.troubles,
            clock,
            puts_in_force,
        )
        self.watcher = SnapshotWatcher(
            self.store,
            self._prepare,
            self._put_in_force,
            self.troubles,
            loaded=self._update_readiness,
            refused=self.metrics.refused.inc,
        )

    def start(self) -> Server:
        """Listen, load the current snapshot, and begin to answer."""
        self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING, "", SERVICE, ADMIN, FRESH)
        self._start_log(self.events)
        if self.exposures is not None:
            self._start_log(self.exposures)
        public, port = self._public_server()
        admin, admin_port = self._admin_server()
        metrics_port = self._metrics_server()
        # Neither the loading of a snapshot nor a store that hangs may delay what the other threads do.
        tasks = [[self._poll_store], [self._poll, self._update_metrics], [self._update_readiness]]
        threads = [Background(each, self.settings.poll_seconds) for each in tasks]
        threads.append(Background([self.live_counts.read], self.settings.live_counts.read_seconds))
        for thread in threads:
            thread.once()
        public.start()
        if admin:
            admin.start()
            self.stack.callback(lambda: admin.stop(None).wait())
        for thread in threads:
            thread.start()
            self.stack.callback(thread.stop)
        host = self.settings.host
        return Server(
            port=port,
            target=host_and_port(host, port),
            admin_target=host_and_port(host, admin_port) if admin else None,
            metrics_port=metrics_port,
            watcher=self.watcher,
            health=self.checks,
            grpc_server=public,
            resources=self.stack.pop_all(),
            drain_seconds=self.settings.drain_seconds,
        )

    def _start_log(self, log: RecordLog[Any]) -> None:
        log.start()
        self.stack.callback(log.close)

    def follow(self) -> None:
        """Look once for all that may have changed.

        Raises:
            SnapshotError: If no snapshot can be served.
        """
        for look in (self._poll_store, self._poll, self.live_counts.read):
            look()
        if self.watcher.serving() is None:
            raise SnapshotError("; ".join(self.troubles.listed()) or "no snapshot is published: run 'recsys nightly'")

    def servicer(self) -> RecommendationsServicer:
        """Return what answers the requests."""
        return RecommendationsServicer(
            self.settings,
            self.watcher.served,
            self.clock,
            self.store,
            Recorder(self.exposures, self.metrics),
            self.events,
            self.metrics,
            self.troubles,
            self.turns,
        )

    def _public_server(self) -> tuple[grpc.Server, int]:
        server = self._grpc_server(_RECOMMENDATIONS, self.servicer(), self.settings.threads)
        return server, self._listen(server, self.settings.port, "port")

    def _admin_server(self) -> tuple[grpc.Server | None, int]:
        if self.settings.admin_port is None:
            return None, 0
        servicer = AdminServicer(self.settings, self.store, self.access, self.clock, self._status)
        server = self._grpc_server(_ADMIN, servicer, threads=1)
        return server, self._listen(server, self.settings.admin_port, "admin_port")

    def _grpc_server(self, service: ServiceDescriptor, servicer: object, threads: int) -> grpc.Server:
        settings, limits = self.settings, self.settings.limits
        most = limits.max_concurrent
        waiting = WaitingRequests(most, limits.body_seconds)
        pool = AnswerThreads(threads, 2 * most, waiting)
        self.pools.append(pool)
        self.waiting.append(waiting)
        guard = MethodGuard(
            self.access,
            self.metrics,
            settings.log,
            self.tracer,
            waiting,
            lambda: pool.in_progress,
            most,
            is_admin=service is _ADMIN,
        )
        handlers = [guard.handler(service, servicer), health_methods(self.checks, waiting)]
        if settings.reflection:
            names = (service.full_name, HEALTH, *REFLECTION_SERVICES)
            handlers.append(guard.reflection(ReflectionServicer(names), _REFLECTION_STREAMS))
        return grpc.server(
            pool,  # type: ignore[arg-type]  # grpc accepts any executor
            handlers=handlers,
            options=[
                # Otherwise a second service on the port would start without an error.
                ("grpc.so_reuseport", int(self.shares_ports)),
                ("grpc.max_receive_message_length", limits.max_message_bytes),
                ("grpc.max_concurrent_streams", limits.max_streams),
                # Connections whose other end is gone, or never completes the handshake, are closed.
                ("grpc.server_handshake_timeout_ms", _HANDSHAKE_SECONDS * 1000),
                ("grpc.keepalive_time_ms", _KEEPALIVE_SECONDS * 1000),
                ("grpc.keepalive_timeout_ms", _HANDSHAKE_SECONDS * 1000),
                # A connection stays with one process; a limited age distributes callers again.
                ("grpc.max_connection_age_ms", int(settings.connection_minutes * 60_000)),
                ("grpc.max_connection_age_grace_ms", int(settings.drain_seconds * 1000)),
            ],
        )

    def _listen(self, server: grpc.Server, port: int, key: str) -> int:
        address, tls = host_and_port(self.settings.host, port), self.settings.tls
        try:
            return server.add_secure_port(address, credentials(tls)) if tls else server.add_insecure_port(address)
        except RuntimeError:
            if tls:
                read_certificate(tls)  # raises if the certificate is the cause
            raise _cannot_listen(address, key) from None

    def _metrics_server(self) -> int | None:
        if self.settings.metrics_port is None:
            return None
        host, port = self.settings.host, self.settings.metrics_port
        try:
            server = MetricsServer(self.metrics.registry, host, port, shared=self.shares_ports)
        except OSError:
            raise _cannot_listen(host_and_port(host, port), "metrics_port") from None
        self.stack.callback(server.close)
        return server.port

    def _prepare(self, snapshot: Snapshot) -> TopSales:
        default = self.settings.default_policy
        if default not in snapshot.answered_policies:
            raise SnapshotError(
                f"serving.default_policy == {default!r}, snapshot {snapshot.name} has "
                f"{', '.join(snapshot.all_policies)}: choose one of these in the configuration"
            )
        if isinstance(self.clock, ReplayClock):
            self.clock.begin(snapshot.as_of)
        top_sales = TopSales.of(
            snapshot,
            self.store.version,
            self.store.withdrawn,
            self.settings.pages,
            counts=lambda: self.live_counts.latest()[0],
            is_live=self.settings.ranking == "live",
        )
        top_sales = self._put_in_force(top_sales)
        _warm_up(top_sales, default, self.clock())
        return top_sales

    def _put_in_force(self, top_sales: TopSales) -> TopSales:
        return self.experiments.put_in_force(self.rules.put_in_force(top_sales))

    def _poll_store(self) -> None:
        try:
            self.store.poll()
            self.troubles.clear(STORE)
        except StoreError as error:
            self.troubles.note(STORE, str(error))

    def _update_readiness(self) -> None:
        """Be ready while a snapshot is served, and the process vouches that it knows the closed and hidden sales."""
        bound = self.settings.store.vouch_seconds
        vouches = time.monotonic() - self.store.known_at() <= bound
        text = f"not read for {bound:g} s: no request should be sent here until they are; see problem '{STORE}'"
        self._set_problem(WITHDRAWALS, None if vouches else text)
        self.metrics.vouching.set(vouches)
        code = health_pb2.HealthCheckResponse
        ready = vouches and self.watcher.serving() is not None
        self._set_health(code.SERVING if ready else code.NOT_SERVING, "", SERVICE, ADMIN)

    def _set_health(self, status: Any, *services: str) -> None:
        for service in services:
            self.checks.set(service, status)

    def _poll(self) -> None:
        for waiting in self.waiting:
            waiting.cancel_late()
        self.rules.poll()
        self.watcher.poll()

    def _update_metrics(self) -> None:
        metrics, top_sales = self.metrics, self.watcher.serving()
        metrics.flush()
        metrics.in_flight.set(sum(pool.in_progress for pool in self.pools))
        if self.exposures is not None:
            state = self.exposures.state()
            metrics.exposures_queued.set(state.queued)
            self._set_problem(EXPOSURES, state.problem)
        self._count_exposures()
        self._update_live_counts_metrics()
        self._update_pull_metrics()
        if top_sales is not None:
            with suppress(StoreError):  # a problem of the store's own
                self._update_snapshot_metrics(top_sales)
        troubles = self.troubles.listed()
        metrics.problems.set(len(troubles))
        fresh = top_sales is not None and not troubles
        code = health_pb2.HealthCheckResponse
        self._set_health(code.SERVING if fresh else code.NOT_SERVING, FRESH)

    def _count_exposures(self) -> None:
        """Count what was written and lost since the last call: counters stay when this process ends."""
        if self.exposures is not None:
            state = self.exposures.state()
            self.metrics.exposures_written.inc(state.written - self.counted[0])
            self.metrics.exposures_lost.inc(state.lost - self.counted[1])
            self.counted = state.written, state.lost

    def _update_live_counts_metrics(self) -> None:
        counts, read_at = self.live_counts.latest()
        age, bound = time.monotonic() - read_at, self.settings.live_counts.stale_seconds
        self.metrics.live_counts_age.set(age)
        self.metrics.live_counts_events.set(counts.n_events)
        text = f"not read for {bound:g} s, pages go on with what was known before: {self.live_counts.problem}"
        self._set_problem(LIVE_COUNTS, text if age > bound else None)

    def _update_pull_metrics(self) -> None:
        """Say what the process that pulls snapshots from an object store did, if this machine has one."""
        if (status := read_status(self.folder / "serving")) is not None:
            self._set_problem(PULL, status.show(self.metrics, time.time()))

    def _update_snapshot_metrics(self, top_sales: TopSales) -> None:
        metrics, now, snapshot = self.metrics, self.clock(), top_sales.snapshot
        left = (to_micros(snapshot.horizon_end) - now) / SECOND
        metrics.snapshot_age.set((now - to_micros(snapshot.as_of)) / SECOND)
        metrics.snapshot_left.set(left)
        metrics.open_sales.set(sum(top_sales.open_sales(now).is_open))
        metrics.withdrawn_sales.set(sum(sale.is_withdrawn(now) for sale in self.store.withdrawn().values()))
        late = f"{snapshot.name} lacks the sales that opened in the last {-left / 3600:.0f} h: run 'recsys nightly'"
        self._set_problem("horizon", late if left <= 0 else None)
        self._set_problem("session ranking", top_sales.chooser.session_problem or None)

    def _set_problem(self, kind: str, text: str | None) -> None:
        if text:
            self.troubles.note(kind, text)
        else:
            self.troubles.clear(kind)

    def _status(self) -> Status:
        exposures = self.exposures.state() if self.exposures is not None else None
        return Status(self.watcher.serving(), self.rules.fingerprint, self.troubles.listed(), exposures)


def clock_of(settings: ServingSettings) -> Clock:
    """Return the clock that the settings name."""
    return ReplayClock(settings.replay_start_hours) if settings.clock == "replay" else system_clock


def _exposures(settings: ServingSettings, folder: Path) -> RecordLog[Exposure]:
    chosen = settings.exposures
    return RecordLog(
        folder / EXPOSURES,
        EXPOSURES,
        encode_exposure,
        flush_seconds=chosen.flush_seconds,
        durable=chosen.durable,
        max_queued=chosen.max_queued,
        file_bytes=int(chosen.segment_megabytes * (1 << 20)),
        file_seconds=chosen.segment_seconds,
    )


def _warm_up(top_sales: TopSales, policy: str, now: int) -> None:
    """Answer sample pages: the first ones are slow, and a snapshot that cannot be served must fail here."""
    session = [Visit(sale.sale_id) for sale in top_sales.snapshot.sales[:3]]
    for user_id in ["", *top_sales.snapshot.users.sample(_WARM_UP_PAGES)]:
        for visits in ((), session):
            failure = top_sales.answer(PageRequest(user_id, policy, session=visits), now, "warm-up").failure
            if failure is not None and not isinstance(failure, DamagedRecordError):
                raise failure


def _cannot_listen(address: str, key: str) -> ConfigurationError:
    return ConfigurationError(
        f"cannot listen on {address}, must be an address of this machine that nothing else listens on: "
        f"stop the other service, or set 'serving.host' and 'serving.{key}'"
    )
