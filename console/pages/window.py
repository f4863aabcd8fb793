"""The shop window: a user's page as they would see it, or two side by side, and why each sale is there."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from recommendations.v1 import recommendations_pb2 as pb

from console.reading.shop import ShopView
from console.web.rendering import page
from recsys.backtest.coefficients import WORDS
from recsys.errors import DamagedRecordError, RecsysError
from recsys.instants import from_micros, parse_instant
from recsys.recommenders.further import words_of
from recsys.snapshot.format import Snapshot
from serving.client import Client, PageOptions

_N = 10
_EVENTS_SHOWN = 30
_USERS_SUGGESTED = 12
_BARS = 6  # contributions shown per sale, the largest


NO_SESSION = "no-session"
OTHER_SIDES = {
    NO_SESSION: "without the session",
    "no-rules": "without the rules",
    "ranked-live": "ranked live",
    "ranked-snapshot": "as the night ranked it",
}
"""What a second page may differ in besides its policy."""
_OPTIONS: dict[str, PageOptions] = {
    "no-rules": {"without_rules": True},
    "ranked-live": {"ranking": "live"},
    "ranked-snapshot": {"ranking": "snapshot"},
}


@dataclass(frozen=True)
class Asked:
    """What the visitor asked for: the page, and the one beside it."""

    user: str
    policy: str = ""
    session: tuple[str, ...] = ()
    at: str = ""
    beside: str = ""
    """What the second page differs in: empty for no second page, one of OTHER_SIDES, or a policy."""

    def link(self, **changes: Any) -> str:
        """Return the address of the page with some of it changed."""
        asked = replace(self, **changes)
        values = {"user": asked.user, "policy": asked.policy, "session": ",".join(asked.session), "at": asked.at}
        values["beside"] = asked.beside
        return "/window?" + urlencode({name: value for name, value in values.items() if value or name == "user"})


class Bar(NamedTuple):
    """What a feature adds to a sale."""

    feature: str
    words: str
    log_odds: float
    share: float
    """Its length, relative to the longest of the page, in [0, 1]."""


class Card(NamedTuple):
    """A sale on a page."""

    sale: pb.RankedSale
    photo: int | None
    """Position of its photo in the sale; None without one."""
    closes_in: float
    """Seconds until it closes."""
    moved: int | None
    """Positions up compared with the page beside; None if it is not there."""
    bars: tuple[Bar, ...]


class Shown(NamedTuple):
    """A page, ready to be shown."""

    title: str
    answer: pb.GetTopSalesResponse | None
    cards: tuple[Card, ...]
    remarks: tuple[str, ...]
    problem: str


class Event(NamedTuple):
    """An event of the user's history."""

    at: datetime
    sale_id: str
    title: str
    is_purchase: bool


def window_pages(shop: ShopView) -> APIRouter:
    """Return the routes of the page."""
    router = APIRouter()
    words = {**WORDS, **words_of(shop.settings.recommenders.further)}

    @router.get("/window")
    def window(
        request: Request, user: str = "", policy: str = "", session: str = "", at: str = "", beside: str = ""
    ) -> HTMLResponse:
        visited = tuple(filter(None, (each.strip() for each in session.split(","))))
        asked = Asked(user.strip(), policy, visited, at.strip(), beside)
        snapshot = shop.needed_snapshot()
        answers = [_answer(shop.service, asked, {})]
        if asked.beside:
            answers.append(_answer(shop.service, _other_side(asked), _OPTIONS.get(asked.beside, {})))
        return page(
            request,
            "window.html",
            asked=asked,
            pages=_shown(answers, _titles(asked), snapshot, words),
            history=_history(shop, snapshot, asked.user),
            known=snapshot.users.find(asked.user) is not None if asked.user else False,
            policies=snapshot.answered_policies,
            other_sides=OTHER_SIDES,
            suggested=snapshot.users.sample(_USERS_SUGGESTED),
            titles={sale.sale_id: sale.title for sale in snapshot.sales},
        )

    return router


