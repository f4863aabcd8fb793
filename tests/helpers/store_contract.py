"""Contract tests that every store must pass; the test class of a store inherits them and defines the fixtures."""

from random import Random
from threading import Thread

import pytest
from numpy.testing import assert_allclose
from recommendations.v1 import recommendations_pb2 as pb

from recsys.errors import SnapshotError
from recsys.instants import DAY, HOUR, SECOND, to_micros
from recsys.shop.live_counts import LiveCounts
from recsys.snapshot.format import Snapshot
from serving.answers.pages import PageRequest, Visit
from serving.answers.top_sales import TopSales
from serving.stores.base import SessionEvent, Store, WithdrawnSale
from tests.helpers.counted_events import counted_once, counts_by_sale, live_counts

NOON = 20_000 * DAY + 12 * HOUR
"""The time of the stores' clock, microseconds."""


def withdrawn(sale_id: str, **changes: object) -> WithdrawnSale:
    return WithdrawnSale(**{"sale_id": sale_id, "closed": True, "since": NOON, **changes})


def in_force(store: Store) -> dict[str, tuple[bool, str]]:
    """Return the sales that are closed or hidden at noon: whether they are closed, and the comment."""
    sales = store.withdrawn().values()
    return {sale.sale_id: (sale.closed, sale.comment) for sale in sales if sale.is_withdrawn(NOON)}


