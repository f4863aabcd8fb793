"""The log of changes as a page."""

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from console.web.changes import Changes
from console.web.rendering import page

_ON_A_PAGE = 50


def changes_pages(changes: Changes) -> APIRouter:
    """Return the routes of the page."""
    router = APIRouter()

    @router.get("/changes")
    def log(request: Request, before: str = "") -> HTMLResponse:
        found = changes.newest(_ON_A_PAGE + 1, before)
        older = found[_ON_A_PAGE - 1][0] if len(found) > _ON_A_PAGE else ""
        return page(request, "changes.html", changes=found[:_ON_A_PAGE], older=older, before=before)

    return router
