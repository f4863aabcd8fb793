"""Errors of the service's own; the others are those of the library."""

from recsys.errors import RecsysError


class UnauthenticatedError(RecsysError):
    """The caller shows no valid token or certificate."""


class ForbiddenError(RecsysError):
    """The caller's role may not call the method."""


class TooManyRequestsError(RecsysError):
    """The caller sends more requests a second than it may."""


class NotFoundError(RecsysError):
    """There is no such thing to change."""


class FinalError(RecsysError):
    """What was done cannot be undone."""
