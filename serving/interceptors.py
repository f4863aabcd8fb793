"""What happens around every request: who calls, what is logged and traced, and which status an error becomes."""

import logging
import time
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError

from recsys.errors import ConfigurationError, RecsysError
from recsys.serving_settings import LogSettings
from serving.access import Access
from serving.errors import ERROR_KEY, STATUS_CODES
from serving.telemetry.metrics import Metrics
from serving.telemetry.tracing import Tracer

_UNEXPECTED = "the service failed on this request: its log has the stack trace"

_log = logging.getLogger(__name__)


class Guard(grpc.ServerInterceptor):
    """Admits callers to the methods of one service, and answers each error with its status code and message."""

    def __init__(
        self, service: str, access: Access, metrics: Metrics, log: LogSettings, tracer: Tracer, is_admin: bool = False
    ):
        self._prefix = f"/{service}/"
        self._access = access
        self._metrics = metrics
        self._log = log
        self._tracer = tracer
        self._is_admin = is_admin
        self._handlers: dict[str, grpc.RpcMethodHandler] = {}

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler | None:
        """Wrap a method, once for all its requests."""
        method = handler_call_details.method
        if method in self._handlers:
            return self._handlers[method]
        handler = continuation(handler_call_details)
        if handler is None or not method.startswith(self._prefix):
            return handler
        self._handlers[method] = self._wrapped(handler, method.removeprefix(self._prefix))
        return self._handlers[method]

    def _wrapped(self, handler: Any, method: str) -> grpc.RpcMethodHandler:
        behaviour, parse = handler.unary_unary, handler.request_deserializer

        def answer(data: bytes, context: grpc.ServicerContext) -> bytes:
            started, request = time.perf_counter(), None
            try:
                self._access.admit(context, self._is_admin)
                request = _parsed(parse, data)
                with self._tracer.span(method, context):
                    response = behaviour(request, context)
            except RecsysError as error:
                code = self._note_error(error, method, request, started)
                _abort(error, code, context)
            except Exception as error:
                # Frames and type only: the message of an unexpected error may hold a user's id.
                frames = "".join(traceback.format_tb(error.__traceback__))
                _log.error("%s failed with %s\n%s", method, type(error).__name__, frames)
                self._note(method, grpc.StatusCode.INTERNAL, request, started)
                context.abort(grpc.StatusCode.INTERNAL, _UNEXPECTED)
            if self._log.requests:
                self._note(method, grpc.StatusCode.OK, request, started)
            return response if isinstance(response, bytes) else response.SerializeToString()

        return grpc.unary_unary_rpc_method_handler(answer, None, None)

    def _note_error(self, error: RecsysError, method: str, request: Any, started: float) -> grpc.StatusCode:
        code = STATUS_CODES[_kind(error)]
        self._note(method, code, request, started)
        return code

    def _note(self, method: str, code: grpc.StatusCode, request: Any, started: float) -> None:
        if code is not grpc.StatusCode.OK:
            self._metrics.errors.labels(method, code.name).inc()
        if self._log.requests:
            milliseconds = round((time.perf_counter() - started) * 1000, 3)
            fields = {"method": method, "code": code.name, "milliseconds": milliseconds}
            fields |= {"request_id": getattr(request, "request_id", "")}
            if self._log.user_ids:
                fields |= {"user_id": getattr(request, "user_id", "")}
            _log.info(" ".join(f"{name}={value}" for name, value in fields.items()), extra=fields)


def _kind(error: RecsysError) -> type[RecsysError]:
    return next(base for base in type(error).__mro__ if base in STATUS_CODES)


def _abort(error: RecsysError, code: grpc.StatusCode, context: grpc.ServicerContext) -> NoReturn:
    context.set_trailing_metadata(((ERROR_KEY, _kind(error).__name__),))
    context.abort(code, str(error))


def _parsed(parse: Callable[[bytes], Any], data: bytes) -> Any:
    try:
        return parse(data)
    except DecodeError:
        raise ConfigurationError(f"{len(data)} bytes are no such message: generate the client from the proto") from None