class StoreContract:
    """Fixtures: `store` and `other`, two stores of one shop; `reopened`, a function that opens another one; `publish`,
    a function that makes a snapshot in the folder `shop.root` current in both."""

    def test_nothing_is_current_before_the_first_snapshot(self, store):
        assert store.current() is None

    @pytest.mark.usefixtures("night")
    def test_published_snapshot_is_current_and_opens_with_its_whole_content(self, store, other, publish, shop):
        name = publish()
        assert (store.current(), other.current()) == (name, name)
        opened, expected = store.open(name), Snapshot.open(shop.root / name)
        assert (opened.name, opened.manifest, opened.sales) == (name, expected.manifest, expected.sales)

    def test_latest_publication_is_current_and_the_previous_one_can_be_opened(self, store, publish, shop, ranked_shop):
        names = []
        for fingerprint in ("bbbbbbbb", "aaaaaaaa"):
            names.append(ranked_shop.write(shop.root, fingerprint))
            shop.point_at(names[-1])
            publish()
        assert store.current() == names[1] < names[0]
        assert [store.open(name).fingerprint for name in names] == ["bbbbbbbb", "aaaaaaaa"]

    def test_missing_snapshot_cannot_be_opened(self, store):
        with pytest.raises(SnapshotError, match="20260301T000000Z-99999999"):
            store.open("20260301T000000Z-99999999")

    @pytest.mark.usefixtures("night")
    def test_stamp_stays_while_nothing_is_written(self, store, other, publish):
        name = publish()
        assert store.stamp(name) == store.stamp(name) == other.stamp(name)
        assert store.stamp(name) != store.stamp("20260301T000000Z-99999999")

    def test_every_user_has_the_same_answer_byte_by_byte_as_from_the_files(self, store, publish, shop, night):
        name = publish()
        direct = TopSales.of(Snapshot.open(shop.root / name))
        through = TopSales.of(store.open(name), store.version, store.withdrawn)
        now = to_micros(direct.snapshot.as_of) + HOUR
        session = [Visit(night.sales[0].sale_id), Visit(night.sales[-1].sale_id, True)]
        levels = set()
        for user_id in [*night.users, "", "nobody", "用户"]:
            for policy in direct.snapshot.all_policies:
                for visits in ((), session):
                    request = PageRequest(user_id, policy, 100, session=visits, explain=bool(visits))
                    written = through.answer(request, now, "r-1").written
                    assert written == direct.answer(request, now, "r-1").written
                    levels.add(pb.GetTopSalesResponse.FromString(written).fallback_level)
        assert levels == {pb.FALLBACK_LEVEL_NONE, pb.FALLBACK_LEVEL_POPULAR}

    def test_no_sale_is_withdrawn_at_first(self, store):
        assert store.withdrawn() == {}

    def test_withdrawn_sale_is_known_to_every_store_when_the_call_returns(self, store, other):
        before = store.version(), other.version()
        sale = withdrawn("s-1", closed=False, until=NOON + 1, comment="«é»\n", by="jo")
        store.withdraw(sale)
        assert store.version() != before[0]
        assert other.version() != before[1]
        assert store.withdrawn() == other.withdrawn() == {"s-1": sale}

    def test_version_stays_while_nothing_is_withdrawn(self, store, other):
        other.withdraw(withdrawn("a"))
        versions = set()
        for _ in range(3):
            store.poll()
            versions.add(store.version())
        assert len(versions) == 1

    def test_withdrawn_sales_survive_a_restart(self, store, reopened):
        store.withdraw(withdrawn("a"))
        store.withdraw(withdrawn("b", closed=False))
        store.close()
        restarted = reopened()
        restarted.poll()
        assert restarted.withdrawn() == {"a": withdrawn("a"), "b": withdrawn("b", closed=False)}

    def test_changes_by_two_stores_in_any_order_have_the_result_of_a_dictionary(self, store, other):
        random, expected = Random(7), {}
        for step in range(60):
            by, sale_id = random.choice([store, other]), random.choice("abcde")
            if random.random() < 0.6:
                sale = withdrawn(sale_id, closed=random.random() < 0.3, comment=f"step {step}")
                by.withdraw(sale)
                if sale_id not in expected or not expected[sale_id].closed:  # a closed sale is not changed
                    expected[sale_id] = sale
            else:
                by.restore(sale_id)
                if sale_id in expected and not expected[sale_id].closed:
                    del expected[sale_id]
            for each in (store, other):
                assert in_force(each) == {sale_id: (sale.closed, sale.comment) for sale_id, sale in expected.items()}

    def test_restored_sale_is_shown_again_and_one_that_is_not_withdrawn_has_none_to_restore(self, store, other):
        store.withdraw(withdrawn("a", closed=False))
        assert other.restore("a").sale.is_withdrawn(NOON) is False
        assert in_force(store) == in_force(other) == {}
        assert store.restore("a") is store.restore("never hidden") is None
        store.withdraw(withdrawn("b", closed=False, until=NOON))
        assert other.restore("b") is None  # it is shown again already

    def test_closing_holds_however_it_races_with_showing_and_hiding(self, store, other):
        """Many closings, each against threads that show and hide the same sale through another store."""
        for number in range(12):
            sale_id = f"s{number}"
            store.withdraw(withdrawn(sale_id, closed=False))
            others = [
                Thread(target=other.restore, args=[sale_id]),
                Thread(target=other.withdraw, args=[withdrawn(sale_id, closed=False, until=NOON + 1)]),
            ]
            for thread in others:
                thread.start()
            assert store.withdraw(withdrawn(sale_id)).sale.closed
            for thread in others:
                thread.join()
            assert in_force(store)[sale_id] == in_force(other)[sale_id] == (True, "")

    def test_later_decision_holds_even_by_a_clock_that_is_late(self, store, other):
        store.withdraw(withdrawn("a", closed=False, comment="first"))
        other.withdraw(withdrawn("a", closed=False, since=NOON - DAY, comment="second"))
        assert in_force(store) == in_force(other) == {"a": (False, "second")}

    def test_session_holds_the_users_events_from_an_instant_on_in_order_of_time(self, store):
        events = [SessionEvent(f"s{minute}", minute == 2, NOON + minute * 60 * SECOND) for minute in range(4)]
        store.add_to_sessions({"ann": events[:2], "bob": events[3:]})
        store.add_to_sessions({"ann": events[2:3]})
        assert list(store.session("ann", NOON)) == events[:3]
        assert list(store.session("ann", events[1].occurred_at)) == events[1:3]
        assert list(store.session("ann", events[1].occurred_at + 1)) == events[2:3]
        assert list(store.session("bob", NOON)) == events[3:]
        assert list(store.session("eve", NOON)) == []

    def test_session_keeps_the_latest_hundred_events(self, store):
        events = [SessionEvent(f"s{number}", False, NOON + number) for number in range(130)]
        store.add_to_sessions({"ann": events[:90]})
        store.add_to_sessions({"ann": events[90:]})
        assert list(store.session("ann", NOON)) == events[30:]

    @pytest.mark.parametrize("user_id", ["用户", "a:b*[x]", "../x", "a\x00b", "x" * 256, " "])
    def test_odd_user_ids_have_sessions_of_their_own(self, store, user_id):
        event = SessionEvent("s:1", True, NOON)
        store.add_to_sessions({user_id: [event]})
        assert list(store.session(user_id, NOON)) == [event]
        assert list(store.session(user_id[:-1] + "?", NOON)) == []

    def test_nothing_to_add_is_no_error(self, store):
        store.add_to_sessions({})

    def test_nothing_is_counted_at_first(self, store):
        assert store.live_counts(0) == LiveCounts([], [])

    def test_user_counts_once_a_day_and_sale_however_often_an_event_arrives(self, store):
        visit, later, purchase = (
            SessionEvent("a", kind, NOON + at) for kind, at in ((False, 1), (False, 9), (True, 5))
        )
        for events in ([later], [visit, later], [visit] * 50, [purchase, later], [later], [purchase]):
            store.add_to_sessions({"ann": events, "bob": [visit]})
        store.add_to_sessions({"ann": [SessionEvent("b", False, NOON - DAY)]})
        assert counts_by_sale(store.live_counts(0)) == {"a": (1, 1), "b": (1, 0)}
        today = store.live_counts(0).hours[1]
        assert today.counts.tolist() == [[1, 1, 1, 5]]
        assert store.live_counts(NOON).hours == [today]

    def test_random_events_with_retries_count_as_popularity_counts_them_read_at_any_moment(self, store):
        random, events, arriving = Random(11), {}, []
        for number in range(300):
            event = SessionEvent(random.choice("abc"), random.random() < 0.3, NOON - random.randrange(36 * HOUR))
            events.setdefault(f"u{number % 17}", []).append(event)
        for user_id, of_user in events.items():
            arriving += [(user_id, event) for event in of_user + of_user[::3]]
        random.shuffle(arriving)
        while arriving:
            batch = {}
            for user_id, event in (arriving.pop() for _ in range(min(len(arriving), random.randint(1, 40)))):
                batch.setdefault(user_id, []).append(event)
            store.add_to_sessions(batch)
            found = store.live_counts(0)  # reads only what has changed
        expected = live_counts(counted_once(events))
        assert counts_by_sale(found) == counts_by_sale(expected)
        sales = [list(found.sale_ids).index(sale_id) for sale_id in expected.sale_ids]
        assert_allclose(found.decayed(NOON, 0, 2, 5)[sales], expected.decayed(NOON, 0, 2, 5), rtol=1e-12)

    def test_burst_by_one_user_counts_once(self, store):
        for start in range(0, 1000, 250):
            events = [SessionEvent("a", number % 7 == 0, NOON + number) for number in range(start, start + 250)]
            store.add_to_sessions({"null": events})
        assert counts_by_sale(store.live_counts(0)) == {"a": (0, 1)}

    def test_days_end_at_midnight_utc_and_events_of_other_days_do_not_count(self, store):
        midnight = NOON - 12 * HOUR
        for at in (midnight - 1, midnight, midnight - DAY, midnight - DAY - 1, midnight + DAY):
            store.add_to_sessions({"ann": [SessionEvent("a", False, at)]})
        assert counts_by_sale(store.live_counts(0)) == {"a": (2, 0)}

    def test_sales_with_odd_ids_are_counted_each_for_itself(self, store):
        sale_ids = ["用户", "a:b*[x]", "a b 1 2 3", " ", "x" * 256, "__proto__", '"']
        store.add_to_sessions({"ann": [SessionEvent(sale_id, False, NOON) for sale_id in sale_ids]})
        assert counts_by_sale(store.live_counts(0)) == dict.fromkeys(sale_ids, (1, 0))

    def test_of_a_user_with_more_events_than_are_stored_a_hundred_count(self, store):
        for start in range(0, 300, 30):
            events = [SessionEvent(f"s{number}", False, NOON + number) for number in range(start, start + 30)]
            store.add_to_sessions({"ann": events})
        assert counts_by_sale(store.live_counts(0)) == {f"s{number}": (1, 0) for number in range(100)}

    def test_counts_survive_a_restart(self, store, reopened):
        store.add_to_sessions({"ann": [SessionEvent("a", False, NOON)]})
        store.close()
        assert counts_by_sale(reopened().live_counts(0)) == {"a": (1, 0)}
