"""What a request must pass before its body is read: a known caller, room for it, and its size."""

import asyncio
import base64
import time
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recsys.config.serving import ServingSettings
from recsys.errors import RecsysError
from serving.api.access import AUTHORIZATION, Access
from serving.errors import OverloadError, UnauthenticatedError
from serving.tagging.metrics import TaggingMetrics

OPEN_PATHS = ("/health", "/")
"""Paths that need no token: a load balancer asks them."""


class TooLargeError(RecsysError):
    """A request has more bytes than the configuration allows."""


class TooSlowError(RecsysError):
    """The body of a request did not come in time."""


STATUS: dict[type[RecsysError], tuple[int, str]] = {
    UnauthenticatedError: (401, "unauthenticated"),
    OverloadError: (429, "overload"),
    TooLargeError: (413, "too_large"),
    TooSlowError: (408, "no_body"),
}
"""HTTP status of a refusal, and its name in the metrics."""


class Gate:
    """Refuses requests, and counts all of them; see `ServingSettings` for its limits.

    Args:
        app: The application.
        settings: Callers and limits.
        metrics: Where requests are counted.
    """

    def __init__(self, app: ASGIApp, settings: ServingSettings, metrics: TaggingMetrics):
        self._app = app
        self._limits = settings.tagging
        self._access = Access(settings)
        self._metrics = metrics
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self._in_flight += 1
        self._metrics.in_flight.set(self._in_flight)
        try:
            await self._answer(scope, receive, send_and_note)
        finally:
            self._in_flight -= 1
            self._metrics.in_flight.set(self._in_flight)
            self._metrics.requested(scope["path"], status, time.perf_counter() - started)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = _Body(receive, self._limits.max_bytes, self._limits.body_seconds)
        has_started = False

        async def send_once(message: Message) -> None:
            nonlocal has_started
            has_started = True
            await send(message)

        try:
            headers = Headers(scope=scope)
            if scope["path"] not in OPEN_PATHS:
                self._admit(headers)
            await self._app(scope, body.receive, send_once)
        except RecsysError as error:
            refused = body.error or error  # what the application makes of a body that ends early
            if has_started or type(refused) not in STATUS:
                raise
            await self._refuse(refused, scope, receive, send)

    def _admit(self, headers: Headers) -> None:
        if self._access.caller_by_token(_bearer(headers)) is None:
            raise UnauthenticatedError("no token, must have one: send the header 'Authorization: Bearer TOKEN'")
        if self._in_flight > self._limits.max_concurrent:
            raise OverloadError(f"{self._limits.max_concurrent} requests are in progress, must be fewer: retry later")
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._limits.max_bytes:
            raise _too_large(length, self._limits.max_bytes)

    async def _refuse(self, error: RecsysError, scope: Scope, receive: Receive, send: Send) -> None:
        status, name = STATUS[type(error)]
        self._metrics.refused.labels(name).inc()
        headers = {"connection": "close"}  # the rest of the body is not read
        if status == 429:
            headers["retry-after"] = "1"
        if status == 401:
            headers["www-authenticate"] = "Bearer"
        await JSONResponse({"error": str(error)}, status, headers)(scope, receive, send)


class _Body:
    """Receives the body of a request, of so many bytes, within a time."""

    def __init__(self, receive: Receive, most: int, seconds: float):
        self._receive = receive
        self._most = most
        self._left = most
        self._seconds = seconds
        self._deadline = asyncio.get_running_loop().time() + seconds
        self._is_complete = False
        self.error: RecsysError | None = None

    async def receive(self) -> Message:
        """Return the next message.

        Raises:
            TooLargeError: If the body is larger than allowed.
            TooSlowError: If it has not come in time.
        """
        if self._is_complete:
            return await self._receive()  # the news that the caller has left
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            self.error = TooSlowError(
                f"the body did not come within {self._seconds:g} s: send it faster, or fewer photos"
            )
            raise self.error from None
        self._left -= len(message.get("body", b""))
        self._is_complete = not message.get("more_body", False)
        if self._left < 0:
            self.error = _too_large(f"more than {self._most}", self._most)
            raise self.error
        return message


def _too_large(length: str, most: int) -> TooLargeError:
    return TooLargeError(f"request of {length[:20]} bytes, must be at most {most}: send fewer photos at a time")


def _bearer(headers: Headers) -> Sequence[tuple[str, str]]:
    """Return the headers of a caller as `Access` takes them; Label Studio sends the token as a password (RFC 7617)."""
    value = headers.get(AUTHORIZATION)
    if value is None:
        return ()
    scheme, _, content = value.partition(" ")
    if scheme.lower() == "basic":
        try:
            value = f"Bearer {base64.b64decode(content, validate=True).decode().partition(':')[2]}"
        except ValueError:
            return ()
    return ((AUTHORIZATION, value),)
