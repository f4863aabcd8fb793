"""Pages for an instant to come, and pages of users who bought a short time ago."""

import pytest
from recommendations.v1 import recommendations_pb2 as pb

from recsys.config.serving import PageSettings
from recsys.errors import ConfigurationError
from recsys.instants import HOUR, SECOND
from serving.stores.base import WithdrawnSale
from tests.helpers.asking import shown
from tests.helpers.in_process import InProcess, timestamp

PURCHASE = pb.EVENT_KIND_PURCHASE
MINUTE = 60 * SECOND


@pytest.fixture
def service(shop, night):
    """A service that can rank users anew, 2 h after `as_of`."""
    shop.clock.set(2)
    with InProcess(shop.root.parent, shop.clock) as service:
        yield service


# An instant to come.


def test_page_for_tomorrow_holds_the_sales_that_are_open_then(shop, make_sale):
    windows = {"closes": (-1, 20), "hidden": (-1, 40), "opens": (30, 40), "stays": (-1, 40)}
    shop.publish([make_sale(name, *window) for name, window in windows.items()], {})
    shop.clock.set(2)
    with InProcess(shop.root.parent, shop.clock) as service:
        at = shop.clock() + 29 * HOUR
        service.store.withdraw(WithdrawnSale(sale_id="hidden", closed=False, since=0, until=at))
        tomorrow = {"answer_time": timestamp(at)}
        page = service.ask(**tomorrow)
        assert sorted(shown(page)) == ["hidden", "opens", "stays"]
        assert page.answer_time == timestamp(at)
        assert sorted(shown(service.ask())) == ["closes", "stays"]
        requests = [pb.GetTopSalesRequest(**tomorrow), pb.GetTopSalesRequest()]
        assert [sorted(shown(page)) for page in service.batch(requests)] == [
            ["hidden", "opens", "stays"],
            ["closes", "stays"],
        ]


@pytest.mark.parametrize(("hours", "micros"), [(1, 0), (36, 0), (1e6, 0), (-1e5, 0)])
def test_instant_that_the_snapshot_does_not_reach_is_refused(service, hours, micros):
    at = service.clock() + int((hours - 2) * HOUR) + micros
    with pytest.raises(ConfigurationError) as error:
        service.ask(answer_time=timestamp(at))
    assert str(error.value).startswith("answer_time == ")
    assert str(error.value).endswith(
        "must be from the present, 2026-03-01 02:00:00 UTC, to the end of the snapshot's horizon, "
        "2026-03-02 12:00:00 UTC (excluded): ask for a later instant after the next night"
    )


def test_present_by_the_clock_of_the_caller_is_the_present(service):
    page = service.ask(answer_time=timestamp(service.clock() - MINUTE))
    assert page.answer_time == timestamp(service.clock())
    last = service.clock() + 34 * HOUR - 1
    assert service.ask(answer_time=timestamp(last)).answer_time == timestamp(last)


# Sales that the user just bought.


def test_sale_that_was_just_bought_comes_last(service, shop):
    first, *others = shown(service.ask("visitor", n=40))
    service.record("visitor", first, kind=PURCHASE)
    shop.clock.micros += 2 * MINUTE
    for asked in ({}, {"session_sale_ids": [others[0]]}, {"policy": "popularity"}, {"policy": "collaborative"}):
        page = service.ask("visitor", n=40, **asked)
        assert (shown(page)[-1], sorted(shown(page))) == (first, sorted([first, *others]))
        assert "Sales that the user bought a short time ago come last." in page.notes
        assert first not in shown(service.ask("visitor", n=3, **asked))
    shop.clock.micros += 3 * HOUR  # the session is over, the purchase counts on
    assert shown(service.ask("visitor", n=40))[-1] == first
    assert shown(service.ask("other", n=1)) == [first]


def test_purchase_of_the_nights_history_counts_for_the_configured_time(shop, night):
    block = night.data.histories()
    positions = {sale.sale_id: position for position, sale in enumerate(night.sales)}
    shop.clock.set(2)
    ages: dict[tuple[str, str], float] = {}
    for row, user_id in enumerate(night.data.block.user_ids.to_pylist()):
        for event in range(block.offsets[row], block.offsets[row + 1]):
            sale_id = night.data.catalogue.sale_ids[block.sales[event]]
            if block.purchases[event] and sale_id in positions:
                ages[user_id, sale_id] = (shop.clock() - block.occurred_at[event]) / HOUR  # the latest one is the last
    assert len(ages) > 10
    for hours in (5.0, 72.0, 1e4, None):
        with InProcess(shop.root.parent, shop.clock, pages=PageSettings(just_bought_hours=hours)) as service:
            for user_id in night.users:
                page = service.ask(user_id, n=40)
                mine = [sale_id for sale_id in shown(page) if ages.get((user_id, sale_id), 1e9) <= (hours or 0)]
                assert shown(page)[len(page.sales) - len(mine) :] == sorted(mine, key=positions.__getitem__)
                assert bool(page.notes) == bool(mine)


def test_user_who_bought_everything_still_gets_a_page(service):
    everything = shown(service.ask(n=40))
    service.record("visitor", *everything, kind=PURCHASE)
    page = service.ask("visitor", n=5)
    assert len(page.sales) == 5
    assert sorted(shown(service.ask("visitor", n=40))) == sorted(everything)
