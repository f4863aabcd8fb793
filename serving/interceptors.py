"""Turns errors into status codes: the one place that does."""

import logging
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

import grpc

from recsys.errors import (
    BusyError,
    ConfigurationError,
    EmptyInputError,
    InputError,
    ModelError,
    RecsysError,
    SnapshotError,
)

STATUS_CODES: dict[type[RecsysError], grpc.StatusCode] = {
    ConfigurationError: grpc.StatusCode.INVALID_ARGUMENT,
    InputError: grpc.StatusCode.INVALID_ARGUMENT,
    EmptyInputError: grpc.StatusCode.FAILED_PRECONDITION,
    ModelError: grpc.StatusCode.FAILED_PRECONDITION,
    SnapshotError: grpc.StatusCode.UNAVAILABLE,
    BusyError: grpc.StatusCode.UNAVAILABLE,
    RecsysError: grpc.StatusCode.INTERNAL,
}
"""An error has the code of the nearest of its bases in here."""

ERROR_KEY = "recsys-error"
"""Trailing metadata: the name of the error's class in this table, so that a client can raise the same."""

_UNEXPECTED = "the service failed on this request: its log has the stack trace"

_log = logging.getLogger(__name__)


class ErrorInterceptor(grpc.ServerInterceptor):
    """Answers each error of our own methods with its status code and message."""

    def __init__(self, service: str):
        self._prefix = f"/{service}/"
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
        self._handlers[method] = _wrapped(handler, method)
        return self._handlers[method]


def _wrapped(handler: Any, method: str) -> grpc.RpcMethodHandler:
    behaviour = handler.unary_unary

    def answer(request: Any, context: grpc.ServicerContext) -> Any:
        try:
            return behaviour(request, context)
        except RecsysError as error:
            _abort(error, context)
        except Exception as error:
            # Frames and type only: the message of an unexpected error may hold a user's id.
            frames = "".join(traceback.format_tb(error.__traceback__))
            _log.error("%s failed with %s\n%s", method, type(error).__name__, frames)
            context.abort(grpc.StatusCode.INTERNAL, _UNEXPECTED)

    return grpc.unary_unary_rpc_method_handler(answer, handler.request_deserializer, handler.response_serializer)


def _abort(error: RecsysError, context: grpc.ServicerContext) -> NoReturn:
    kind = next(base for base in type(error).__mro__ if base in STATUS_CODES)
    context.set_trailing_metadata(((ERROR_KEY, kind.__name__),))
    context.abort(STATUS_CODES[kind], str(error))
