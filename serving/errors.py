"""Errors of the service's own, and the one table that says which status code each error becomes."""

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
    """The caller shows no valid token or certificate."""


class ForbiddenError(RecsysError):
    """The caller's role may not call the method."""


class TooManyRequestsError(RecsysError):
    """The caller sends more requests a second than it may."""


class NotFoundError(RecsysError):
    """There is no such thing to change."""


class NotRecordedError(RecsysError):
    """A durable log could not write a record in time; it may still do so later."""


class FinalError(RecsysError):
    """What was done cannot be undone."""


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
    RecsysError: grpc.StatusCode.INTERNAL,
}
"""An error has the code of the nearest of its bases in here."""

ERROR_KEY = "recsys-error"
"""Trailing metadata: the name of the error's class in this table, so that a client can raise the same."""
