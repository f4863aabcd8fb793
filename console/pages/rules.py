"""The rules of pages: edited with their problems beside them, tried on users' pages, and put in force."""

from pathlib import Path
from typing import Annotated, NamedTuple

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from console.reading.shop import ShopView
from console.web.application import needs
from console.web.changes import Changes
from console.web.drafts import MOST_CHARACTERS, checked, replace, text_of, unix_lines, version_of
from console.web.people import Role
from console.web.rendering import page
from recsys.errors import ConfigurationError, RecsysError
from recsys.rules import PageRules, RuleSet, Trial, load_rules
from recsys.rules.settings import RuleSettings
from recsys.snapshot.format import Snapshot
from serving.answers.rules_trial import PageKind, rules_trial

_USERS_TRIED = 200
_PAGES_SHOWN = 3
_N = 10
_SHARED = ("name", "kind", "surface", "since", "until")  # have columns of their own
_EXAMPLE = """# What each rule may say: conf/rules/home.yaml, and the documentation, "Rules".
schema_version: 1
rules: []
"""

Text = Annotated[str, Form(max_length=MOST_CHARACTERS)]


class Before(NamedTuple):
    """The positions of a page that rules would change."""

    user_id: str
    places: tuple[tuple[int, str | None, str | None, str | None], ...]
    """Position, sale before, sale after, and the rule that put it there."""
    notes: tuple[str, ...]


def rules_pages(shop: ShopView, changes: Changes) -> APIRouter:
    """Return the routes of the page."""
    router = APIRouter()

    def file() -> Path:
        if shop.settings.serving.rules is None:
            raise ConfigurationError(
                "serving.rules == None, must be a file of rules: set it in the configuration, such as "
                "conf/rules/home.yaml, and start the service again"
            )
        return Path(shop.settings.serving.rules)

    @router.get("/rules")
    def rules(request: Request) -> HTMLResponse:
        path = file()
        text = text_of(path)
        in_force = shop.ask_status()
        found, problem = _loaded(text, path.name) if text else (None, "")
        return page(
            request,
            "rules.html",
            path=path,
            text=text or _EXAMPLE,
            version=version_of(text),
            rules=found,
            what={each.name: _what(each) for each in found.rules} if found else {},
            problem=problem,
            in_force=in_force.status.rules if in_force.status else None,
            service_problem=in_force.problem,
        )

    @router.post("/rules/check")
    def check(request: Request, text: Text) -> HTMLResponse:
        found, problem = _loaded(unix_lines(text), file().name)
        snapshot = shop.snapshot()
        notes = list(PageRules(found, snapshot.sales).notes) if found and snapshot else []
        return page(request, "rules_checked.html", rules=found, problem=problem, notes=notes)

    @router.post("/rules/try")
    def try_rules(request: Request, text: Text, surface: Annotated[str, Form(max_length=256)] = "home") -> HTMLResponse:
        found = checked(unix_lines(text), file().name, load_rules)
        snapshot = shop.needed_snapshot()
        kind = PageKind(shop.settings.serving.default_policy, _N, surface.strip() or "home", {})
        users = snapshot.users.sample(_USERS_TRIED)
        trial = rules_trial(snapshot, found, users, kind, None, shop.settings.serving.pages)
        return page(request, "rules_trial.html", trial=trial, pages=_first_pages(trial), titles=_titles(snapshot))

    @router.post("/rules/save", dependencies=[needs(Role.STAFF)])
    def save(
        request: Request, text: Text, version: Annotated[str, Form()], reason: Annotated[str, Form(max_length=1000)]
    ) -> Response:
        path, written = file(), unix_lines(text)
        found = checked(written, path.name, load_rules)
        before = _said_of(*_loaded(text_of(path), path.name))
        with changes.logged(request.state.visitor, "change rules", str(path), reason, before) as ended:
            replace(path, written, version, shop.settings.own_disk / "console" / "rules")
            ended(_said_of(found, ""))
        return RedirectResponse("/rules", 303)

    return router


def _loaded(text: str, name: str) -> tuple[RuleSet | None, str]:
    """Return the rules of a text, or what is wrong with it."""
    if not text.strip():
        return None, f"{name} is empty"
    try:
        return checked(text, name, load_rules), ""
    except RecsysError as error:
        return None, str(error)


def _said_of(rules: RuleSet | None, problem: str) -> str:
    if rules is None:
        return problem
    return f"{rules.fingerprint}: {', '.join(each.name for each in rules.rules) or 'no rule'}"


def _what(rule: RuleSettings) -> str:
    """Return what is particular to a rule, as JSON."""
    return rule.model_dump_json(exclude=set(_SHARED), exclude_defaults=True, by_alias=True)


def _first_pages(trial: Trial) -> list[Before]:
    return [
        Before(each.user_id, tuple((at.place, at.before, at.after, at.rule) for at in each.places), each.notes)
        for each in trial.changed[:_PAGES_SHOWN]
    ]


def _titles(snapshot: Snapshot) -> dict[str, str]:
    return {sale.sale_id: sale.title or sale.sale_id for sale in snapshot.sales}
