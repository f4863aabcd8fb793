"""What all applications of the console share: who is let in, static files, and how errors are told."""

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.middleware.gzip import GZipMiddleware

from console.web.people import People, Role
from console.web.rendering import HERE, page
from console.web.visitors import Visitors
from recsys.errors import ConfigurationError, RecsysError

_DATA = ("/api/", "/photos/")
_SMALLEST_PACKED = 1000  # bytes


def application(people: People, hosts: Iterable[str], cookie: str) -> FastAPI:
    """Return an application without pages.

    Args:
        people: Who may come in.
        hosts: Names of this host, as browsers may use them.
        cookie: Name of the cookie that holds a visitor's token.
    """
    app = FastAPI(openapi_url=None)
    app.add_middleware(Visitors, people=people, hosts=hosts, cookie=cookie)
    app.add_middleware(GZipMiddleware, minimum_size=_SMALLEST_PACKED)
    for kind in (RecsysError, RequestValidationError, AnyHTTPException):
        app.add_exception_handler(kind, _told)
    app.mount("/static/htmx", StaticFiles(directory=_htmx()))
    app.mount("/static", StaticFiles(directory=HERE / "static"))
    return app


def needs(role: Role) -> Any:
    """Return what lets a request pass only if its visitor has a role, or a higher one."""

    def check(request: Request) -> None:
        visitor = request.state.visitor
        if visitor.role < role:
            raise HTTPException(
                403,
                f"role of {visitor.name!r} == {visitor.role.name.lower()!r}, must be {role.name.lower()!r}: who "
                "keeps the configuration can change it ('console.people')",
            )

    return Depends(check)


def _told(request: Request, error: Exception) -> Response:
    status, told = _status_and_text(error)
    if request.url.path.startswith(_DATA):
        return JSONResponse({"detail": told}, status)
    if not hasattr(request.state, "visitor"):  # scripts and styles are for everybody
        return PlainTextResponse(told, status)
    return page(request, "trouble.html", status, trouble=told)


def _status_and_text(error: Exception) -> tuple[int, str]:
    if isinstance(error, AnyHTTPException):
        return error.status_code, str(error.detail)
    if isinstance(error, RequestValidationError):
        wrong = (
            f"{'.'.join(map(str, each['loc'][1:]))} == {each['input']!r:.200}: {each['msg']}" for each in error.errors()
        )
        return 422, "; ".join(wrong)
    return 409, str(error)


def _htmx() -> Path:
    """Return the folder of htmx's script, which the package django-htmx brings; Django itself is not imported.

    Raises:
        ConfigurationError: If the package is not installed.
    """
    found = find_spec("django_htmx")
    if found is None or not found.submodule_search_locations:
        raise ConfigurationError("package django-htmx is missing, the console's pages need its script: install it")
    return Path(found.submodule_search_locations[0]) / "static" / "django_htmx"
