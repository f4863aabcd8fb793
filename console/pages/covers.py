"""The photos of the snapshot's sales, as small and large pictures."""

from hashlib import sha256

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response

from console.reading.pictures import PictureCache, Size
from console.reading.shop import ShopView
from recsys.images.tagging.decoding import PhotoError
from recsys.images.tagging.files import PhotoFiles

_KEPT_S = 3600


def cover_pages(shop: ShopView) -> APIRouter:
    """Return the routes of the photos; only those of the snapshot's sales are read."""
    router = APIRouter()
    pictures = PictureCache(PhotoFiles.of(shop.settings.images))

    @router.get("/photos/{sale_id:path}/{position}/{size}")
    def photo(request: Request, sale_id: str, position: int, size: Size) -> Response:
        snapshot = shop.needed_snapshot()
        images = next((sale.images for sale in snapshot.sales if sale.sale_id == sale_id), ())
        if not 0 <= position < len(images):
            raise HTTPException(404, f"sale {sale_id!r} has no photo {position}")
        try:
            data = pictures.picture(images[position], size)
        except PhotoError as error:
            raise HTTPException(404, str(error)) from error
        tag = f'"{sha256(data).hexdigest()[:32]}"'
        headers = {"cache-control": f"private, max-age={_KEPT_S}", "etag": tag}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(data, media_type="image/jpeg", headers=headers)

    return router
