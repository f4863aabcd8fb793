"""The service's own errors, and the table that maps each error to a status code."""

import grpc

from recsys.errors import (
    BusyError,
    ConfigurationError,
    EmptyInputError,
    InputError,
    ModelError,
    RecsysError,
    SnapshotError,
    StoreError,
)


class UnauthenticatedError(RecsysError):
    """The caller presents no valid token or certificate."""


class ForbiddenError(RecsysError):
    """The caller's role may not call the method."""


class TooManyRequestsError(RecsysError):
    """The caller exceeds its rate limit."""


class OverloadError(TooManyRequestsError):
    """The process has too many requests in progress, whoever sent them."""


class CallerLeftError(RecsysError):
    """The caller no longer waits for the answer."""


class NotFoundError(RecsysError):
    """The object to change does not exist."""


class NotRecordedError(RecsysError):
    """A durable log did not write a record before the timeout; it may still write it later."""


class FinalError(RecsysError):
    """The state is final and cannot be changed."""


STATUS_CODES: dict[type[RecsysError], grpc.StatusCode] = {
    ConfigurationError: grpc.StatusCode.INVALID_ARGUMENT,
    InputError: grpc.StatusCode.INVALID_ARGUMENT,
    EmptyInputError: grpc.StatusCode.FAILED_PRECONDITION,
    ModelError: grpc.StatusCode.FAILED_PRECONDITION,
    FinalError: grpc.StatusCode.FAILED_PRECONDITION,
    NotFoundError: grpc.StatusCode.NOT_FOUND,
    UnauthenticatedError: grpc.StatusCode.UNAUTHENTICATED,
    ForbiddenError: grpc.StatusCode.PERMISSION_DENIED,
    TooManyRequestsError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    SnapshotError: grpc.StatusCode.UNAVAILABLE,
    StoreError: grpc.StatusCode.UNAVAILABLE,
    NotRecordedError: grpc.StatusCode.UNAVAILABLE,
    BusyError: grpc.StatusCode.UNAVAILABLE,
    CallerLeftError: grpc.StatusCode.CANCELLED,
    RecsysError: grpc.StatusCode.INTERNAL,
}
"""The status code of each error class; a class that is not listed has the code of its nearest listed base class."""

RETRY_SECONDS: dict[type[RecsysError], float] = {
    TooManyRequestsError: 1.0,
    SnapshotError: 1.0,
    StoreError: 1.0,
    NotRecordedError: 1.0,
    BusyError: 1.0,
}
"""Seconds after which a request that failed with an error may succeed; other errors stay until something is changed."""

ERROR_KEY = "recsys-error"
"""Key of the trailing metadata that names the error's class in this table, so that a client can raise it too."""


def listed_base(error: RecsysError) -> type[RecsysError]:
    """Return the nearest class of an error that the table of status codes lists."""
    return next(base for base in type(error).__mro__ if base in STATUS_CODES)
