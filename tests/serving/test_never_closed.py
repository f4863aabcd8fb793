"""A closed sale is never shown: a search on random shops and days, which finds each planted leak."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import pytest
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
from recommendations.v1 import admin_pb2
from recommendations.v1 import recommendations_pb2 as pb

from recsys.instants import HOUR
from recsys.rules import PageRules
from serving.answers.open_sales import OpenSales, OpenSalesFinder
from serving.answers.page_making import PageMaker
from serving.answers.pages import PageRequest
from serving.api.requests import page_request
from serving.api.servicer import RecommendationsServicer
from serving.errors import NotFoundError
from serving.stores.folder import FolderStore
from tests.helpers.closed_sale_search import Shop, close, hide, search_edges, search_steps, write_snapshots
from tests.helpers.in_process import Call, InProcess
from tests.helpers.ranked_shop import RankedShop


@pytest.fixture(scope="module", params=[0, 4, 5])
def any_shop(request, tmp_path_factory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("shop")
    shop = Shop(folder, RankedShop.made(folder / "ranker", request.param, n_users=9, n_sales=30))
    yield shop
    shop.close()


def test_no_closed_sale_at_any_edge_by_any_path(any_shop):
    search_edges(any_shop)


def test_no_closed_sale_when_the_clock_passes_an_edge_while_the_answer_is_made(any_shop):
    search_steps(any_shop)


class Day(RuleBasedStateMachine):
    """A day of a shop: the clock moves both ways; sales are closed, hidden and shown; snapshots and workers change."""

    night: RankedShop
    written: Path
    folders: Iterator[Path]

    @initialize()
    def open_the_shop(self) -> None:
        self.stack = ExitStack()
        folder = next(self.folders)
        shutil.copytree(self.written, folder, dirs_exist_ok=True)
        self.shop = Shop(folder, self.night)
        self.stack.callback(lambda: self.shop.close())

    @rule(data=st.data(), micros=st.sampled_from([-1, 0, 1]), step=st.sampled_from([0, 0, 1, HOUR]))
    def go_to_an_edge(self, data: st.DataObject, micros: int, step: int) -> None:
        self.shop.clock.micros = data.draw(st.sampled_from(self.shop.edges())) + micros
        self.shop.clock.step = step

    @rule(data=st.data())
    def close_a_sale(self, data: st.DataObject) -> None:
        close(self.shop, data.draw(st.sampled_from(sorted(self.shop.windows))))

    @precondition(lambda self: any(until is not None for until in self.choices().values()))
    @rule(data=st.data(), hours=st.integers(5, 30) | st.just(10_000))  # the clock may advance by hours during the call
    def hide_a_sale(self, data: st.DataObject, hours: int) -> None:
        choices = [sale_id for sale_id, until in self.choices().items() if until is not None]
        hide(self.shop, data.draw(st.sampled_from(choices)), self.shop.clock.micros + hours * HOUR)

    @precondition(lambda self: any(until is not None for until in self.shop.withdrawn.values()))
    @rule(data=st.data())
    def show_a_sale(self, data: st.DataObject) -> None:
        hidden = {sale_id: until for sale_id, until in self.shop.withdrawn.items() if until is not None}
        sale_id = data.draw(st.sampled_from(sorted(hidden)))
        started_at = self.shop.clock.micros
        try:
            self.shop.service.admin.ShowSale(admin_pb2.ShowSaleRequest(sale_id=sale_id), Call())
            assert started_at < hidden[sale_id]
            del self.shop.withdrawn[sale_id]
        except NotFoundError:  # it is hidden no longer; it will be again where the clock moves back
            assert hidden[sale_id] <= self.shop.clock.micros

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
    Day.written = folder / "written"
    write_snapshots(Day.written, Day.night)

    def folders() -> Iterator[Path]:
        while True:
            yield tmp_path_factory.mktemp("day")

    Day.folders = folders()
    return Day


def test_no_closed_sale_on_any_day(day):
    run_state_machine_as_test(day, settings=settings(max_examples=20, stateful_step_count=20, deadline=None))


# Planted leaks.


def answer_as_of(monkeypatch: pytest.MonkeyPatch, other: Callable[[OpenSalesFinder, int], int]) -> None:
    """Use the sales that are open at another instant."""
    open_at = OpenSalesFinder._open_at

    def leaking(self: OpenSalesFinder, now: int, *known: object) -> OpenSales:
        right, wrong = (open_at(self, instant, *known) for instant in (now, other(self, now)))
        return replace(wrong, since=right.since, until=right.until)

    monkeypatch.setattr(OpenSalesFinder, "_open_at", leaking)


def keep_the_first_answer(monkeypatch) -> None:
    answer_as_of(monkeypatch, lambda self, now: self.__dict__.setdefault("first", now))


def close_a_microsecond_late(monkeypatch) -> None:
    answer_as_of(monkeypatch, lambda _, now: now - 1)


def open_a_microsecond_early(monkeypatch) -> None:
    answer_as_of(monkeypatch, lambda _, now: now + 1)


def forget_what_is_withdrawn(monkeypatch) -> None:
    monkeypatch.setattr(FolderStore, "withdrawn", lambda _: {})


def look_at_withdrawn_sales_once(monkeypatch) -> None:
    monkeypatch.setattr(FolderStore, "version", lambda _: 0)


def show_all_that_is_allowed(monkeypatch) -> None:
    def allowed(self: PageMaker, request: PageRequest, is_open: list[bool]) -> list[bool]:
        return [sale_id in request.allowed for sale_id in self._position] if request.allowed else is_open

    monkeypatch.setattr(PageMaker, "_allowed", allowed)


def pin_what_is_closed(monkeypatch) -> None:
    arrange = PageRules.arrange
    monkeypatch.setattr(
        PageRules, "arrange", lambda self, ranked, is_open, *rest: arrange(self, ranked, [True] * len(is_open), *rest)
    )


def trust_the_ranking(monkeypatch) -> None:
    monkeypatch.setattr(PageMaker, "_allowed", lambda _, _request, is_open: [True] * len(is_open))


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
    def answer_once(self: RecommendationsServicer, message: pb.GetTopSalesRequest, *_: object) -> bytes:
        page = self._served().answer(page_request(message, "meta", self._settings.limits), self._clock(), "r-1")[1]
        self._clock()  # advance by the time that the answer took
        return page

    monkeypatch.setattr(RecommendationsServicer, "_answer_page", answer_once)
    with closing(Shop(tmp_path, ranked_shop)) as shop, pytest.raises(AssertionError):
        search_steps(shop)
