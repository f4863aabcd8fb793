"""The experiments: their state and alarms, their reports, and their files, checked while they are edited."""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from console.reading.experiments import (
    ExperimentLine,
    Surface,
    accepted_files,
    folder_of,
    read_surfaces,
    report_of,
)
from console.reading.shop import ShopView
from console.web.application import needs
from console.web.changes import Changes
from console.web.drafts import MOST_CHARACTERS, checked, replace, text_of, unix_lines, version_of
from console.web.people import Role
from console.web.rendering import page, report_page
from recsys.config.settings import known_policies
from recsys.errors import ConfigurationError, RecsysError
from recsys.experiments.accepted import written_file
from recsys.experiments.changes import changes as differences
from recsys.experiments.files import load_experiments
from recsys.experiments.names import unknown_policies
from recsys.experiments.settings import ExperimentFile
from recsys.experiments.transition import check_transition
from recsys.instants import to_micros
from recsys.reports.experiment.wording import headline
from recsys.wording import plural

_USERS_COMPARED = 10_000
_KILL_SWITCH = re.compile(r"^kill_switch:.*$", re.MULTILINE)
_VERSION = re.compile(r"^schema_version:.*$", re.MULTILINE)

Text = Annotated[str, Form(max_length=MOST_CHARACTERS)]
SurfaceName = Annotated[str, Form(pattern="^[A-Za-z0-9_-]{1,100}$")]
Reason = Annotated[str, Form(max_length=1000)]


def experiments_pages(shop: ShopView, changes: Changes, clock: Callable[[], datetime]) -> APIRouter:
    """Return the routes of the page."""
    router = APIRouter()
    may_change = [needs(Role.SCIENTIST)]

    def draft(text: str, surface: str) -> ExperimentFile:
        """Return what a text holds, if it may replace the file in force."""
        file = checked(unix_lines(text), written_file(folder_of(shop.settings), surface).name, load_experiments)
        in_force = accepted_files(shop.settings).in_force().get(surface)
        if in_force is not None:
            check_transition(in_force, file, clock())
        snapshot = shop.snapshot()
        known = {*known_policies(shop.settings), *(snapshot.all_policies if snapshot else ())}
        if unknown := list(unknown_policies(file, known)):
            raise ConfigurationError("unknown policies:\n" + "\n".join(f"  {each}" for each in unknown))
        return file

    @router.get("/experiments")
    def experiments(request: Request, surface: str = "") -> HTMLResponse:
        found = read_surfaces(shop.settings, clock())
        chosen = next((each for each in found if each.name == surface), found[0] if found else None)
        text = text_of(chosen.path) if chosen else ""
        headlines = {line.experiment.key: headline(line.result.verdict) for line in _lines(found) if line.result}
        return page(
            request,
            "experiments.html",
            headlines=headlines,
            surfaces=found,
            chosen=chosen,
            text=text,
            version=version_of(text),
        )

    @router.get("/experiments/report/{key}/{phase}")
    def report(key: str, phase: int) -> HTMLResponse:
        keys = {(line.experiment.key, line.experiment.phase) for line in _lines(read_surfaces(shop.settings, clock()))}
        path = report_of(shop.settings, key, phase)
        if (key, phase) not in keys or not path.exists():
            raise HTTPException(404, f"experiment {key!r} has no report yet: run 'recsys experiment analyze {key}'")
        return report_page(path)

    @router.post("/experiments/check")
    def check(request: Request, text: Text, surface: SurfaceName) -> HTMLResponse:
        try:
            file, problem = draft(text, surface), ""
        except RecsysError as error:
            file, problem = None, str(error)
        return page(request, "experiments_checked.html", file=file, problem=problem)

    @router.post("/experiments/compare")
    def compare(request: Request, text: Text, surface: SurfaceName) -> HTMLResponse:
        new, old = draft(text, surface), accepted_files(shop.settings).in_force().get(surface)
        if old is None:
            raise ConfigurationError(
                f"no file of surface {surface!r} is in force yet: there is nothing to compare with"
            )
        users = shop.needed_snapshot().users.sample(_USERS_COMPARED)
        found = differences(old, new, {user: {} for user in users}, to_micros(clock()))
        has_targeting = any(each.targeting is not None for file in (old, new) for each in file.experiments)
        return page(request, "experiments_compared.html", found=found, has_targeting=has_targeting)

    @router.post("/experiments/save", dependencies=may_change)
    def save(
        request: Request, text: Text, surface: SurfaceName, version: Annotated[str, Form()], reason: Reason
    ) -> Response:
        draft(text, surface)
        return written(request, surface, unix_lines(text), version, reason, "change experiments")

    @router.post("/experiments/kill", dependencies=may_change)
    def kill(request: Request, surface: SurfaceName, on: Annotated[bool, Form()], reason: Reason) -> Response:
        text = text_of(written_file(folder_of(shop.settings), surface))
        changed = with_kill_switch(text, on)
        draft(changed, surface)
        action = "stop all experiments" if on else "let experiments run again"
        return written(request, surface, changed, version_of(text), reason, action)

    def written(request: Request, surface: str, text: str, version: str, reason: str, action: str) -> Response:
        path = written_file(folder_of(shop.settings), surface)
        before = _said_of(text_of(path), path.name)
        with changes.logged(request.state.visitor, action, str(path), reason, before) as ended:
            replace(path, text, version, shop.settings.own_disk / "console" / "experiments")
            ended(_said_of(text, path.name))
        return RedirectResponse(f"/experiments?surface={surface}", 303)

    return router


def with_kill_switch(text: str, on: bool) -> str:
    """Return a file of experiments, its comments too, with its kill switch on or off.

    Raises:
        ConfigurationError: If it is not written as YAML with a line for each key.
    """
    line = f"kill_switch: {str(on).lower()}"
    if _KILL_SWITCH.search(text):
        return _KILL_SWITCH.sub(line, text, count=1)
    if not _VERSION.search(text):
        raise ConfigurationError("the file has no line schema_version to write kill_switch after: edit it by hand")
    return _VERSION.sub(lambda found: f"{found[0]}\n{line}", text, count=1)


def _lines(surfaces: list[Surface]) -> list[ExperimentLine]:
    return [line for surface in surfaces for line in surface.lines]


def _said_of(text: str, name: str) -> str:
    try:
        file = checked(text, name, load_experiments)
    except RecsysError as error:
        return str(error)
    running = sum(each.status == "running" for each in file.experiments)
    killed = ", all stopped by the kill switch" if file.kill_switch else ""
    return f"{file.fingerprint}: {plural(running, 'running experiment')}{killed}"
