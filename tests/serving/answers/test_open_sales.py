from collections.abc import Callable
from types import MappingProxyType

import pytest

from recsys.instants import HOUR, to_micros
from recsys.snapshot.format import Snapshot
from serving.answers.open_sales import OpenSalesFinder, picks
from serving.stores.base import WithdrawnSale

OPEN_REASON = 4


class Withdrawn:
    """Withdrawn sales with a version, as in a store."""

    def __init__(self) -> None:
        self.sales: dict[str, WithdrawnSale] = {}
        self.changes = 0

    def put(self, sale_id: str, until: int | None = None) -> None:
        self.sales[sale_id] = WithdrawnSale(sale_id=sale_id, closed=until is None, since=0, until=until)
        self.changes += 1

    def version(self) -> int:
        return self.changes

    def all(self) -> MappingProxyType[str, WithdrawnSale]:
        return MappingProxyType(dict(self.sales))


@pytest.fixture
def withdrawn() -> Withdrawn:
    return Withdrawn()


@pytest.fixture
def finder(shop, make_sale, withdrawn) -> OpenSalesFinder:
    """Sales a [-1 h, 24 h), b [2 h, 5 h), c [-1 h, 5 h), d [-9 h, -5 h); popularity ranks b, then a."""
    sales = [make_sale("a"), make_sale("b", 2, 5), make_sale("c", -1, 5), make_sale("d", -9, -5)]
    segments = {"market": {"FR": [(2, 1.0, 2), (1, 0.5, 2)]}}
    name = shop.write(sales, {}, popularity=[(1, 2.0, 2), (0, 1.0, 2)], segments=segments)
    return finder_of(Snapshot.open(shop.root / name), withdrawn.version, withdrawn.all)


def finder_of(snapshot: Snapshot, *withdrawn: Callable) -> OpenSalesFinder:
    popular = picks(snapshot.shared_rankings["popularity"])
    return OpenSalesFinder(snapshot, OPEN_REASON, *withdrawn, lambda *_: popular)


def is_open(finder: OpenSalesFinder, now: int) -> str:
    return "".join(name for name, open_now in zip("abcd", finder.open_at(now).is_open, strict=True) if open_now)


def test_open_includes_the_start_of_a_window_and_excludes_its_end(shop, finder):
    cases = [(-1, -1, ""), (-1, 0, "ac"), (2, -1, "ac"), (2, 0, "abc"), (5, -1, "abc"), (5, 0, "a"), (24, 0, "")]
    for hours, micros, expected in [*cases, *reversed(cases)]:
        shop.clock.set(hours, micros)
        assert is_open(finder, shop.clock()) == expected


def test_instants_between_two_edges_share_one_list(shop, finder):
    shop.clock.set(2)
    found = finder.open_at(shop.clock())
    assert (found.since, found.until) == (shop.clock(), shop.clock() + 3 * HOUR)
    assert finder.open_at(found.until - 1) is found
    assert finder.open_at(found.until) is not found


def test_before_the_first_and_after_the_last_edge_nothing_is_open(finder):
    for now in (0, 1 << 62):
        found = finder.open_at(now)
        assert found.since <= now < found.until
        assert not any(found.is_open)


def test_ranked_open_sales_are_ordered_by_popularity_and_the_others_by_closing_time(shop, finder):
    shop.clock.set(3)
    found = finder.open_at(shop.clock())
    assert [pick[:2] for pick in found.popular] == [(1, 2.0), (0, 1.0)]
    assert [pick[:3] for pick in found.unranked] == [(2, None, OPEN_REASON)]


def test_closed_or_hidden_sale_is_not_open_from_the_next_request_on(shop, finder, withdrawn):
    assert is_open(finder, shop.clock()) == "ac"
    withdrawn.put("a")
    found = finder.open_at(shop.clock())
    assert is_open(finder, shop.clock()) == "c"
    assert found.popular == []
    withdrawn.put("c")
    assert finder.open_at(shop.clock()).unranked == []


def test_hidden_sale_is_shown_again_from_the_instant_it_is_hidden_until(shop, finder, withdrawn):
    until = to_micros(shop.as_of) + HOUR
    withdrawn.put("a", until)
    assert is_open(finder, until - 1) == "c"
    assert finder.open_at(until - 1).until == until
    assert is_open(finder, until) == "ac"
    assert is_open(finder, until - 1) == "c"


def test_hiding_opens_no_sale_before_its_time(finder, withdrawn, shop):
    withdrawn.put("d", to_micros(shop.as_of))
    withdrawn.put("b", to_micros(shop.as_of))
    assert is_open(finder, to_micros(shop.as_of)) == "ac"


def test_withdrawn_sale_that_the_snapshot_does_not_have_changes_nothing(shop, finder, withdrawn):
    withdrawn.put("elsewhere")
    assert is_open(finder, shop.clock()) == "ac"


def test_change_while_the_list_is_computed_is_noticed_at_the_next_request(shop, make_sale, withdrawn):
    def read_late() -> MappingProxyType[str, WithdrawnSale]:
        before = withdrawn.all()
        if withdrawn.changes == 1:
            withdrawn.put("b")  # another process, after this one has read
        return before

    name = shop.write([make_sale("a"), make_sale("b")], {})
    finder = finder_of(Snapshot.open(shop.root / name), withdrawn.version, read_late)
    withdrawn.put("a")
    finder.open_at(shop.clock())
    assert finder.open_at(shop.clock()).is_open == [False, False]


def test_segment_holds_its_open_sales_best_first(shop, finder, withdrawn):
    def of_segment(hours: float, value: str = "FR") -> list[int]:
        shop.clock.set(hours)
        return [pick[0] for pick in finder.segment(("market", value), finder.open_at(shop.clock()))]

    assert of_segment(0) == [2]
    assert of_segment(2) == [2, 1]
    assert of_segment(2) == [2, 1]
    assert of_segment(6) == []
    withdrawn.put("c")
    assert of_segment(2) == [1]
    assert of_segment(2, "atlantis") == []


def test_values_without_a_ranking_are_not_cached(shop, finder):
    found = finder.open_at(shop.clock())
    for number in range(100):
        assert finder.segment(("market", f"made up {number}"), found) == []
        assert finder.segment((f"made up {number}", "FR"), found) == []
    assert found.segments == {}
