"""The review of photos whose label is unsure: its pages, its data as JSON, and the photos."""

import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Request
from fastapi import Path as PathValue
from fastapi.responses import HTMLResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from console.reading.pictures import Pictures, Size
from console.web.application import application
from console.web.people import People
from console.web.rendering import page
from recsys.images.lab.agreement import Agreement, Kappa, agreements
from recsys.images.lab.review import Review
from recsys.images.tagging.decoding import PhotoError
from recsys.images.tagging.files import PhotoFiles

_HAND = 40  # photos on a page; as many are loaded ahead
_MOST_DECISIONS = 1000
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


def review_app(
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
        tokens: Reviewers' names by token.
        hosts: Names of this host, as browsers may use them.
        clock: Returns the time of a decision.
    """
    # Reviews at several ports share a browser's cookies.
    app = application(People.with_tokens(tokens), hosts, f"recsys_review_{secrets.token_hex(4)}")
    pictures = Pictures(files, review.uri_of)
    taxonomy = review.tagger.taxonomy

    @app.get("/")
    def review_page(request: Request) -> HTMLResponse:
        return page(request, "review.html", taxonomy=taxonomy.name, double=review.double)

    @app.get("/agreement")
    def agreement_page(request: Request) -> HTMLResponse:
        found = [_as_text(each) for each in agreements(review.words, taxonomy.ids)]
        return page(request, "agreement.html", taxonomy=taxonomy.name, agreements=found)

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
        given = review.hand(request.state.visitor.name, 2 * _HAND, clock())
        return {"photos": given.photos, "left": given.left}

    @app.post("/api/review/decisions")
    def decide(request: Request, said: Decisions) -> dict[str, int]:
        by = request.state.visitor.name
        review.decide(by, {each.photo: each.labels for each in said.decisions}, clock())
        return {"decided": review.decided(by)}

    @app.post("/api/review/undo")
    def undo(request: Request) -> dict[str, Any]:
        by = request.state.visitor.name
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
