"""Wraps every method: access control, logs, traces, and the status codes of errors."""

import logging
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from functools import partial
from typing import Any, NoReturn

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha import reflection_pb2

from recsys.config.serving import Caller, LogSettings
from recsys.errors import ConfigurationError, RecsysError
from serving.api.access import Access, Metadata
from serving.api.error_details import trailers
from serving.api.requests import cost_of
from serving.api.waiting import WaitingRequests
from serving.errors import (
    STATUS_CODES,
    ForbiddenError,
    OverloadError,
    TooManyRequestsError,
    UnauthenticatedError,
    listed_base,
)
from serving.telemetry.metrics import Metrics
from serving.telemetry.tracing import Tracer

Begin = Callable[[Metadata], grpc.RpcMethodHandler]
REFLECTION_SERVICES = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
REFUSALS: dict[type, str] = {
    UnauthenticatedError: "unauthenticated",
    ForbiddenError: "forbidden",
    OverloadError: "overload",
    TooManyRequestsError: "rate_limit",
}
_MANY_HALF = 16
_UNEXPECTED = "the service failed on this request: its log has the stack trace"

_log = logging.getLogger(__name__)


class MethodGuard:
    """Checks the callers of one service's methods, and answers each error with its status code and message.

    A caller is checked by the headers, before anything is held for its request; then the body has a limited time to
    come. Therefore methods are registered as if callers streamed their requests, which is the same on the wire: grpc
    would otherwise call a method only when the whole request is there.

    Wraps the methods once, instead of grpc's interceptors, which run for each request: that saves 8 us per request. A
    generic handler, instead of methods registered by name, saves another 15 us.

    Args:
        access: Identifies the callers.
        metrics: The metrics of the process.
        log: Whether and how requests are logged.
        tracer: Traces requests.
        waiting: The requests whose body has not come yet.
        in_progress: Returns the number of requests that run or wait for a thread.
        most: Maximum number of requests in progress whose body has come; others are refused.
        is_admin: Whether only admins may call the methods.
    """

    def __init__(
        self,
        access: Access,
        metrics: Metrics,
        log: LogSettings,
        tracer: Tracer,
        waiting: WaitingRequests,
        in_progress: Callable[[], int],
        most: int,
        is_admin: bool = False,
    ):
        self._access = access
        self._metrics = metrics
        self._log = log
        self._tracer = tracer
        self._traces = tracer.is_on
        self._waiting = waiting
        self._in_progress = in_progress
        self._most = most
        self._is_admin = is_admin

    def handler(self, service: ServiceDescriptor, servicer: object) -> grpc.GenericRpcHandler:
        """Return a handler that calls the servicer's method of the same name for each method of a service."""
        methods = [self._guarded(method, getattr(servicer, method.name)) for method in service.methods]
        names = [f"/{service.full_name}/{method.name}" for method in service.methods]
        return Methods(dict(zip(names, methods, strict=True)))

    def reflection(self, servicer: Any, most: int) -> grpc.GenericRpcHandler:
        """Return a handler of both versions of the reflection service, whose messages are the same on the wire.

        Args:
            servicer: The servicer of reflection.v1alpha.
            most: Maximum number of open streams; each holds a thread, and the oldest gives way.
        """
        streams = self._waiting.like(most)
        threads = futures.ThreadPoolExecutor(most + 1, "reflection")

        def reflect(caller: Caller | None, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
            try:
                self._access.admit(caller, context, self._is_admin)
            except RecsysError as error:
                _abort(error, context)
            streams.begin(context)
            try:
                yield from servicer.ServerReflectionInfo(requests, context)
            finally:
                streams.end(context)

        def begin(metadata: Metadata) -> grpc.RpcMethodHandler:
            try:
                caller = self._access.caller_by_token(metadata)
            except RecsysError as error:
                return self._refusal("ServerReflectionInfo", error)
            behaviour = partial(reflect, caller)
            behaviour.experimental_thread_pool = threads  # type: ignore[attr-defined]
            request, response = reflection_pb2.ServerReflectionRequest, reflection_pb2.ServerReflectionResponse
            return grpc.stream_stream_rpc_method_handler(behaviour, request.FromString, response.SerializeToString)

        return Methods({f"/{name}/ServerReflectionInfo": begin for name in REFLECTION_SERVICES})

    def _guarded(self, method: MethodDescriptor, behaviour: Callable[[Any, grpc.ServicerContext], Any]) -> Begin:
        name, parse = method.name, GetMessageClass(method.input_type).FromString

        def answer(
            arrived: float, caller: Caller | None, bodies: Iterator[bytes], context: grpc.ServicerContext
        ) -> bytes:
            request = None
            try:
                admitted = self._access.admit(caller, context, self._is_admin)
                data = self._waiting.body(bodies, context)
                self._check_room(0)  # some of those that were in progress then waited for their bodies
                request = _parse_request(parse, data)
                self._access.charge(admitted, cost_of(request))
                if self._traces:
                    with self._tracer.span(name, context):
                        response = behaviour(request, context)
                else:
                    response = behaviour(request, context)
                written = response if isinstance(response, bytes) else response.SerializeToString()
            except RecsysError as error:
                self._count_and_log(name, STATUS_CODES[listed_base(error)], request, arrived, _refusal_reason(error))
                _abort(error, context)
            except grpc.RpcError:  # the request was cancelled while its body was waited for
                self._count_and_log(name, grpc.StatusCode.CANCELLED, request, arrived, "no_body")
                raise
            except Exception as error:
                # Stack frames and type only: the message of an unexpected error may contain a user's id.
                stack = {"stack": "".join(traceback.format_tb(error.__traceback__))}
                _log.error("%s failed with %s", name, type(error).__name__, extra=stack)
                self._count_and_log(name, grpc.StatusCode.INTERNAL, request, arrived)
                context.abort(grpc.StatusCode.INTERNAL, _UNEXPECTED)
            self._count_and_log(name, grpc.StatusCode.OK, request, arrived)
            return written

        def begin(metadata: Metadata) -> grpc.RpcMethodHandler:
            arrived = time.perf_counter()
            try:
                self._check_room(1)
                caller = self._access.caller_by_token(metadata)
            except RecsysError as error:
                return self._refusal(name, error)
            return grpc.stream_unary_rpc_method_handler(partial(answer, arrived, caller), None, None)

        self._metrics.expect(name)
        return begin

    def _check_room(self, more: int) -> None:
        waiting = len(self._waiting)
        # While many half requests come, more of them queue, and are gone soon: a complete request waits for them.
        most = self._most if waiting < _MANY_HALF else 8 * self._most
        if self._in_progress() - waiting + more > most:
            raise OverloadError(f"{self._most} requests are in progress, must be fewer: retry later")

    def _refusal(self, method: str, error: RecsysError) -> grpc.RpcMethodHandler:
        """Return a handler that only sends an error, at once: it waits for no page and wakes no other thread."""

        def refuse(_: Iterator[bytes], context: grpc.ServicerContext) -> NoReturn:
            code = STATUS_CODES[listed_base(error)]
            self._count_and_log(method, code, None, time.perf_counter(), _refusal_reason(error))
            _abort(error, context)

        refuse.experimental_thread_pool = _AT_ONCE  # type: ignore[attr-defined]
        return grpc.stream_unary_rpc_method_handler(refuse, None, None)

    def _count_and_log(
        self, method: str, code: grpc.StatusCode, request: Any, arrived: float, refused: str | None = None
    ) -> None:
        seconds = time.perf_counter() - arrived
        if request is not None:
            self._metrics.requested((method, seconds))
        if code is not grpc.StatusCode.OK:
            self._metrics.errors.labels(method, code.name).inc()
        if refused is not None:
            self._metrics.requests_refused.labels(refused).inc()
        if self._log.requests:
            fields = {"method": method, "code": code.name, "milliseconds": round(seconds * 1000, 3)}
            fields |= {"request_id": getattr(request, "request_id", "")}
            if self._log.user_ids:
                fields |= {"user_id": getattr(request, "user_id", "")}
            _log.info(" ".join(f"{name}={value}" for name, value in fields.items()), extra=fields)


class _SameThread(futures.ThreadPoolExecutor):
    """Runs a task in grpc's own thread, for tasks that wait for nothing; grpc accepts only thread pools of this class.

    Waking another thread, which then waits for the interpreter lock, costs several times what a refusal does.
    """

    def submit(self, fn: Callable[..., Any], /, *args: Any, **_: Any) -> Any:
        """Run a task; return None, by which grpc knows that it is done."""
        fn(*args)


_AT_ONCE = _SameThread()


class Methods(grpc.GenericRpcHandler):
    """Handles methods by their full names.

    Args:
        methods: By name, a function that returns the handler of a request with the given metadata.
    """

    def __init__(self, methods: Mapping[str, Begin]):
        self._methods = methods

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """Return the handler of a request; None if the method is another service's."""
        begin = self._methods.get(handler_call_details.method)
        return begin and begin(handler_call_details.invocation_metadata)


def _abort(error: RecsysError, context: grpc.ServicerContext) -> NoReturn:
    context.set_trailing_metadata(trailers(error))
    context.abort(STATUS_CODES[listed_base(error)], str(error))


def _refusal_reason(error: RecsysError) -> str | None:
    return next((REFUSALS[kind] for kind in type(error).__mro__ if kind in REFUSALS), None)


def _parse_request(parse: Callable[[bytes], Any], data: bytes | None) -> Any:
    try:
        if data is not None:
            return parse(data)
    except DecodeError:
        pass
    raise ConfigurationError(
        f"request == {len(data or b'')} bytes, must be the method's request message: generate the client from the proto"
    )
