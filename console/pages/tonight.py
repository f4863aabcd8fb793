"""Tonight: what the last nights did, what is published, and the night that runs now."""

from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from console.reading.nights import names_of_nights, read_night, served, values_before
from console.reading.shop import ShopView
from console.web.rendering import page
from recsys.errors import ConfigurationError
from recsys.pipeline.night_values import NightValues
from recsys.wording import did_you_mean

_NIGHTS_BESIDE = 7
_NIGHTS_DRAWN = 30
_FEWEST_DRAWN = 3
_DRAWN: tuple[tuple[str, Callable[[NightValues], float | None]], ...] = (
    ("users ranked", lambda night: night.users),
    ("rows set aside, %", lambda night: 100 * night.rejected_share),
    ("ndcg@10 of the day before", lambda night: night.ndcg),
    ("predicted / observed purchases", lambda night: night.calibration),
    ("largest drift, standard deviations", lambda night: abs(night.worst_drift[1])),
)


class Trend(NamedTuple):
    """A value of the last nights, as a line."""

    name: str
    points: str
    """Of a polyline, 100 wide and 30 high; nights without the value are left out."""
    first: datetime
    latest: float
    low: float
    high: float


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
        earlier = values_before(shop.settings, found.as_of, _NIGHTS_DRAWN) if found else []
        return page(
            request,
            "tonight.html",
            shop=shop.settings.place.name,
            names=names,
            night=found,
            earlier=earlier[:_NIGHTS_BESIDE],
            trends=_trends([found.values, *earlier] if found and found.values else earlier),
            served=served(shop.settings),
            limits=shop.settings.night_checks,
        )

    return router


def _trends(nights: list[NightValues]) -> list[Trend]:
    """Return the lines of what is measured each night, from nights with the latest first; none of few nights."""
    found = ((name, [(night.as_of, value(night)) for night in reversed(nights)]) for name, value in _DRAWN)
    known = ((name, [(as_of, value) for as_of, value in values if value is not None]) for name, values in found)
    return [_trend(name, values) for name, values in known if len(values) >= _FEWEST_DRAWN]


def _trend(name: str, values: list[tuple[datetime, float]]) -> Trend:
    start, span = values[0][0], (values[-1][0] - values[0][0]).total_seconds()
    low, high = min(value for _, value in values), max(value for _, value in values)
    points = (
        f"{100 * (as_of - start).total_seconds() / span:.1f},{28 - 26 * (value - low) / ((high - low) or 1):.1f}"
        for as_of, value in values
    )
    return Trend(name, " ".join(points), start, values[-1][1], low, high)