def _other_side(asked: Asked) -> Asked:
    if asked.beside == NO_SESSION:
        return replace(asked, session=())
    return asked if asked.beside in OTHER_SIDES else replace(asked, policy=asked.beside)


def _answer(service: Client, asked: Asked, options: PageOptions) -> pb.GetTopSalesResponse | RecsysError:
    try:
        said: PageOptions = {
            "policy": asked.policy,
            "session": asked.session,
            "answer_time": from_micros(parse_instant(asked.at)) if asked.at else None,
            "explain": True,
            "preview": True,
            **options,
        }
        return service.top_sales(asked.user, _N, **said)
    except RecsysError as error:
        return error


def _titles(asked: Asked) -> tuple[str, ...]:
    first = asked.policy or "as the user would see it"
    if not asked.beside:
        return (first,)
    return first, OTHER_SIDES.get(asked.beside, asked.beside)


def _shown(
    answers: list[pb.GetTopSalesResponse | RecsysError],
    titles: tuple[str, ...],
    snapshot: Snapshot,
    words: dict[str, str],
) -> list[Shown]:
    ranks = [{sale.sale_id: sale.rank for sale in _sales(answer)} for answer in answers]
    images = {sale.sale_id: sale.images for sale in snapshot.sales}
    return [
        _page_of(answer, title, images, words, ranks[0] if number else ranks[-1], len(answers) > 1)
        for number, (answer, title) in enumerate(zip(answers, titles, strict=True))
    ]


def _page_of(
    answer: pb.GetTopSalesResponse | RecsysError,
    title: str,
    images: dict[str, tuple[str, ...]],
    words: dict[str, str],
    ranks_beside: dict[str, int],
    is_compared: bool,
) -> Shown:
    if isinstance(answer, RecsysError):
        return Shown(title, None, (), (), str(answer))
    longest = max((abs(each.log_odds) for sale in answer.sales for each in sale.contributions), default=1.0) or 1.0
    cards = tuple(
        Card(
            sale,
            _photo(sale, images),
            (sale.close_time.ToDatetime(UTC) - answer.answer_time.ToDatetime(UTC)).total_seconds(),
            ranks_beside[sale.sale_id] - sale.rank if is_compared and sale.sale_id in ranks_beside else None,
            _bars(sale, words, longest),
        )
        for sale in answer.sales
    )
    rules = (f"Rule {name!r} changed this page." for name in answer.rules)
    remarks = filter(None, (answer.fallback_reason, *answer.notes, *rules, answer.shortfall_reason))
    return Shown(title, answer, cards, tuple(remarks), "")


def _sales(answer: pb.GetTopSalesResponse | RecsysError) -> list[pb.RankedSale]:
    return [] if isinstance(answer, RecsysError) else list(answer.sales)


def _photo(sale: pb.RankedSale, images: dict[str, tuple[str, ...]]) -> int | None:
    known = images.get(sale.sale_id, ())
    return known.index(sale.image_uri) if sale.image_uri in known else None


def _bars(sale: pb.RankedSale, words: dict[str, str], longest: float) -> tuple[Bar, ...]:
    largest = sorted(sale.contributions, key=lambda each: -abs(each.log_odds))[:_BARS]
    return tuple(
        Bar(each.feature, words.get(each.feature, ""), each.log_odds, abs(each.log_odds) / longest) for each in largest
    )


def _history(shop: ShopView, snapshot: Snapshot, user_id: str) -> list[Event]:
    """Return the latest events that the snapshot holds of a user, the latest first."""
    try:
        user = snapshot.users.find(user_id) if user_id else None
        history = user.history() if user else None
    except DamagedRecordError:
        return []
    if history is None:
        return []
    ids, titles = shop.catalogue_ids(snapshot), shop.titles()
    events = []
    for sale, age, purchased in zip(history.sales, history.ages, history.purchases, strict=True):
        sale_id = ids[sale] if sale < len(ids) else ""
        at = snapshot.as_of - timedelta(seconds=int(age))
        events.append(Event(at, sale_id, titles.get(sale_id, ""), bool(purchased)))
    return sorted(events, key=lambda event: event.at, reverse=True)[:_EVENTS_SHOWN]
