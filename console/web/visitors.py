"""Lets visitors in: those who have a token, or whom a proxy knows; and changes from pages of this host only."""

from collections.abc import Iterable
from urllib.parse import urlencode, urlsplit

from starlette.datastructures import URL, FormData, Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from console.web.people import People
from console.web.rendering import html

_HEADERS = {
    "content-security-policy": "default-src 'none'; img-src 'self'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "same-origin",  # with no-referrer, browsers send the origin of a form as null
    "x-content-type-options": "nosniff",
}
_NO_CACHE = "no-store"
_ENTER = "/enter"
_STATIC = "/static/"
_MOST_TOKEN_BYTES = 4096
_MOST_BODY_BYTES = 1 << 21


class Visitors:
    """Lets known visitors in, and nobody else; tells the application who they are by `request.state.visitor`.

    A visitor gives their token once, on the page that asks for it or by `/?token=TOKEN`, and then has a cookie, which
    no script can read and no other site can make a browser send. A request that changes something must come from a page
    of this host, too. Scripts and styles are the same for everybody.

    Args:
        app: The application.
        people: Who may come in.
        hosts: Names of this host, as browsers may use them: any other name in a request is an attempt to reach it by
            way of a name that points here.
        cookie: Name of the cookie; consoles at several ports share a browser's cookies.
    """

    def __init__(self, app: ASGIApp, people: People, hosts: Iterable[str], cookie: str):
        self._app = app
        self._people = people
        self._hosts = frozenset(hosts)
        self._cookie = cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        answer: ASGIApp = self._refusal(request) or await self._entrance(request) or self._app

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
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
        if request.method not in ("GET", "HEAD") and not _is_short(request.headers):
            return PlainTextResponse(f"a change must say its length, at most {_MOST_BODY_BYTES} bytes", 413)
        return None

    async def _entrance(self, request: Request) -> Response | None:
        """Return the answer to those who are not in yet; None for those who are."""
        if request.url.path.startswith(_STATIC):
            return None
        token = request.query_params.get("token")
        if token is not None and request.method == "GET" and self._people.with_token(token):
            others = [(name, value) for name, value in request.query_params.multi_items() if name != "token"]
            return self._entered(request, token, request.url.path + (f"?{urlencode(others)}" if others else ""))
        if request.url.path == _ENTER and request.method == "POST":
            given = await _given_token(request)
            if given and self._people.with_token(given):
                return self._entered(request, given, "/")
            return _asked("This token is not known.", 401)
        found = self._people.with_token(request.cookies.get(self._cookie, "")) or self._people.without_token(request)
        if found is None:
            return _asked("", 401)
        request.state.visitor = found
        return None

    def _entered(self, request: Request, token: str, path: str) -> RedirectResponse:
        entered = RedirectResponse(path, 303)
        is_safe = request.url.scheme == "https"
        entered.set_cookie(self._cookie, token, httponly=True, samesite="strict", secure=is_safe)
        return entered


async def _given_token(request: Request) -> str:
    try:
        if int(request.headers.get("content-length", "0")) > _MOST_TOKEN_BYTES:
            return ""
        form: FormData = await request.form(max_files=0, max_fields=2)
    except Exception:  # a body that is no form
        return ""
    token = form.get("token", "")
    return token.strip() if isinstance(token, str) else ""


def _asked(trouble: str, status: int) -> Response:
    return html("enter.html", status, trouble=trouble, path=_ENTER)


def _is_short(headers: Headers) -> bool:
    length = headers.get("content-length", "")
    return length.isascii() and length.isdigit() and int(length[:20]) <= _MOST_BODY_BYTES


def _is_from_this_host(headers: Headers, url: URL) -> bool:
    return headers.get("origin") == f"{url.scheme}://{url.netloc}"
