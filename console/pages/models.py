"""The versions of the model: which one ranks, what it goes by, how two differ; promotion and rollback."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated, NamedTuple

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from console.reading.shop import ShopView
from console.web.application import needs
from console.web.changes import Changes
from console.web.people import Role
from console.web.rendering import page, report_page
from recsys.backtest.coefficients import coefficients
from recsys.meta_model import LogisticModel, MetaModel
from recsys.recommenders.further import words_of
from recsys.registry.log import ModelLog
from recsys.registry.versions import CHAMPION, differing

_REPORT = "report.html"

Version = Annotated[str, Form(pattern="^[0-9]{1,9}$")]
Reason = Annotated[str, Form(max_length=1000)]


class Coefficient(NamedTuple):
    """What a feature weighs, in one version or in two."""

    feature: str
    words: str
    values: tuple[float | None, ...]
    shares: tuple[float, ...]
    """Their sizes, relative to the largest, in [0, 1]."""


def models_pages(shop: ShopView, changes: Changes, clock: Callable[[], datetime]) -> APIRouter:
    """Return the routes of the page; MLflow is asked for versions when the page is there, which takes a moment."""
    router = APIRouter()
    settings, may_promote = shop.settings, [needs(Role.ADMIN)]
    further = words_of(settings.recommenders.further)

    @router.get("/models")
    def models(request: Request) -> HTMLResponse:
        log = ModelLog(settings.place, settings.mlflow.model_name).changes()
        reports = _backtests(settings.own_disk)
        name = settings.mlflow.model_name
        return page(request, "models.html", log=log[::-1], model_name=name, reports=reports, served=shop.snapshot())

    @router.get("/models/versions")
    def versions(request: Request) -> HTMLResponse:
        from jobs.registry import tracking  # here: MLflow takes seconds to import

        found = tracking.versions(settings)
        names = list(dict.fromkeys(name for each in found for name in each.metrics))
        challengers = [each.version for each in found if CHAMPION not in each.aliases]
        return page(request, "models_versions.html", versions=found, metrics=names, challengers=challengers)

    @router.get("/models/compare")
    def compare(request: Request, one: str = CHAMPION, other: str = "") -> HTMLResponse:
        from jobs.registry import tracking
        from jobs.registry.promote_model import evidence_of

        chosen = [tracking.described(settings, name) for name in (one, other) if name]
        read = [tracking.read_version(settings, each.version) for each in chosen]
        differences, evidence = [], None
        if len(chosen) == 2:
            configurations = [tracking.read_configuration(settings, each.version) for each in chosen]
            differences = differing(*configurations)
            evidence = evidence_of(settings, chosen[0].version, chosen[1].version)
        return page(
            request,
            "models_compared.html",
            versions=chosen,
            rows=_beside(read, further),
            settings=differences,
            evidence=evidence,
            is_additive=all(isinstance(model, LogisticModel) for model in read),
        )

    @router.get("/models/backtests/{name}")
    def backtest(name: str) -> HTMLResponse:
        if name not in _backtests(settings.own_disk):
            raise HTTPException(404, f"backtest {name!r} has no report: run 'recsys backtest'")
        return report_page(settings.own_disk / "backtests" / name / _REPORT)

    @router.post("/models/promote", dependencies=may_promote)
    def promote(request: Request, version: Version, reason: Reason, force: Annotated[str, Form()] = "") -> Response:
        from jobs.registry.promote_model import Asked
        from jobs.registry.promote_model import promote as make_champion

        asked = Asked(clock(), request.state.visitor.name, reason.strip())
        with changes.logged(request.state.visitor, "promote model", version, reason, _champion()) as ended:
            make_champion(settings, version, asked, force == "yes")
            ended(_champion())
        return RedirectResponse("/models", 303)

    @router.post("/models/rollback", dependencies=may_promote)
    def rollback(request: Request, reason: Reason) -> Response:
        from jobs.registry.promote_model import Asked
        from jobs.registry.promote_model import rollback as roll_back

        asked = Asked(clock(), request.state.visitor.name, reason.strip())
        before = _champion()
        with changes.logged(request.state.visitor, "roll back model", before, reason, before) as ended:
            roll_back(settings, asked)
            ended(_champion())
        return RedirectResponse("/models", 303)

    def _champion() -> str:
        log = ModelLog(settings.place, settings.mlflow.model_name).changes()
        return f"version {log[-1].after}" if log else "no champion"

    return router


def _backtests(folder: Path) -> list[str]:
    """Return the names of the backtests that have a report, the latest first."""
    found = (folder / "backtests").glob(f"*/{_REPORT}")
    return sorted((path.parent.name for path in found), reverse=True)


def _beside(models: list[MetaModel], further: dict[str, str]) -> list[Coefficient]:
    """Return the coefficients of one or two models by feature, the largest of the first model first."""
    known = {row["feature"]: row["words"] for model in models for row in coefficients(model, further)}
    values = {name: tuple(model.coefficients_by_feature.get(name) for model in models) for name in known}
    largest = max((abs(each) for row in values.values() for each in row if each is not None), default=1.0) or 1.0
    rows = [
        Coefficient(name, known[name], row, tuple(abs(each or 0.0) / largest for each in row))
        for name, row in values.items()
    ]
    return sorted(rows, key=lambda row: -abs(row.values[0] or 0.0))
