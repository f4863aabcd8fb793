"""Health: what `recsys doctor` finds, and what to do about it."""

from collections.abc import Callable
from datetime import datetime
from threading import Lock

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from console.reading.shop import ShopView
from console.web.rendering import page
from serving.diagnosis.doctor import Finding, diagnose

_FRESH_S = 30.0
_WORST_FIRST = ("FAIL", "WARN", "OK")


def health_pages(shop: ShopView, clock: Callable[[], datetime]) -> APIRouter:
    """Return the routes of the page; the checks take seconds, so that they are shown when they are done."""
    router = APIRouter()
    lock = Lock()
    last: list[tuple[datetime, list[Finding]]] = []

    @router.get("/health")
    def health(request: Request) -> HTMLResponse:
        checked, findings = last[-1] if last else (None, [])
        return page(request, "health.html", checked=checked, findings=findings)

    @router.get("/health/findings")
    def findings(request: Request) -> HTMLResponse:
        with lock:  # of several who ask at once, one checks
            if not last or (clock() - last[-1][0]).total_seconds() > _FRESH_S:
                settings, console = shop.settings, shop.settings.console
                found = diagnose(settings, console.service, shop.token)
                last[:] = [(clock(), sorted(found, key=lambda each: _WORST_FIRST.index(each.status)))]
            checked, found = last[-1]
        return page(request, "findings.html", checked=checked, findings=found)

    return router
