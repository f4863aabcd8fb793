"""The store in a real Redis: what it promises, and what happens when Redis is stopped, frozen, emptied or damaged."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis
from real_redis import RealRedis
from real_service import PATIENCE, Load, shown, wait_until
from recommendations.v1 import admin_pb2
from recommendations.v1 import recommendations_pb2 as pb
from store_contract import NOON, StoreContract, withdrawn

from recsys.errors import SnapshotError, StoreError
from recsys.instants import DAY, HOUR, SECOND, to_micros
from recsys.serving_settings import StoreSettings
from recsys.snapshot import Snapshot
from serving.answers import sentences
from serving.answers.pages import PageRequest
from serving.answers.top_sales import TopSales
from serving.client import Client, visit
from serving.server import Server
from serving.stores.base import SessionEvent, Store
from serving.stores.redis import RedisStore, push
from serving.telemetry.troubles import Troubles
from serving.watcher import SnapshotWatcher

NAME = "20260301T000000Z-00000000"


@pytest.fixture(scope="module")
def real_redis(tmp_path_factory) -> Iterator[RealRedis]:
    server = RealRedis(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.kill()


@pytest.fixture
def server(real_redis) -> Iterator[redis.Redis]:
    """The server, empty, as somebody else sees it."""
    with real_redis.connection() as connection:
        connection.flushall()
        yield connection


@pytest.fixture
def settings(real_redis, server) -> StoreSettings:
    return StoreSettings(kind="redis", url=real_redis.url, prefix="shop:", timeout_seconds=0.5)


@pytest.fixture
def reopened(settings, tmp_path) -> Iterator[Callable[[], RedisStore]]:
    """Each time as on another machine."""
    with ExitStack() as stack:

        def opened() -> RedisStore:
            machine = tmp_path / f"machine-{time.monotonic_ns()}"
            store = RedisStore(settings, machine, lambda: NOON, poll_seconds=0.01)
            stack.callback(store.close)
            return store

        yield opened


@pytest.fixture
def store(reopened) -> Store:
    return reopened()


@pytest.fixture
def other(reopened) -> Store:
    return reopened()


@pytest.fixture
def publish(settings, shop) -> Callable[[], str]:
    return lambda: push(settings, shop.root, progress=lambda *_: None)


class TestRedisStore(StoreContract):
    pass


def test_every_key_is_the_shops_own_and_users_and_sessions_expire(server, store, publish, night):
    publish()
    store.withdraw(withdrawn("a"))
    store.add_to_sessions({"ann": [SessionEvent("s", False, NOON)]})
    keys = {key.decode(): server.ttl(key) for key in server.scan_iter("*")}
    assert all(key.startswith("shop:") for key in keys)
    users = {key: seconds for key, seconds in keys.items() if ":user:" in key}
    assert {key.rpartition(":")[2] for key in users} == set(night.users)
    week = 7 * DAY // SECOND
    assert all(week - 60 < seconds <= week for seconds in users.values())
    assert week - 60 < keys[f"shop:snapshot:{NAME}"] <= week
    assert 0 < keys["shop:session:ann"] <= DAY // SECOND
    assert keys["shop:current"] == keys["shop:withdrawn"] == -1


@pytest.mark.usefixtures("night")
def test_second_push_of_a_snapshot_copies_nothing_and_of_another_all(settings, shop, ranked_shop, store):
    counts = []
    for fingerprint in ("00000000", "00000000", "11111111", "00000000"):
        shop.point_at(ranked_shop.write(shop.root, fingerprint))
        done = []
        name = push(settings, shop.root, progress=lambda *counted, done=done: done.append(counted))
        assert store.current() == name == f"20260301T000000Z-{fingerprint}"
        counts.append(done)
    n_users = len(ranked_shop.users)
    assert counts == [[(n_users, n_users)], [], [(n_users, n_users)], []]


KILLED_PUSH = """
import os, signal, sys
from pathlib import Path
from recsys.serving_settings import StoreSettings
from serving.stores import redis
redis._BATCH = 5
settings = StoreSettings.model_validate_json(sys.argv[1])
redis.push(settings, Path(sys.argv[2]), lambda done, _: done > 9 and os.kill(os.getpid(), signal.SIGKILL))
"""


def test_push_that_was_killed_halfway_is_never_served_and_is_done_again(
    settings, shop, night, server, store, publish, own_environment
):
    command = [sys.executable, "-c", KILLED_PUSH, settings.model_dump_json(), str(shop.root)]
    assert subprocess.run(command, env=own_environment, timeout=PATIENCE, check=False).returncode == -9
    assert len(list(server.scan_iter("*"))) == 10
    assert store.current() is None
    with pytest.raises(SnapshotError, match="is not in Redis: push it with 'recsys snapshots push'"):
        store.open(NAME)
    publish()
    assert all(store.open(store.current()).users.find(user) for user in night.users)


def test_push_says_what_is_missing(settings, shop, make_sale):
    with pytest.raises(SnapshotError, match="has no current snapshot: publish one with 'recsys nightly'"):
        push(settings, shop.root, lambda *_: None)
    shop.publish([make_sale("a")], {"ann": [(0, 0.5, 0)]})
    nowhere = settings.model_copy(update={"url": "redis://127.0.0.1:1/0"})
    with pytest.raises(StoreError, match=r"redis://127\.0\.0\.1:1/0 is out of reach .* then push again"):
        push(nowhere, shop.root, lambda *_: None)


def test_redis_that_lost_its_data_learns_again_what_staff_closed(server, store, other):
    for sale_id in ("a", "b"):
        store.withdraw(withdrawn(sale_id))
    store.restore("b")
    other.poll()
    server.flushall()
    other.withdraw(withdrawn("c"))
    store.poll()
    assert store.withdrawn() == other.withdrawn() == {"a": withdrawn("a"), "c": withdrawn("c")}
    assert set(server.hkeys("shop:withdrawn")) == {b"a", b"c"}


@pytest.mark.usefixtures("night")
@pytest.mark.parametrize("damage", [b"", b"short", bytes(500)])
def test_damaged_user_falls_back_and_others_do_not(server, store, publish, ranked_shop, damage):
    publish()
    ann, bob = ranked_shop.users[:2]
    server.set(f"shop:snapshot:{NAME}:user:{ann}", damage)
    assert page_of(store, ann).fallback_level == pb.FALLBACK_LEVEL_POPULAR
    assert sentences.DAMAGED_RECORD in page_of(store, ann).fallback_reason
    assert page_of(store, bob).fallback_level == pb.FALLBACK_LEVEL_NONE


@pytest.mark.usefixtures("night")
def test_each_flipped_bit_of_a_user_is_found_out(server, store, publish, ranked_shop):
    publish()
    key = f"shop:snapshot:{NAME}:user:{ranked_shop.users[0]}"
    users, whole = store.open(NAME).users, server.get(key)
    for bit in range(0, 8 * len(whole), 97):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        server.set(key, bytes(damaged))
        with pytest.raises(SnapshotError, match="record is damaged"):
            users.find(ranked_shop.users[0])


@pytest.mark.usefixtures("night")
def test_key_of_another_type_harms_only_its_user(server, store, publish, ranked_shop):
    publish()
    ann, bob = ranked_shop.users[:2]
    for key in (f"snapshot:{NAME}:user:{ann}", f"session:{ann}"):
        server.delete(f"shop:{key}")
        server.hset(f"shop:{key}", "a", "b")
    assert page_of(store, ann).fallback_level == pb.FALLBACK_LEVEL_POPULAR
    with pytest.raises(StoreError, match="refuses a command"):
        store.session(ann, NOON)
    assert page_of(store, bob).fallback_level == pb.FALLBACK_LEVEL_NONE
    server.rpush(f"shop:session:{bob}", b"[]")
    with pytest.raises(StoreError, match="holds no events") as error:
        store.session(bob, NOON)
    assert bob not in str(error.value)


def page_of(store: Store, user_id: str) -> pb.GetTopSalesResponse:
    top_sales = TopSales(store.open(NAME))
    written = top_sales.answer(PageRequest(user_id, "meta"), to_micros(top_sales.snapshot.as_of) + HOUR, "r")[1]
    return pb.GetTopSalesResponse.FromString(written)


@pytest.mark.usefixtures("night")
def test_damaged_copy_of_a_machine_is_fetched_again(settings, tmp_path, publish):
    store = RedisStore(settings, tmp_path, lambda: NOON)
    publish()
    sales = store.open(NAME).sales
    file = tmp_path / "redis" / NAME / "sales.json"
    file.write_bytes(file.read_bytes()[:100])
    assert store.open(NAME).sales == sales
    store.close()


OPEN = """
import sys
from pathlib import Path
from recsys.serving_settings import StoreSettings
from serving.stores.redis import RedisStore
store = RedisStore(StoreSettings.model_validate_json(sys.argv[1]), Path(sys.argv[2]), lambda: 0)
print(flush=True)
sys.stdin.readline()
print(len(store.open(store.current()).sales))
"""


@pytest.mark.usefixtures("night")
def test_processes_of_a_machine_that_fetch_at_the_same_time_all_open_the_snapshot(
    settings, tmp_path, publish, ranked_shop, own_environment
):
    publish()
    command = [sys.executable, "-c", OPEN, settings.model_dump_json(), str(tmp_path / "machine")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, env=own_environment, **pipes) for _ in range(4)]
    for process in processes:
        process.stdout.readline()
    for process in processes:  # now all of them at once
        process.stdin.write("\n")
        process.stdin.flush()
    counts = [process.communicate(timeout=PATIENCE)[0] for process in processes]
    assert counts == [f"{len(ranked_shop.sales)}\n"] * 4
    assert [path.name for path in (tmp_path / "machine" / "redis").iterdir()] == [NAME]


def test_slower_process_takes_the_copy_of_the_faster_one(settings, tmp_path, shop, night, publish, monkeypatch):
    publish()
    store, faster = (RedisStore(settings, tmp_path, lambda: NOON) for _ in range(2))
    fetched = Path.write_bytes

    def overtaken(path: Path, data: bytes) -> int:
        monkeypatch.undo()
        faster.open(NAME)
        return fetched(path, data)

    monkeypatch.setattr(Path, "write_bytes", overtaken)
    assert store.open(NAME).sales == Snapshot.open(shop.root / NAME).sales
    store.close()
    faster.close()


@pytest.mark.usefixtures("night")
def test_snapshot_that_could_not_be_fetched_for_a_moment_is_no_refused_one(store, publish, monkeypatch):
    publish()
    watcher = SnapshotWatcher(store, TopSales, Troubles(), lambda: None)
    with monkeypatch.context() as patch:
        patch.setattr(store, "_fetch", lambda *_: (_ for _ in ()).throw(StoreError("out of reach")))
        watcher.poll()
    assert watcher.serving() is None
    watcher.poll()
    assert watcher.served().snapshot.name == NAME


@pytest.mark.usefixtures("night")
class TestFleet:
    """Services of several machines, each with a folder of its own, at one Redis."""

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

    def test_session_recorded_at_one_machine_reranks_the_page_of_another(self, start, night):
        one, other = start("one"), start("other")
        user, seen = night.users[0], [sale.sale_id for sale in night.sales[:2]]
        with Client(one.target, deadline=PATIENCE) as here, Client(other.target, deadline=PATIENCE) as there:
            before = there.top_sales(user)
            assert here.record([visit(user, sale_id) for sale_id in seen]) == 2
            after, expected = there.top_sales(user), here.top_sales(user, session=seen)
        assert (before.uses_session, after.uses_session) == (False, True)
        assert shown(after) == shown(expected) != shown(before)

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

    @pytest.mark.parametrize("outage", ["frozen", "killed"])
    def test_pages_go_on_while_redis_is_gone_and_are_whole_again_when_it_is_back(
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
                problems = status(server).problems
            finally:
                real_redis.thaw() if outage == "frozen" else real_redis.start()
            back = time.monotonic()
            publish()
            wait_until(lambda: levels(load, 50) == {pb.FALLBACK_LEVEL_NONE} or load.failures)
            wait_until(lambda: status(server).problems == [])
            assert client.top_sales(night.users[0]).fallback_level == pb.FALLBACK_LEVEL_NONE
        assert load.failures == []
        during = [answer for answer in load.answers if gone < answer.began < back]
        fallen = [answer.page for answer in during if answer.page.fallback_level != pb.FALLBACK_LEVEL_NONE]
        assert {page.fallback_reason for page in fallen} == {
            f"{sentences.STORE_OUT_OF_REACH} {sentences.POPULAR_SHOWN}"
        }
        assert any(problem.startswith("store: ") and "out of reach" in problem for problem in problems)
        said = [record for record in caplog.records if record.levelname == "WARNING"]
        assert len([record for record in said if record.getMessage().startswith("store: ")]) <= 2
        slow = [answer for answer in during if answer.ended - answer.began > 0.19]
        assert len(slow) <= back - gone + 2


def levels(load: Load, count: int) -> set[int]:
    return {answer.page.fallback_level for answer in load.answers[-count:]}


def status(server: Server) -> admin_pb2.GetStatusResponse:
    with Client(server.target, deadline=PATIENCE, admin_target=server.admin_target) as client:
        return client.status()
