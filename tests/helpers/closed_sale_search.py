"""A search for closed sales on pages: through every path that creates pages, at every edge of every sale's window.

The oracle uses only windows and withdrawals.
"""

from collections.abc import Iterator
from itertools import product
from pathlib import Path

from recommendations.v1 import admin_pb2
from recommendations.v1 import recommendations_pb2 as pb

from recsys.instants import HOUR, from_micros, to_micros
from recsys.snapshot import store as snapshot_store
from tests.helpers.asking import shown
from tests.helpers.in_process import Call, InProcess, timestamp
from tests.helpers.ranked_shop import RankedShop

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
    """A clock that advances by a step at each reading, as a real clock does while a request is answered."""

    def __init__(self, micros: int):
        self.micros = micros
        self.step = 0

    def __call__(self) -> int:
        self.micros += self.step
        return self.micros


def write_snapshots(folder: Path, night: RankedShop) -> list[str]:
    """Write two snapshots of the same night to a shop's folder, and return their names."""
    return [night.write(folder / "snapshots", fingerprint=8 * letter) for letter in "ab"]


class Shop:
    """A service with random sales, and the oracle of which may be shown, from windows and withdrawals."""

    def __init__(self, folder: Path, night: RankedShop, policies: tuple[str, ...] = ("meta", "collaborative")):
        self.folder, self.night = folder, night
        self.windows = {sale.sale_id: (to_micros(sale.opens_at), to_micros(sale.closes_at)) for sale in night.sales}
        self.withdrawn: dict[str, int | None] = {}
        self.clock = SteppingClock(night.ranker.scorer.horizon.as_of)
        self.policies = policies
        ids = sorted(self.windows)
        rules = folder / "rules.yaml"
        rules.write_text(RULES.format(ids=", ".join(ids[:3]), last=ids[-1]))
        self.names = snapshot_store.names(folder / "snapshots") or write_snapshots(folder, night)
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
        """Yield the fields of one request per path through the service."""
        ids = sorted(self.windows)
        users = ["stranger", self.night.users[0]]
        yield {"user_id": ""}
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
        """Request a page through every path one by one, and every third of them in a batch."""
        requests = [pb.GetTopSalesRequest(**{"n": N, **path}) for path in self.paths()]
        for request in requests:
            started_at = self.clock.micros
            response = pb.GetTopSalesResponse.FromString(self.service.servicer.GetTopSales(request, Call()))
            self.check(request, response, started_at)
            assert all(self.may_be_shown(sale_id, self.clock.micros) for sale_id in shown(response)), (
                "a sale had closed when the page was sent"
            )
        started_at, requests = self.clock.micros, requests[::3]  # they differ in user, policy and lists
        for request, response in zip(requests, self.service.batch(requests), strict=True):
            self.check(request, response, started_at)

    def check(self, request: pb.GetTopSalesRequest, response: pb.GetTopSalesResponse, started_at: int) -> None:
        now = response.answer_time.ToMicroseconds()
        assert started_at <= now <= self.clock.micros
        found = shown(response)
        assert [sale_id for sale_id in found if not self.may_be_shown(sale_id, now)] == [], request
        for sale in response.sales:
            assert sale.open_time.ToMicroseconds() <= now < sale.close_time.ToMicroseconds()
        allowed = set(request.allowed_sale_ids) or set(self.windows)
        asked_for = allowed - set(request.denied_sale_ids)
        allowed_now = [sale_id for sale_id in asked_for if self.may_be_shown(sale_id, now)]
        if request.surface != "ruled":
            assert len(found) == len(set(found)) == min(request.n, len(allowed_now)), request
        assert (response.shortfall_reason == "") == (len(found) == request.n)

    def close(self) -> None:
        self.service.close()


def search_edges(shop: Shop) -> None:
    """Request pages after withdrawals, and at each edge of each window, 1 microsecond before and 1 after it."""
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
    """Request pages with a clock that passes an edge between any two of its readings."""
    for edge, step, n_readings in product(shop.edges(), (1, 1000), range(4)):
        shop.clock.step, shop.clock.micros = 0, edge - n_readings * step - 1
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
            shop.clock.micros = edge - n_readings * step - 1


def hide(shop: Shop, sale_id: str, until: int | None = None) -> None:
    request = admin_pb2.HideSaleRequest(sale_id=sale_id, until_time=None if until is None else timestamp(until))
    shop.service.admin.HideSale(request, Call())
    shop.withdrawn[sale_id] = until


def close(shop: Shop, sale_id: str) -> None:
    shop.service.admin.CloseSale(admin_pb2.CloseSaleRequest(sale_id=sale_id), Call())
    shop.withdrawn[sale_id] = None
