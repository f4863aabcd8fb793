"""The application: its pages, its data as JSON, and the photos."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import jinja2
from fastapi import FastAPI, HTTPException, Request
from fastapi import Path as PathValue
from fastapi.responses import HTMLResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ConfigDict, Field

from console.pictures import Pictures, Size
from console.visitors import Visitors
from recsys.errors import RecsysError
from recsys.images.lab.agreement import Agreement, Kappa, agreements
from recsys.images.lab.review import Review
from recsys.images.tagging.decoding import PhotoError
from recsys.images.tagging.files import PhotoFiles
from recsys.wording import visible

_HAND = 40  # photos on a page; as many are loaded ahead
_MOST_DECISIONS = 1000
_HERE = Path(__file__).parent
_pages = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_HERE / "pages"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    finalize=lambda value: visible(value) if type(value) is str else value,  # not what is HTML already
    trim_blocks=True,
    lstrip_blocks=True,
)

Hash = Annotated[str, PathValue(pattern="^[0-9a-f]{1,64}$")]


class Decision(BaseModel):
    """What a person says of a photo: its labels, none of them, or null to skip it."""

    model_config = ConfigDict(extra="forbid", strict=True)
    photo: str = Field(max_length=64)
    labels: list[str] | None


class Decisions(BaseModel):
    """Decisions that are stored, and undone, as one."""

    model_config = ConfigDict(extra="forbid", strict=True)
    decisions: list[Decision] = Field(min_length=1, max_length=_MOST_DECISIONS)


def console_app(
    review: Review,
    files: PhotoFiles,
    tokens: Mapping[str, str],
    hosts: list[str],
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> FastAPI:
    """Return the application.

    Args:
        review: The review.
        files: Where the photos are.
        tokens: Reviewers' names by token, see `Visitors`.
        hosts: Names of this host, as browsers may use them.
        clock: Returns the time of a decision.
    """
    app = FastAPI(openapi_url=None)
    app.add_middleware(Visitors, tokens=tokens, hosts=hosts)
    app.add_exception_handler(RecsysError, _told)
    app.mount("/static", StaticFiles(directory=_HERE / "static"))
    pictures = Pictures(files, review.uri_of)
    taxonomy = review.tagger.taxonomy

    @app.get("/")
    def review_page(request: Request) -> HTMLResponse:
        return _page("review.html", taxonomy=taxonomy.name, by=request.state.visitor, double=review.double)

    @app.get("/agreement")
    def agreement_page() -> HTMLResponse:
        found = agreements(review.words, taxonomy.ids)
        return _page("agreement.html", taxonomy=taxonomy.name, agreements=[_as_text(each) for each in found])

    @app.get("/api/review")
    def description() -> dict[str, Any]:
        return {
            "kind": taxonomy.kind,
            "labels": [{"id": label, "name": taxonomy.name_of(label)} for label in taxonomy.ids],
            "none": review.may_be_none,
            "hand": _HAND,
            "unsure": len(review.queue),
            "sure": [
                {"name": taxonomy.name_of(label) if label else "none of these", "photos": photos}
                for label, photos in sorted(review.sure_labels().items(), key=lambda each: -each[1])
            ],
        }

    @app.get("/api/review/hand")
    def hand(request: Request) -> dict[str, Any]:
        given = review.hand(request.state.visitor, 2 * _HAND, clock())
        return {"photos": given.photos, "left": given.left}

    @app.post("/api/review/decisions")
    def decide(request: Request, said: Decisions) -> dict[str, int]:
        by = request.state.visitor
        review.decide(by, {each.photo: each.labels for each in said.decisions}, clock())
        return {"decided": review.decided(by)}

    @app.post("/api/review/undo")
    def undo(request: Request) -> dict[str, Any]:
        by = request.state.visitor
        undone = review.undo(by, clock())
        return {"photos": undone, "decided": review.decided(by)}

    @app.get("/photos/{image_hash}/{size}")
    def photo(image_hash: Hash, size: Size) -> Response:
        try:
            data = pictures.picture(image_hash, size)
        except PhotoError as error:
            raise HTTPException(404, str(error)) from error
        return Response(data, media_type="image/jpeg", headers={"cache-control": "private, max-age=86400, immutable"})

    return app


def _page(name: str, **values: Any) -> HTMLResponse:
    return HTMLResponse(_pages.get_template(name).render(values))


def _told(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, 409)


def _as_text(found: Agreement) -> dict[str, Any]:
    return {
        "one": found.one,
        "other": found.other,
        "n_photos": found.n_photos,
        "same": f"{found.same or 0:.1%}",
        "kappa": kappa_text(found.kappa),
        "by_label": [(label or "none of these", kappa_text(kappa)) for label, kappa in found.by_label.items()],
        "differences": [
            (each.image_hash, ", ".join(each.one) or "none of these", ", ".join(each.other) or "none of these")
            for each in found.differences
        ],
    }


def kappa_text(kappa: Kappa) -> str:
    """Write kappa with its interval."""
    if kappa.value is None:
        return "undefined: both always say the same"
    return f"{kappa.value:.2f} ({kappa.low:.2f} to {kappa.high:.2f})"
