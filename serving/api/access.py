"""Authentication, authorisation and rate limits of callers."""

import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import grpc

from recsys.config.serving import Caller, ServingSettings, TlsSettings
from recsys.errors import ConfigurationError
from serving.errors import ForbiddenError, TooManyRequestsError, UnauthenticatedError

AUTHORIZATION = "authorization"
Metadata = Sequence[tuple[str, str | bytes]] | None
_ANYONE = Caller(name="anyone", role="admin")


class Access:
    """Identifies callers by token or certificate, and enforces their roles and rate limits."""

    def __init__(self, settings: ServingSettings, clock: Callable[[], float] = time.monotonic):
        callers = settings.access.callers
        self._is_open = not callers
        self._by_token = {caller.token_sha256: caller for caller in callers if caller.token_sha256}
        self._by_certificate = {caller.name: caller for caller in callers if not caller.token_sha256}
        self._rate = settings.limits.max_per_second
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}

    def caller_by_token(self, metadata: Metadata) -> Caller | None:
        """Return the caller whose token the headers hold; None if a certificate must identify the caller.

        Raises:
            UnauthenticatedError: If callers are configured, and this one presents no valid token.
        """
        if self._is_open:
            return _ANYONE
        token = _token(metadata or ())
        if token is not None:
            caller = self._by_token.get(hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest())
            if caller is None:
                raise UnauthenticatedError("the token is unknown: use one that is listed in 'serving.access.callers'")
            return caller
        if not self._by_certificate:
            raise _unauthenticated()
        return None

    def admit(self, caller: Caller | None, context: grpc.ServicerContext, is_admin_method: bool) -> Caller:
        """Check a caller before its request is read, and return it.

        Args:
            caller: As `caller_by_token` returned it.
            context: The context of the request.
            is_admin_method: Whether only admins may call the method.

        Raises:
            UnauthenticatedError: If callers are configured, and this one presents no valid token or certificate.
            ForbiddenError: If the caller's role may not call the method.
            TooManyRequestsError: If the caller exceeds its rate limit.
        """
        caller = caller or self._caller_by_certificate(context)
        if is_admin_method and caller.role != "admin":
            raise ForbiddenError(f"role of {caller.name!r} == {caller.role!r}, must be 'admin' for this method")
        self.charge(caller, 0)
        return caller

    def charge(self, caller: Caller, cost: float) -> None:
        """Take the cost of a request, in pages, from what the caller may ask for.

        A caller that has anything left may ask for more than that, and then waits until the rate has made up for it.

        Raises:
            TooManyRequestsError: If the caller has nothing left.
        """
        if self._rate is None:
            return
        bucket = self._buckets.setdefault(caller.name, _Bucket(self._rate, self._clock()))
        if not bucket.take(cost, self._clock()):
            raise TooManyRequestsError(f"{caller.name!r} asks for more than {self._rate:g} pages/s: retry later")

    def name_of(self, context: grpc.ServicerContext) -> str:
        """Return the name of an admitted caller; empty where no callers are configured."""
        if self._is_open:
            return ""
        return (self.caller_by_token(context.invocation_metadata()) or self._caller_by_certificate(context)).name

    def _caller_by_certificate(self, context: grpc.ServicerContext) -> Caller:
        for name in context.auth_context().get("x509_common_name", ()):
            if caller := self._by_certificate.get(bytes(name).decode("utf-8", "replace")):
                return caller
        raise _unauthenticated()


class _Bucket:
    """A token bucket that holds at most the tokens of one second, and goes below 0 by a request that costs more."""

    def __init__(self, rate: float, now: float):
        self._rate = rate
        self._most = max(rate, 1.0)
        self._left = self._most
        self._at = now
        self._lock = threading.Lock()

    def take(self, cost: float, now: float) -> bool:
        """Take the cost, if there is anything left; tell whether there was."""
        with self._lock:
            self._left = min(self._most, self._left + (now - self._at) * self._rate)
            self._at = now
            if self._left < 1:
                return False
            self._left -= cost
            return True


def credentials(tls: TlsSettings) -> grpc.ServerCredentials:
    """Read the service's certificate and key, and the authority of its callers' certificates, if there is one.

    Raises:
        ConfigurationError: If a file cannot be read.
    """
    key, certificate = _read_pem("key", tls.key), _read_pem("certificate", tls.certificate)
    authority = _read_pem("client_authority", tls.client_authority) if tls.client_authority else None
    return grpc.ssl_server_credentials(
        [(key, certificate)], root_certificates=authority, require_client_auth=authority is not None
    )


def _token(metadata: Iterable[tuple[str, str | bytes]]) -> str | None:
    for key, value in metadata:
        if key == AUTHORIZATION and isinstance(value, str):
            scheme, _, token = value.partition(" ")
            if scheme.lower() == "bearer":  # RFC 7235, section 2.1: schemes are case-insensitive
                return token.strip(" ")
    return None


def _unauthenticated() -> UnauthenticatedError:
    return UnauthenticatedError(
        f"no token or known certificate, must have one: send metadata '{AUTHORIZATION}: Bearer TOKEN', "
        "or give a command --token"
    )


def _read_pem(name: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"serving.tls.{name} == {path!r}, must be a readable file: {error.strerror}") from None
