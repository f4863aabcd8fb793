"""The standard health service, open to everyone: probes present no token, so what they may hold is bounded."""

from collections.abc import Callable, Iterator
from concurrent import futures
from functools import partial
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2

from serving.api.guard import Methods
from serving.api.waiting import WaitingRequests

HALF_CHECKS = 64
"""Requests whose body has not come yet; the oldest gives way."""
MAX_WATCHERS = 100
"""Open streams of `Watch`; the oldest gives way."""


class HealthChecks(health.HealthServicer):
    """The states of the health checks; those who watch one are told its changes, and nothing while it stays."""

    def __init__(self) -> None:
        super().__init__(experimental_non_blocking=True)

    def set(self, service: str, status: Any) -> None:
        """Set the state of a check."""
        if self._server_status.get(service) != status:
            super().set(service, status)


def health_methods(checks: HealthChecks, others: WaitingRequests) -> grpc.GenericRpcHandler:
    """Return a handler of the health service.

    Args:
        checks: The states.
        others: The other requests that wait for their body, which are cancelled together with these.
    """
    waiting = others.like(HALF_CHECKS)
    watchers = others.like(MAX_WATCHERS, seconds=float("inf"))
    threads = futures.ThreadPoolExecutor(HALF_CHECKS + 1, "health")  # none that makes pages is held

    def check(requests: Iterator[Any], context: grpc.ServicerContext) -> health_pb2.HealthCheckResponse:
        return checks.Check(_request(requests, context), context)

    def watch(requests: Iterator[Any], context: grpc.ServicerContext, send: Callable[[Any], None]) -> None:
        request = _request(requests, context)
        watchers.begin(context)
        if not context.add_callback(partial(watchers.end, context)):
            watchers.end(context)  # the caller has left
            return
        checks.Watch(request, context, send)

    def _request(requests: Iterator[Any], context: grpc.ServicerContext) -> Any:
        return waiting.body(requests, context) or health_pb2.HealthCheckRequest()

    watch.experimental_non_blocking = True  # type: ignore[attr-defined]  # holds no thread
    watch.experimental_thread_pool = check.experimental_thread_pool = threads  # type: ignore[attr-defined]
    parse, write = health_pb2.HealthCheckRequest.FromString, health_pb2.HealthCheckResponse.SerializeToString
    methods = {
        "Check": grpc.stream_unary_rpc_method_handler(check, parse, write),
        "Watch": grpc.stream_stream_rpc_method_handler(watch, parse, write),  # type: ignore[arg-type]
    }
    return Methods(
        {f"/{health.SERVICE_NAME}/{name}": lambda _, handler=handler: handler for name, handler in methods.items()}
    )
