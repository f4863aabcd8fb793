"""Who may see and use the pages: those who opened an address with a token, from a page of this host only."""

import hashlib
import secrets
from collections.abc import Iterable, Mapping
from urllib.parse import urlencode, urlsplit

from starlette.datastructures import URL, Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HEADERS = {
    "content-security-policy": "default-src 'none'; img-src 'self'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
_NO_CACHE = "no-store"


class Visitors:
    """Lets known visitors in, and nobody else; tells the application who they are by `request.state.visitor`.

    A visitor opens `/?token=TOKEN` once and then has a cookie, which no script can read and no other site can make a
    browser send. A request that changes something must come from a page of this host, too.

    Args:
        app: The application.
        tokens: Visitors' names by token.
        hosts: Names of this host, as browsers may use them: any other name in a request is an attempt to reach it by
            way of a name that points here.
    """

    def __init__(self, app: ASGIApp, tokens: Mapping[str, str], hosts: Iterable[str]):
        self._app = app
        self._names = {_digest(token): name for token, name in tokens.items()}
        self._hosts = frozenset(hosts)
        self._cookie = f"recsys_console_{secrets.token_hex(4)}"  # consoles at several ports share a browser's cookies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        request = Request(scope)
        answer: ASGIApp = self._refusal(request) or self._entrance(request) or self._app

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", _NO_CACHE)
            await send(message)

        await answer(scope, receive, send_with_headers)

    def _refusal(self, request: Request) -> PlainTextResponse | None:
        try:
            host = urlsplit(f"//{request.headers.get('host', '')}").hostname
        except ValueError:
            host = None
        if host not in self._hosts:
            return PlainTextResponse(
                f"host must be one of {', '.join(sorted(self._hosts))}: open the address printed by the command", 421
            )
        if request.method not in ("GET", "HEAD") and not _is_from_this_host(request.headers, request.url):
            return PlainTextResponse("a change must come from a page of this host: open the page there", 403)
        return None

    def _entrance(self, request: Request) -> ASGIApp | None:
        """Return the answer to those who are not in yet; None for those who are."""
        token = request.query_params.get("token")
        if token is not None and request.method == "GET" and _digest(token) in self._names:
            others = [(name, value) for name, value in request.query_params.multi_items() if name != "token"]
            entered = RedirectResponse(request.url.path + (f"?{urlencode(others)}" if others else ""), 303)
            entered.set_cookie(
                self._cookie, token, httponly=True, samesite="strict", secure=request.url.scheme == "https"
            )
            return entered
        name = self._names.get(_digest(request.cookies.get(self._cookie, "")))
        if name is None:
            return PlainTextResponse("no token, must have one: open the address printed by the command", 401)
        request.state.visitor = name
        return None


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _is_from_this_host(headers: Headers, url: URL) -> bool:
    return headers.get("origin") == f"{url.scheme}://{url.netloc}"
