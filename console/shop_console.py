"""The console of a shop: all its pages in one application."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from fastapi import FastAPI

from console.pages.changes import changes_pages
from console.pages.covers import cover_pages
from console.pages.experiments import experiments_pages
from console.pages.health import health_pages
from console.pages.models import models_pages
from console.pages.photos import photos_pages
from console.pages.rules import rules_pages
from console.pages.sales import sales_pages
from console.pages.tonight import tonight_pages
from console.pages.window import window_pages
from console.reading.shop import ShopView
from console.web.application import application
from console.web.changes import Changes
from console.web.people import People
from recsys.config.settings import Settings


def console_app(
    settings: Settings,
    hosts: Iterable[str],
    cookie: str,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> FastAPI:
    """Return the application.

    Args:
        settings: The shop's settings.
        hosts: Names of this host, as browsers may use them.
        cookie: Name of the cookie that holds a visitor's token.
        clock: Returns the present time of this machine.
    """
    app = application(People.of(settings.console), hosts, cookie)
    shop, changes = ShopView(settings), Changes(settings.place, clock)
    for pages in (
        tonight_pages(shop, clock),
        window_pages(shop),
        sales_pages(shop, changes),
        photos_pages(shop),
        rules_pages(shop, changes),
        experiments_pages(shop, changes, clock),
        models_pages(shop, changes, clock),
        health_pages(shop, clock),
        changes_pages(changes),
        cover_pages(shop),
    ):
        app.include_router(pages)
    return app
