"""The methods of the tagging service."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import anyio.to_thread
import orjson
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from recsys.config.serving import ServingSettings
from recsys.errors import ConfigurationError
from serving.tagging.gate import Gate
from serving.tagging.label_studio import label_config, photo_of, predictions
from serving.tagging.metrics import TaggingMetrics
from serving.tagging.photo_tags import PhotoTagger, TaggedPhoto, number_of_tags

_DEFAULT_N = 5


def tagging_app(tagger: PhotoTagger, settings: ServingSettings, metrics: TaggingMetrics) -> FastAPI:
    """Return the application: photos in, tags out.

    POST /v1/tags?n=5    multipart/form-data with photos as files, or JSON {"uris": ["..."]} of photos below images.root
    POST /predict, POST /setup, GET /health    of Label Studio's machine learning backends

    Args:
        tagger: The tagger.
        settings: Callers and limits.
        metrics: Where requests and photos are counted.
    """
    app = FastAPI(openapi_url=None)
    app.add_middleware(Gate, settings=settings, metrics=metrics)
    app.add_exception_handler(ConfigurationError, _invalid)
    most, version, taxonomy = settings.tagging.max_photos, tagger.tagger.version, tagger.tagger.taxonomy

    @app.post("/v1/tags")
    async def tags(request: Request) -> dict[str, Any]:
        asked = request.query_params.get("n")
        n_classes = len(tagger.classes)
        n = min(_DEFAULT_N, n_classes) if asked is None else number_of_tags(asked, n_classes, version)
        if request.headers.get("content-type", "").startswith("multipart/form-data"):
            uploaded = await _uploaded(request, most)
            photos = await anyio.to_thread.run_sync(tagger.tag_bytes, uploaded, n)
        else:
            uris = await _uris(request, most)
            photos = await anyio.to_thread.run_sync(tagger.tag_uris, uris, n)
        return {"tagger": version, "taxonomy": taxonomy.name, "photos": [described(each) for each in noted(photos)]}

    @app.get("/")
    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "UP", "model_class": "recsys tagger", "taxonomy": taxonomy.name, "model_version": version}

    @app.post("/setup")
    async def setup(request: Request) -> dict[str, str]:
        label_config((await _json(request)).get("schema"))
        return {"model_version": version}

    @app.post("/predict")
    async def predict(request: Request) -> dict[str, Any]:
        asked = await _json(request)
        tasks = asked.get("tasks")
        if not isinstance(tasks, list) or not all(isinstance(each, dict) for each in tasks):
            raise ConfigurationError("tasks must be a list of tasks: send them as Label Studio does")
        config = label_config(asked.get("label_config"))
        uris = [photo_of(each, config) for each in _few(tasks, most)]
        photos = noted(await anyio.to_thread.run_sync(tagger.tag_uris, uris, 1))
        return {"results": predictions(photos, config, taxonomy, version), "model_version": version}

    def noted(photos: list[TaggedPhoto]) -> list[TaggedPhoto]:
        metrics.tagged(each.reason or ("sure" if each.sure else "unsure") for each in photos)
        return photos

    def described(photo: TaggedPhoto) -> dict[str, Any]:
        if photo.reason is not None:
            return {"photo": photo.photo, "reason": photo.reason, "detail": photo.detail}
        names = [taxonomy.name_of(each.label) if each.label else "none of these" for each in photo.tags]
        tags = [asdict(tag) | {"name": name} for tag, name in zip(photo.tags, names, strict=True)]
        return {"photo": photo.photo, "tags": tags, "labels": photo.said, "margin": photo.margin, "sure": photo.sure}

    return app


async def _uploaded(request: Request, most: int) -> list[tuple[str, bytes]]:
    try:
        async with request.form(max_files=most, max_fields=most) as form:
            files = [each for _, each in form.multi_items() if isinstance(each, UploadFile)]
            return [(file.filename or f"photo {n}", await file.read()) for n, file in enumerate(_few(files, most))]
    except HTTPException as error:
        raise ConfigurationError(f"{error.detail}, must be at most {most} files: send fewer photos at a time") from None


async def _uris(request: Request, most: int) -> list[str]:
    uris = (await _json(request)).get("uris")
    if not isinstance(uris, list) or not all(isinstance(each, str) for each in uris):
        raise ConfigurationError('uris must be a list of addresses: send {"uris": ["..."]}, or photos as files')
    return list(_few(uris, most))


async def _json(request: Request) -> dict[str, Any]:
    body = await request.body()
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ConfigurationError(f"the body is no JSON ({error}): send an object, or photos as files") from None
    if not isinstance(content, dict):
        raise ConfigurationError("the body must be a JSON object")
    return content


def _few(photos: Sequence[Any], most: int) -> Sequence[Any]:
    if not 1 <= len(photos) <= most:
        raise ConfigurationError(f"{len(photos)} photos, must be 1..{most} in one request: send more requests")
    return photos


def _invalid(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": str(error)}, 400)
