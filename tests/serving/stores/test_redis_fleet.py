"""Services of several machines with one Redis, which is frozen, killed and restarted under load."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from recommendations.v1 import admin_pb2
from recommendations.v1 import recommendations_pb2 as pb

from recsys.errors import RecsysError
from serving.answers import sentences
from serving.client import Client, visit
from serving.process.server import SERVICE, Server
from tests.helpers.asking import NOT_SERVING, SERVING, check_health
from tests.helpers.fleet import Fleet
from tests.helpers.fleet_process import SALES
from tests.helpers.real_service import Load, shown
from tests.helpers.tcp_proxy import TcpProxy
from tests.helpers.waiting import PATIENCE, wait_until


@pytest.mark.usefixtures("night")
class TestFleet:
    """Services of several machines, each with its own folder, with one Redis."""

    @pytest.fixture
    def start(self, settings, new_shop, publish, tmp_path) -> Iterator[Callable[..., Server]]:
        publish()
        with ExitStack() as stack:

            def started(machine: str, **others: object) -> Server:
                shop = new_shop(tmp_path / machine / "snapshots")
                stack.enter_context(shop.services)
                shop.clock.set(1)
                return shop.serve(store=settings.model_copy(update=others))

            yield started

    def test_session_recorded_at_one_machine_re_ranks_the_page_of_another(self, start, night):
        one, other = start("one"), start("other")
        user, seen = night.users[0], [sale.sale_id for sale in night.sales[:2]]
        with Client(one.target, deadline=PATIENCE) as here, Client(other.target, deadline=PATIENCE) as there:
            before = there.top_sales(user)
            assert here.record([visit(user, sale_id) for sale_id in seen]) == 2
            after, expected = there.top_sales(user), here.top_sales(user, session=seen)
        assert (before.uses_session, after.uses_session) == (False, True)
        assert shown(after) == shown(expected)
        before, after, expected = ([sale.score for sale in page.sales] for page in (before, after, expected))
        assert after == expected != before

    def test_sale_closed_at_one_machine_is_on_no_page_of_another_from_then_on(self, start, night):
        one, other = start("one"), start("other")
        with Load(other.target, night.users) as load:
            load.wait_for(50)
            closed = shown(load.answers[-1].page)[0]
            with Client(one.target, deadline=PATIENCE, admin_target=one.admin_target) as admin:
                admin.admin("CloseSale", admin_pb2.CloseSaleRequest(sale_id=closed))
            instant = time.monotonic()
            load.wait_for(100)
        assert load.failures == []
        assert not [answer for answer in load.answers if answer.began > instant and closed in shown(answer.page)]

    def test_machine_that_is_cut_off_is_named_and_is_not_ready_until_it_knows_the_closed_sale(
        self, start, real_redis, night
    ):
        proxy = TcpProxy(real_redis.port)
        quick = {"acknowledge_seconds": 0.3, "vouch_seconds": 2, "timeout_seconds": 0.5}
        one = start("one", **quick)
        other = start("other", **quick, url=f"redis://127.0.0.1:{proxy.port}/0")
        user = night.users[0]
        with (
            Client(one.target, deadline=PATIENCE, admin_target=one.admin_target) as here,
            Client(other.target, deadline=PATIENCE) as there,
        ):
            closed = shown(there.top_sales(user))[0]
            wait_until(lambda: check_health(other.target) == SERVING)
            proxy.stall()
            reply = here.admin("CloseSale", admin_pb2.CloseSaleRequest(sale_id=closed))
            assert len(reply.unacknowledged_processes) == 1
            assert closed not in shown(here.top_sales(user))
            wait_until(lambda: check_health(other.target) == NOT_SERVING)
            assert check_health(other.admin_target) == check_health(other.target, SERVICE) == NOT_SERVING
            wait_until(lambda: check_health(one.target) == SERVING)
            assert any(problem.startswith("closed and hidden sales: not read for 2 s") for problem in problems(other))
            assert there.top_sales(user).sales  # it answers what it knows
            proxy.heal()
            wait_until(lambda: check_health(other.target) == SERVING)
            assert closed not in shown(there.top_sales(user))
            reply = here.admin("CloseSale", admin_pb2.CloseSaleRequest(sale_id=closed))
            assert [*reply.unacknowledged_processes, *reply.stopped_processes] == []
        proxy.close()

    def test_service_that_cannot_read_the_closed_sales_sends_no_page(self, start, server, night):
        server.set("shop:withdrawn", "of another type")
        one = start("one")
        with Client(one.target, deadline=PATIENCE) as client, pytest.raises(RecsysError, match="no snapshot is loaded"):
            client.top_sales(night.users[0])
        assert check_health(one.target) == NOT_SERVING
        server.delete("shop:withdrawn")
        wait_until(lambda: check_health(one.target) == SERVING)
        with Client(one.target, deadline=PATIENCE) as client:
            assert client.top_sales(night.users[0]).sales

    @pytest.mark.parametrize("outage", ["frozen", "killed"])
    def test_pages_are_answered_without_redis_and_are_complete_again_when_it_is_back(
        self, start, real_redis, publish, night, caplog, outage
    ):
        server = start("one", timeout_seconds=0.2)
        with Load(server.target, night.users, threads=1) as load, Client(server.target, deadline=PATIENCE) as client:
            load.wait_for(50)
            assert levels(load, 50) == {pb.FALLBACK_LEVEL_NONE}
            real_redis.freeze() if outage == "frozen" else real_redis.kill()
            gone = time.monotonic()
            try:
                wait_until(lambda: levels(load, 50) == {pb.FALLBACK_LEVEL_POPULAR} or load.failures)
                load.wait_for(300)
                found = problems(server)
            finally:
                real_redis.thaw() if outage == "frozen" else real_redis.start()
            back = time.monotonic()
            publish()
            wait_until(lambda: levels(load, 50) == {pb.FALLBACK_LEVEL_NONE} or load.failures)
            wait_until(lambda: problems(server) == [])
            assert client.top_sales(night.users[0]).fallback_level == pb.FALLBACK_LEVEL_NONE
        assert load.failures == []
        during = [answer for answer in load.answers if gone < answer.began < back]
        fallen = [answer.page for answer in during if answer.page.fallback_level != pb.FALLBACK_LEVEL_NONE]
        assert {page.fallback_reason for page in fallen} == {
            f"{sentences.STORE_OUT_OF_REACH} {sentences.POPULAR_SHOWN}"
        }
        assert any(problem.startswith("store: ") and "out of reach" in problem for problem in found)
        said = [record for record in caplog.records if record.levelname == "WARNING"]
        assert len([record for record in said if record.getMessage().startswith("store: ")]) <= 2
        slow = [answer for answer in during if answer.ended - answer.began > 0.19]
        assert len(slow) <= back - gone + 2


PROCESS = st.integers(0, 2)
SALE = st.sampled_from(SALES)
STEPS = st.one_of(
    st.tuples(st.just("close"), PROCESS, SALE),
    st.tuples(st.just("close"), PROCESS, SALE),
    st.tuples(st.sampled_from(["hide", "show"]), PROCESS, SALE),
    st.tuples(st.sampled_from(["stall", "cut"]), PROCESS),
    st.tuples(st.just("heal"), PROCESS),
    st.sampled_from([("lose",), ("copy",), ("fail over",), ("restart",), ("pause",)]),
)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path_factory.mktemp("fleet"))
    yield fleet
    fleet.end()


class TestProcesses:
    """Three processes of their own, whose store stalls, is cut off, loses data, and fails over to an older copy."""

    @settings(max_examples=6, derandomize=True, phases=[Phase.explicit, Phase.generate])
    @given(steps=st.lists(STEPS, min_size=8, max_size=12), number=st.integers(0, 1 << 60))
    # Redis fails over to a copy from before a closing, and another one makes up for the number of changes.
    @example([("hide", 0, "s0"), ("copy",), ("close", 1, "s1"), ("cut", 2), ("fail over",), ("close", 0, "s2")], 1)
    # Redis has lost the leases when a sale is closed.
    @example([("close", 0, "s0"), ("stall", 1), ("lose",), ("close", 0, "s1"), ("close", 2, "s2")], 2)
    # Redis has lost its data, and a process that knew it starts anew.
    @example([("close", 1, "s1"), ("lose",), ("restart",)], 3)
    def test_sale_is_shown_by_no_process_that_its_closing_did_not_name(self, fleet, steps, number):
        fleet.begin(number)
        for step in steps:
            fleet.do(*step)
            fleet.check()
        fleet.check_end()

    def test_closing_names_who_has_not_acknowledged_and_later_who_stopped_vouching(self, fleet):
        fleet.begin(-1)
        one, other, third = fleet.processes
        fleet.proxies[1].stall()
        stalled_at = time.monotonic()
        answer = one.tell("close", "s1")
        assert [*answer["unacknowledged"], *answer["stopped"]] == [other.name]
        assert "s1" in other.shown()
        assert "s1" not in third.shown()
        wait_until(lambda: time.monotonic() > stalled_at + 0.5 + 1)
        assert not other.tell("vouches")
        wait_until(lambda: one.tell("close", "s1")["unacknowledged"] == [])
        assert not other.tell("vouches")
        assert one.tell("close", "s1")["stopped"] == [other.name]
        fleet.proxies[1].heal()
        wait_until(lambda: "s1" not in other.shown(), 10)
        assert one.tell("close", "s1") == {"closed": True, "unacknowledged": [], "stopped": []}
        assert other.tell("vouches")

    def test_stall_of_a_quarter_of_a_second_delays_a_closing_and_nothing_else(self, fleet):
        fleet.begin(-2)
        one, other, _ = fleet.processes
        for sale_id in SALES[:3]:
            fleet.proxies[1].stall()
            threading.Timer(0.25, fleet.proxies[1].heal).start()
            while (answer := one.tell("close", sale_id))["unacknowledged"]:
                assert answer["unacknowledged"] == [other.name]
            assert sale_id not in other.shown()


def problems(server: Server) -> list[str]:
    return list(status(server).problems)


def levels(load: Load, count: int) -> set[int]:
    return {answer.page.fallback_level for answer in load.answers[-count:]}


def status(server: Server) -> admin_pb2.GetStatusResponse:
    with Client(server.target, deadline=PATIENCE, admin_target=server.admin_target) as client:
        return client.status()
