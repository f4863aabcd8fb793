"""Wraps every method: access control, logs, traces, and the status codes of errors."""

import logging
import time
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from recsys.config.serving import LogSettings
from recsys.errors import ConfigurationError, RecsysError
from serving.api.access import Access
from serving.errors import ERROR_KEY, STATUS_CODES
from serving.telemetry.metrics import Metrics
from serving.telemetry.tracing import Tracer

_UNEXPECTED = "the service failed on this request: its log has the stack trace"

_log = logging.getLogger(__name__)


class MethodGuard:
    """Checks the callers of one service's methods, and answers each error with its status code and message.

    Wraps the methods once, instead of grpc's interceptors, which run for each request: that saves 8 us per request. A
    generic handler, instead of methods registered by name, saves another 15 us.
    """

    def __init__(
        self,
        access: Access,
        metrics: Metrics,
        log: LogSettings,
        tracer: Tracer,
        is_admin: bool = False,
    ):
        self._access = access
        self._metrics = metrics
        self._log = log
        self._tracer = tracer
        self._traces = tracer.is_on
        self._is_admin = is_admin

    def handler(self, service: ServiceDescriptor, servicer: object) -> grpc.GenericRpcHandler:
        """Return a handler that calls the servicer's method of the same name for each method of a service."""
        methods = {method.name: self._wrapped(method, getattr(servicer, method.name)) for method in service.methods}
        return grpc.method_handlers_generic_handler(service.full_name, methods)

    def _wrapped(self, method: MethodDescriptor, behaviour: Callable[[Any, grpc.ServicerContext], Any]) -> Any:
        name, parse = method.name, GetMessageClass(method.input_type).FromString

        def answer(data: bytes, context: grpc.ServicerContext) -> bytes:
            started, request = time.perf_counter(), None
            try:
                self._access.admit(context, self._is_admin)
                request = _parse_request(parse, data)
                if self._traces:
                    with self._tracer.span(name, context):
                        response = behaviour(request, context)
                else:
                    response = behaviour(request, context)
            except RecsysError as error:
                code = STATUS_CODES[_listed_base(error)]
                self._count_and_log(name, code, request, started)
                _abort(error, code, context)
            except Exception as error:
                # Stack frames and type only: the message of an unexpected error may contain a user's id.
                stack = {"stack": "".join(traceback.format_tb(error.__traceback__))}
                _log.error("%s failed with %s", name, type(error).__name__, extra=stack)
                self._count_and_log(name, grpc.StatusCode.INTERNAL, request, started)
                context.abort(grpc.StatusCode.INTERNAL, _UNEXPECTED)
            if self._log.requests:
                self._count_and_log(name, grpc.StatusCode.OK, request, started)
            return response if isinstance(response, bytes) else response.SerializeToString()

        return grpc.unary_unary_rpc_method_handler(answer, None, None)

    def _count_and_log(self, method: str, code: grpc.StatusCode, request: Any, started: float) -> None:
        if code is not grpc.StatusCode.OK:
            self._metrics.errors.labels(method, code.name).inc()
        if self._log.requests:
            milliseconds = round((time.perf_counter() - started) * 1000, 3)
            fields = {"method": method, "code": code.name, "milliseconds": milliseconds}
            fields |= {"request_id": getattr(request, "request_id", "")}
            if self._log.user_ids:
                fields |= {"user_id": getattr(request, "user_id", "")}
            _log.info(" ".join(f"{name}={value}" for name, value in fields.items()), extra=fields)


def _listed_base(error: RecsysError) -> type[RecsysError]:
    return next(base for base in type(error).__mro__ if base in STATUS_CODES)


def _abort(error: RecsysError, code: grpc.StatusCode, context: grpc.ServicerContext) -> NoReturn:
    context.set_trailing_metadata(((ERROR_KEY, _listed_base(error).__name__),))
    context.abort(code, str(error))


def _parse_request(parse: Callable[[bytes], Any], data: bytes) -> Any:
    try:
        return parse(data)
    except DecodeError:
        raise ConfigurationError(
            f"request == {len(data)} bytes, must be the method's request message: generate the client from the proto"
        ) from None
