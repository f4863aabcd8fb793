"""Photos and themes: what the photos have in common, and which sales show it."""

from threading import Lock

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from console.reading.shop import ShopView
from console.reading.themes import Theme, read_themes
from console.web.rendering import page
from recsys.storage.outputs import newest_runs


def photos_pages(shop: ShopView) -> APIRouter:
    """Return the routes of the page."""
    router = APIRouter()
    lock = Lock()
    kept: dict[tuple[str, ...], tuple[str, list[Theme]]] = {}

    @router.get("/photos")
    def photos(request: Request) -> HTMLResponse:
        run, snapshot = next(iter(newest_runs(shop.settings.place)), None), shop.snapshot()
        found: tuple[str, list[Theme]] = "", []
        if run is not None and snapshot is not None:
            key = str(run / "image_themes"), snapshot.name
            with lock:
                if key not in kept:
                    kept.clear()
                    kept[key] = read_themes(run, snapshot)
                found = kept[key]
        settings = shop.settings.images.themes
        return page(request, "photos.html", version=found[0], themes=found[1], ignored=settings.ignored_tags)

    return router
