"""The standard health service, open to everyone: probes present no token, so what they may hold is bounded."""

import threading
from collections.abc import Iterator
from concurrent import futures
from functools import partial
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

from serving.api.access import Metadata
from serving.api.guard import Methods
from serving.api.waiting import WaitingRequests

HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
_HALF_CHECKS = 64
"""Requests whose body has not come yet; the oldest gives way."""
_WATCHERS = 64
"""Open streams of `Watch`; the oldest gives way."""
_SPARE_THREADS = 8


class HealthChecks:
    """The states of the health checks; safe for concurrent use by threads.

    Instead of grpc_health's servicer, which waits for its watchers while it holds its lock: one that does not read
    would stop the thread that sets the states, and one that leaves at the wrong moment the whole server.
    """

    def __init__(self) -> None:
        self._states: dict[str, int] = {}
        self._is_final = False
        self._watchers: set[threading.Event] = set()
        self._lock = threading.Lock()

    def set(self, service: str, state: int) -> None:
        """Set the state of a check, unless the process drains."""
        with self._lock:
            if not self._is_final and self._states.get(service) != state:
                self._states[service] = state
                self._wake_watchers()

    def drain(self) -> None:
        """Set all checks to NOT_SERVING for good."""
        with self._lock:
            self._is_final = True
            self._states = dict.fromkeys(self._states, health_pb2.HealthCheckResponse.NOT_SERVING)
            self._wake_watchers()

    def state(self, service: str) -> int | None:
        """Return the state of a check; None if there is none of that name."""
        return self._states.get(service)

    def changes(self, service: str, context: grpc.ServicerContext) -> Iterator[int]:
        """Yield the state of a check, and then each other state, until the request ends."""
        news = threading.Event()  # a watcher's own: if all shared one, each that leaves would wake all others
        context.add_callback(news.set)
        with self._lock:
            self._watchers.add(news)
        try:
            sent = None
            while context.is_active():
                state = self._states.get(service, health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)
                if state != sent:
                    yield state
                    sent = state
                else:
                    news.wait()
                news.clear()  # before the state is read again: a change from here on is not missed
        finally:
            with self._lock:
                self._watchers.discard(news)

    def _wake_watchers(self) -> None:
        for news in self._watchers:
            news.set()


def health_methods(checks: HealthChecks, others: WaitingRequests) -> grpc.GenericRpcHandler:
    """Return a handler of the health service, whose threads are not those that make pages.

    Args:
        checks: The states.
        others: The other requests that wait for their body, which are cancelled together with these.
    """
    waiting, watchers = others.like(_HALF_CHECKS), others.like(_WATCHERS, seconds=float("inf"))

    def check(requests: Iterator[Any], context: grpc.ServicerContext) -> health_pb2.HealthCheckResponse:
        request = waiting.body(requests, context)
        state = checks.state(request.service if request else "")
        if state is None:
            context.abort(grpc.StatusCode.NOT_FOUND, "the health check does not exist: ask for '' or a service's name")
        return health_pb2.HealthCheckResponse(status=state)

    def watch(requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[health_pb2.HealthCheckResponse]:
        watchers.begin(context)
        try:
            request = next(requests, None)
            for state in checks.changes(request.service if request else "", context):
                yield health_pb2.HealthCheckResponse(status=state)
        finally:
            watchers.end(context)

    check.experimental_thread_pool = futures.ThreadPoolExecutor(  # type: ignore[attr-defined]
        _HALF_CHECKS + _SPARE_THREADS, "health"
    )
    watch.experimental_thread_pool = futures.ThreadPoolExecutor(  # type: ignore[attr-defined]
        _WATCHERS + _SPARE_THREADS, "health-watch"
    )
    parse, write = health_pb2.HealthCheckRequest.FromString, health_pb2.HealthCheckResponse.SerializeToString
    handlers = {
        f"/{HEALTH}/Check": grpc.stream_unary_rpc_method_handler(check, parse, write),
        f"/{HEALTH}/Watch": grpc.stream_stream_rpc_method_handler(watch, parse, write),
    }
    return Methods({name: partial(_always, handler) for name, handler in handlers.items()})


def _always(handler: grpc.RpcMethodHandler, _: Metadata) -> grpc.RpcMethodHandler:
    return handler
