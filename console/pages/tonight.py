"""Tonight: what the last nights did, what is published, and the night that runs now."""

from collections.abc import Callable
from datetime import datetime

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from console.reading.nights import names_of_nights, read_night, served, values_before
from console.reading.shop import ShopView
from console.web.rendering import page
from recsys.errors import ConfigurationError
from recsys.wording import did_you_mean

_NIGHTS_BESIDE = 7


def tonight_pages(shop: ShopView, clock: Callable[[], datetime]) -> APIRouter:
    """Return the routes of the page."""
    router = APIRouter()

    @router.get("/")
    def tonight(request: Request, night: str = "") -> HTMLResponse:
        names = names_of_nights(shop.settings)
        if night and night not in names:
            raise ConfigurationError(
                f"night == {night!r}, must be one whose tables are kept{did_you_mean(night, names)}: choose one listed"
            )
        chosen = night or (names[0] if names else "")
        before = next((name for name in names if name < chosen), None)
        found = read_night(shop.settings, chosen, before, clock()) if chosen else None
        return page(
            request,
            "tonight.html",
            shop=shop.settings.place.name,
            names=names,
            night=found,
            earlier=values_before(shop.settings, found.as_of, _NIGHTS_BESIDE) if found else [],
            served=served(shop.settings),
            limits=shop.settings.night_checks,
        )

    return router
