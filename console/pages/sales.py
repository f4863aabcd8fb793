"""The sales of the snapshot: open, coming and closed; and taking them off all pages, and putting them back."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from recommendations.v1 import admin_pb2 as admin_pb

from console.reading.sale_events import events_by_hour
from console.reading.sales_on_pages import OnPages, on_pages
from console.reading.shop import Answered, Sale, ShopView, State
from console.web.application import needs
from console.web.changes import Changes
from console.web.people import Role
from console.web.rendering import page
from recsys.errors import ConfigurationError, RecsysError
from recsys.instants import from_micros, parse_instant
from recsys.storage.outputs import newest_runs
from recsys.wording import did_you_mean, plural

_STATES: tuple[State, ...] = ("open", "coming", "hidden", "taken off", "closed")
_ON_A_PAGE = 100
_MOST_REASON = 1000
_FRESH = timedelta(minutes=1)

Reason = Annotated[str, Form(max_length=_MOST_REASON)]


def sales_pages(shop: ShopView, changes: Changes) -> APIRouter:
    """Return the routes of the pages."""
    router = APIRouter()
    may_change = [needs(Role.STAFF)]
    sampled: dict[str, tuple[datetime, dict[int, OnPages]]] = {}

    def where(present: datetime) -> dict[int, OnPages]:
        snapshot = shop.snapshot()
        if snapshot is None:
            return {}
        known = sampled.get(snapshot.name)
        if known is None or abs(known[0] - present) > _FRESH:
            sampled.clear()
            known = sampled[snapshot.name] = present, on_pages(snapshot, shop.settings.serving.default_policy, present)
        return known[1]

    def all_sales() -> tuple[Answered, str, list[Sale]]:
        """Return what the service says, why it does not say which sales are off, and all sales."""
        answered = shop.ask_status()
        try:
            withdrawn, problem = shop.withdrawn(), answered.problem
        except RecsysError as error:
            withdrawn, problem = {}, answered.problem or str(error)
        return answered, problem, shop.sales(answered.present, withdrawn)

    def one(sale_id: str) -> tuple[Answered, str, Sale]:
        answered, problem, found = all_sales()
        for sale in found:
            if sale.about.sale_id == sale_id:
                return answered, problem, sale
        near = did_you_mean(sale_id, [sale.about.sale_id for sale in found])
        raise ConfigurationError(
            f"sale {sale_id!r} is not in the snapshot{near}: search for its title in the list of sales"
        )

    def detail(request: Request, sale_id: str, doubts: list[str]) -> HTMLResponse:
        answered, problem, sale = one(sale_id)
        found = where(answered.present).get(sale.position)
        return page(
            request, "sale.html", sale=sale, problem=problem, doubts=doubts, on_pages=found, present=answered.present
        )

    @router.get("/sales")
    def sales(request: Request, q: str = "", state: str = "open", first: int = 0) -> HTMLResponse:
        if state not in ("all", *_STATES):
            raise ConfigurationError(f"state == {state!r}, must be all or one of {', '.join(_STATES)}")
        answered, problem, everything = all_sales()
        words = q.casefold().split()
        matching = [sale for sale in everything if all(word in _text_of(sale) for word in words)]
        counts = {name: sum(sale.state == name for sale in matching) for name in _STATES}
        chosen = sorted(
            (sale for sale in matching if state in ("all", sale.state)),
            key=lambda sale: (sale.about.closes_at, sale.about.sale_id),
        )
        return page(
            request,
            "sales.html",
            q=q,
            state=state,
            counts={**counts, "all": len(matching)},
            sales=chosen[max(first, 0) :][:_ON_A_PAGE],
            first=max(first, 0),
            n_chosen=len(chosen),
            on_a_page=_ON_A_PAGE,
            on_pages=where(answered.present),
            problem=problem,
            present=answered.present,
        )

    @router.get("/sales/{sale_id:path}")
    def sale(request: Request, sale_id: str) -> HTMLResponse:
        return detail(request, sale_id, [])

    @router.get("/sale-events/{sale_id:path}")
    def events(request: Request, sale_id: str) -> HTMLResponse:
        snapshot, run = shop.needed_snapshot(), next(iter(newest_runs(shop.settings.place)), None)
        sale = one(sale_id)[2].about
        hours = events_by_hour(run, sale, snapshot.as_of) if run else []
        return page(request, "sale_events.html", sale=sale, hours=hours, as_of=snapshot.as_of)

    def state_of(sale_id: str) -> str:
        _, problem, sale = one(sale_id)
        return f"not known: {problem}" if problem else sale.state

    def changed(request: Request, sale_id: str, method: str, action: str, message: object, reason: str) -> Response:
        before = state_of(sale_id)
        with changes.logged(request.state.visitor, action, sale_id, reason, before) as ended:
            answer = shop.service.admin(method, message)
            ended(state_of(sale_id))
            doubts = _doubts(answer, action) if isinstance(answer, admin_pb.WithdrawnSale) else []
            if doubts:
                ended(" ".join(doubts))
        if doubts:
            return detail(request, sale_id, doubts)
        return RedirectResponse(request.url_for("sale", sale_id=sale_id).path, 303)

    @router.post("/hide/{sale_id:path}", dependencies=may_change)
    def hide(request: Request, sale_id: str, reason: Reason, until: Annotated[str, Form()] = "") -> Response:
        message = admin_pb.HideSaleRequest(sale_id=sale_id, comment=_with_name(reason, request))
        if until.strip():
            message.until_time.FromDatetime(_instant(until))
        return changed(request, sale_id, "HideSale", "hide sale", message, reason)

    @router.post("/close/{sale_id:path}", dependencies=may_change)
    def close(request: Request, sale_id: str, reason: Reason, sure: Annotated[str, Form()] = "") -> Response:
        if sure != "yes":
            raise ConfigurationError("closing is final, the sale can never be shown again: tick that you are sure")
        message = admin_pb.CloseSaleRequest(sale_id=sale_id, comment=_with_name(reason, request))
        return changed(request, sale_id, "CloseSale", "close sale", message, reason)

    @router.post("/show/{sale_id:path}", dependencies=may_change)
    def show(request: Request, sale_id: str, reason: Reason) -> Response:
        message = admin_pb.ShowSaleRequest(sale_id=sale_id)
        return changed(request, sale_id, "ShowSale", "show sale", message, reason)

    return router


def _text_of(sale: Sale) -> str:
    about = sale.about
    return " ".join([about.sale_id, about.title, about.theme or "", *about.attributes.values()]).casefold()


def _with_name(reason: str, request: Request) -> str:
    """Return the reason with the name of who gives it: the service knows the console alone."""
    return f"{reason.strip()} ({request.state.visitor.name})"


def _instant(text: str) -> datetime:
    """Return an instant as people or browsers write it, UTC."""
    return from_micros(parse_instant(text.strip() + ("" if text.strip().endswith("Z") else "Z"))).astimezone(UTC)


def _doubts(answer: admin_pb.WithdrawnSale, action: str) -> list[str]:
    """Return what must be known before anybody relies on the sale being off all pages."""
    doubts = []
    if serving := list(answer.unacknowledged_processes):
        doubts.append(
            f"The sale may still be on pages of {', '.join(serving)}, which have not acknowledged it: {action} again "
            f"until none is named, or stop {plural(len(serving), 'process')}."
        )
    if stopped := list(answer.stopped_processes):
        doubts.append(
            f"{', '.join(stopped)} stopped or cannot reach the store, and may not know of it: make sure that no "
            "request is sent there."
        )
    return doubts
