"""A search for a closed sale on a page: over random shops, every path that makes pages, and every edge of every window.

The oracle knows windows and withdrawals only. Leaks are planted, and each is found.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from asking import shown
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from in_process import Call, InProcess, timestamp
from ranked_shop import RankedShop
from recommendations.v1 import admin_pb2
from recommendations.v1 import recommendations_pb2 as pb

from recsys import snapshot_store
from recsys.instants import HOUR, from_micros, to_micros
from recsys.rules import PageRules
from serving.answers.open_sales import Doorkeeper, OpenSales
from serving.answers.top_sales import TopSales
from serving.requests import page_request
from serving.servicer import RecommendationsServicer
from serving.stores.folder import FolderStore

N = 12
RULES = """
schema_version: 1
rules:
- {{kind: pin, name: pinned, sale_ids: [{ids}], position: 2, surface: ruled}}
- {{kind: boost, name: boosted, match: {{sale_id: {{$in: [{ids}]}}}}, places: 5, surface: ruled}}
- {{kind: new_sales, name: fresh, share: 0.5, hours: 4, surface: ruled}}
- {{kind: filter, name: filtered, match: {{sale_id: {last}}}, surface: ruled}}
"""


class SteppingClock:
    """Goes on by a step each time that it is read, as real clocks do while an answer is made."""

    def __init__(self, micros: int):
        self.micros = micros
        self.step = 0

    def __call__(self) -> int:
        self.micros += self.step
        return self.micros


class Shop:
    """A service on random sales, and what may be shown: windows and withdrawals."""

    def __init__(self, folder: Path, night: RankedShop, policies: tuple[str, ...] = ("meta", "collaborative")):
        self.folder, self.night = folder, night
        self.windows = {sale.sale_id: (to_micros(sale.opens_at), to_micros(sale.closes_at)) for sale in night.sales}
        self.withdrawn: dict[str, int | None] = {}
        self.clock = SteppingClock(night.ranker.scorer.horizon.as_of)
        self.policies = policies
        ids = sorted(self.windows)
        rules = folder / "rules.yaml"
        rules.write_text(RULES.format(ids=", ".join(ids[:3]), last=ids[-1]))
        self.names = [night.write(folder / "snapshots", fingerprint=8 * letter) for letter in "ab"]
        self.point_at(0)
        self.service = InProcess(folder, self.clock, rules)

    def point_at(self, number: int) -> None:
        snapshot_store.publish(self.folder / "snapshots", self.names[number], from_micros(self.clock.micros))

    def may_be_shown(self, sale_id: str, now: int) -> bool:
        opens_at, closes_at = self.windows[sale_id]
        hidden_until = self.withdrawn.get(sale_id, now)
        return opens_at <= now < closes_at and hidden_until is not None and now >= hidden_until

    def edges(self) -> list[int]:
        ends = {*(edge for window in self.windows.values() for edge in window), *self.withdrawn.values()}
        return sorted(edge for edge in ends if edge is not None)

    def paths(self) -> Iterator[dict]:
        """Every way to ask for a page."""
        ids = sorted(self.windows)
        users = ["", "stranger", self.night.users[0]]
        for user_id, policy in product(users, (*self.policies, "popularity")):
            yield {"user_id": user_id, "policy": policy}
        for user_id in users:
            yield {"user_id": user_id, "session_sale_ids": ids[1:4]}
            yield {"user_id": user_id, "attributes": {"market": "FR"}}
            yield {"user_id": user_id, "allowed_sale_ids": ids[::2]}
            yield {"user_id": user_id, "denied_sale_ids": ids[::3], "explain": True}
            yield {"user_id": user_id, "surface": "ruled", "n": 4}
            yield {"user_id": user_id, "surface": "ruled", "session_sale_ids": ids[:2], "allowed_sale_ids": ids[:6]}

    def ask_all(self) -> None:
        """Ask for a page by every path, alone and all in a batch."""
        requests = [pb.GetTopSalesRequest(**{"n": N, **path}) for path in self.paths()]
        for request in requests:
            begun = self.clock.micros
            response = pb.GetTopSalesResponse.FromString(self.service.servicer.GetTopSales(request, Call()))
            self.check(request, response, begun)
            assert all(self.may_be_shown(sale_id, self.clock.micros) for sale_id in shown(response)), "when it was sent"
        begun = self.clock.micros
        for request, response in zip(requests, self.service.batch(requests), strict=True):
            self.check(request, response, begun)

    def check(self, request: pb.GetTopSalesRequest, response: pb.GetTopSalesResponse, begun: int) -> None:
        now = response.answer_time.ToMicroseconds()
        assert begun <= now <= self.clock.micros
        found = shown(response)
        assert [sale_id for sale_id in found if not self.may_be_shown(sale_id, now)] == [], request
        for sale in response.sales:
            assert sale.open_time.ToMicroseconds() <= now < sale.close_time.ToMicroseconds()
        allowed = set(request.allowed_sale_ids) or set(self.windows)
        asked_for = allowed - set(request.denied_sale_ids)
        may = [sale_id for sale_id in asked_for if self.may_be_shown(sale_id, now)]
        if request.surface != "ruled":
            assert len(found) == len(set(found)) == min(request.n, len(may)), request
        assert (response.shortfall_reason == "") == (len(found) == request.n)

    def close(self) -> None:
        self.service.close()


@pytest.fixture(scope="module", params=[0, 4, 5])
def any_shop(request, tmp_path_factory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("shop")
    shop = Shop(folder, RankedShop.made(folder / "ranker", request.param, n_users=9, n_sales=30))
    yield shop
    shop.close()


def search_edges(shop: Shop) -> None:
    """Ask by every path as sales are withdrawn, and at each edge of each window, and a microsecond to either side."""
    now = shop.night.ranker.scorer.horizon.as_of + HOUR
    shop.clock.step, shop.clock.micros = 0, now
    hidden, closed, *_ = (sale_id for sale_id in sorted(shop.windows) if shop.may_be_shown(sale_id, now))
    shop.ask_all()
    hide(shop, hidden, now + 2 * HOUR + 1)
    shop.ask_all()
    close(shop, closed)
    shop.ask_all()
    for edge in shop.edges():
        for micros in (-1, 0, 1, -1):
            shop.clock.micros = edge + micros
            shop.ask_all()


def search_steps(shop: Shop) -> None:
    """Ask with a clock that steps over an edge between any two of its readings."""
    for edge, step, before in product(shop.edges(), (1, 1000), range(4)):
        shop.clock.step, shop.clock.micros = 0, edge - before * step - 1
        for request in (
            {"user_id": ""},
            {"user_id": shop.night.users[0]},
            {"policy": "popularity", "surface": "ruled"},
        ):
            shop.clock.step = step
            asked = pb.GetTopSalesRequest(n=N, **request)
            response = pb.GetTopSalesResponse.FromString(shop.service.servicer.GetTopSales(asked, Call()))
            shop.clock.step = 0
            assert all(shop.may_be_shown(sale_id, shop.clock.micros) for sale_id in shown(response))
            shop.clock.micros = edge - before * step - 1


def hide(shop: Shop, sale_id: str, until: int | None = None) -> None:
    request = admin_pb2.HideSaleRequest(sale_id=sale_id, until_time=None if until is None else timestamp(until))
    shop.service.admin.HideSale(request, Call())
    shop.withdrawn[sale_id] = until


def close(shop: Shop, sale_id: str) -> None:
    shop.service.admin.CloseSale(admin_pb2.CloseSaleRequest(sale_id=sale_id), Call())
    shop.withdrawn[sale_id] = None


def test_no_closed_sale_at_any_edge_by_any_path(any_shop):
    search_edges(any_shop)


def test_no_closed_sale_when_the_clock_steps_over_an_edge_while_the_answer_is_made(any_shop):
    search_steps(any_shop)


class Day(RuleBasedStateMachine):
    """A day of a shop: time goes on and back, sales are closed, hidden and shown, snapshots and processes change."""

    night: RankedShop
    folders: Iterator[Path]

    @initialize()
    def open_the_shop(self) -> None:
        self.stack = ExitStack()
        self.shop = Shop(next(self.folders), self.night)
        self.stack.callback(lambda: self.shop.close())

    @rule(data=st.data(), micros=st.sampled_from([-1, 0, 1]), step=st.sampled_from([0, 0, 1, HOUR]))
    def go_to_an_edge(self, data: st.DataObject, micros: int, step: int) -> None:
        self.shop.clock.micros = data.draw(st.sampled_from(self.shop.edges())) + micros
        self.shop.clock.step = step

    @rule(data=st.data())
    def close_a_sale(self, data: st.DataObject) -> None:
        close(self.shop, data.draw(st.sampled_from(sorted(self.shop.windows))))

    @precondition(lambda self: any(until is not None for until in self.choices().values()))
    @rule(data=st.data(), hours=st.integers(1, 30))
    def hide_a_sale(self, data: st.DataObject, hours: int) -> None:
        choices = [sale_id for sale_id, until in self.choices().items() if until is not None]
        until = data.draw(st.sampled_from([self.shop.clock.micros + hours * HOUR, 1 << 52]))
        hide(self.shop, data.draw(st.sampled_from(choices)), until)

    @precondition(lambda self: any(until is not None for until in self.shop.withdrawn.values()))
    @rule(data=st.data())
    def show_a_sale(self, data: st.DataObject) -> None:
        choices = [sale_id for sale_id, until in self.shop.withdrawn.items() if until is not None]
        sale_id = data.draw(st.sampled_from(choices))
        self.shop.service.admin.ShowSale(admin_pb2.ShowSaleRequest(sale_id=sale_id), Call())
        del self.shop.withdrawn[sale_id]

    @rule(number=st.integers(0, 1))
    def publish_a_snapshot(self, number: int) -> None:
        self.shop.point_at(number)
        self.shop.service.poll()

    @rule()
    def restart(self) -> None:
        self.shop.service.close()
        self.shop.service = InProcess(self.shop.folder, self.shop.clock, self.shop.folder / "rules.yaml")

    @rule(data=st.data())
    def visit(self, data: st.DataObject) -> None:
        sale_id = data.draw(st.sampled_from(sorted(self.shop.windows)))
        self.shop.service.record(self.shop.night.users[0], sale_id)

    @invariant()
    def no_page_shows_a_closed_sale(self) -> None:
        self.shop.ask_all()

    def choices(self) -> dict[str, int | None]:
        return {sale_id: self.shop.withdrawn.get(sale_id, 0) for sale_id in self.shop.windows}

    def teardown(self) -> None:
        self.stack.close()


@pytest.fixture(scope="module")
def day(tmp_path_factory) -> type[Day]:
    folder = tmp_path_factory.mktemp("day")
    Day.night = RankedShop.made(folder / "ranker", 2, n_users=9, n_sales=30)

    def folders() -> Iterator[Path]:
        while True:
            yield tmp_path_factory.mktemp("day")

    Day.folders = folders()
    return Day


def test_no_closed_sale_on_any_day(day):
    run_state_machine_as_test(day, settings=settings(max_examples=20, stateful_step_count=20, deadline=None))


# Leaks that somebody might build in.


def answer_as_of(monkeypatch: pytest.MonkeyPatch, other: Callable[[Doorkeeper, int], int]) -> None:
    """Take the sales that are open at another instant for those of the present."""
    open_at = Doorkeeper._open_at

    def leaking(self: Doorkeeper, now: int, version: int) -> OpenSales:
        right, wrong = (open_at(self, instant, version) for instant in (now, other(self, now)))
        return replace(wrong, since=right.since, until=right.until)

    monkeypatch.setattr(Doorkeeper, "_open_at", leaking)


def keep_the_first_answer(monkeypatch) -> None:
    answer_as_of(monkeypatch, lambda self, now: self.__dict__.setdefault("first", now))


def close_a_microsecond_late(monkeypatch) -> None:
    answer_as_of(monkeypatch, lambda _, now: now - 1)


def open_a_microsecond_early(monkeypatch) -> None:
    answer_as_of(monkeypatch, lambda _, now: now + 1)


def forget_what_is_withdrawn(monkeypatch) -> None:
    monkeypatch.setattr(FolderStore, "withdrawn", lambda self: {})


def look_at_withdrawn_sales_once(monkeypatch) -> None:
    monkeypatch.setattr(FolderStore, "version", lambda self: 0)


def show_all_that_is_allowed(monkeypatch) -> None:
    def admitted(self: TopSales, request: object, is_open: list[bool]) -> list[bool]:
        return [sale_id in request.allowed for sale_id in self.sale_ids] if request.allowed else is_open

    monkeypatch.setattr(TopSales, "_admitted", admitted)


def pin_what_is_closed(monkeypatch) -> None:
    arrange = PageRules.arrange
    monkeypatch.setattr(
        PageRules, "arrange", lambda self, ranked, is_open, *rest: arrange(self, ranked, [True] * len(is_open), *rest)
    )


def trust_the_ranking(monkeypatch) -> None:
    monkeypatch.setattr(TopSales, "_admitted", lambda self, request, is_open: [True] * len(is_open))


LEAKS = [
    keep_the_first_answer,
    close_a_microsecond_late,
    open_a_microsecond_early,
    forget_what_is_withdrawn,
    look_at_withdrawn_sales_once,
    show_all_that_is_allowed,
    pin_what_is_closed,
    trust_the_ranking,
]


@pytest.mark.parametrize("plant", LEAKS, ids=lambda plant: plant.__name__)
def test_search_finds_a_planted_leak(tmp_path, ranked_shop, monkeypatch, plant):
    plant(monkeypatch)
    with closing(Shop(tmp_path, ranked_shop)) as shop, pytest.raises(AssertionError):
        search_edges(shop)


def test_search_finds_an_answer_that_is_sent_after_an_edge(tmp_path, ranked_shop, monkeypatch):
    def answer_once(self: RecommendationsServicer, message: pb.GetTopSalesRequest, context: Call) -> bytes:
        page = self._served().answer(page_request(message, "meta", self._settings.limits), self._clock(), "r-1")[1]
        self._clock()  # as much later as the answer took
        return page

    monkeypatch.setattr(RecommendationsServicer, "_page", answer_once)
    with closing(Shop(tmp_path, ranked_shop)) as shop, pytest.raises(AssertionError):
        search_steps(shop)
