"""The store in a real Redis: damaged data, repeated and interrupted pushes, and concurrent fetches."""

import hashlib
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from recommendations.v1 import recommendations_pb2 as pb

from recsys.config.serving import StoreSettings
from recsys.errors import ConfigurationError, RecsysError, SnapshotError, StoreError
from recsys.instants import DAY, HOUR, SECOND
from recsys.snapshot.format import FileEntry, Snapshot, SnapshotContents, parse_manifest
from recsys.snapshot.refreshed import write_refreshed
from serving.answers import sentences
from serving.answers.pages import PageRequest
from serving.answers.top_sales import TopSales
from serving.process.background import Background
from serving.process.watcher import SnapshotWatcher
from serving.stores import open_store
from serving.stores.base import SessionEvent, Store
from serving.stores.redis import RedisStore
from serving.stores.redis_server import connect
from serving.stores.redis_snapshots import push
from serving.telemetry.troubles import Troubles
from tests.helpers.asking import refusal_of
from tests.helpers.counted_events import counts_by_sale
from tests.helpers.real_redis import RealRedis
from tests.helpers.store_contract import NOON, StoreContract, in_force, withdrawn
from tests.helpers.tls_authority import Authority
from tests.helpers.waiting import PATIENCE, wait_until

NAME = "20260301T000000Z-00000000"


@pytest.fixture
def reopened(settings, tmp_path) -> Iterator[Callable[[], RedisStore]]:
    """Open a store as a new machine does, with an empty folder."""
    with ExitStack() as stack:

        def opened() -> RedisStore:
            machine = tmp_path / f"machine-{time.monotonic_ns()}"
            store = RedisStore(settings, machine, lambda: NOON, poll_seconds=0.01)
            stack.callback(store.close)
            polling = Background([lambda: refusal_of(store.poll)], 0.01)
            polling.once()
            polling.start()
            stack.callback(polling.stop)
            return store

        yield opened


@pytest.fixture
def store(reopened) -> Store:
    return reopened()


@pytest.fixture
def other(reopened) -> Store:
    return reopened()


class TestRedisStore(StoreContract):
    pass


def test_every_key_has_the_shops_prefix_and_users_and_sessions_expire(server, store, publish, night):
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


@pytest.mark.parametrize("has_night", [True, False])
def test_push_of_a_refreshed_snapshot_copies_no_user_that_redis_has(
    settings, shop, ranked_shop, server, store, has_night
):
    night = ranked_shop.write(shop.root)
    before = Snapshot.open(shop.root / night)
    contents = SnapshotContents(
        as_of=before.as_of,
        horizon_end=before.horizon_end,
        sales=[*before.sales, replace(before.sales[0], sale_id="z-new")],
        policies=before.policies,
        shared_rankings=before.shared_rankings,
        reasons=before.reasons,
        versions=before.versions,
        fingerprint="99999999",
    )
    name = write_refreshed(shop.root, before, contents, night, len(before.sales))
    if has_night:
        shop.point_at(night)
        push(settings, shop.root, progress=lambda *_: None)
    shop.point_at(name)
    done = []
    push(settings, shop.root, progress=lambda *counted: done.append(counted))
    n_users = len(ranked_shop.users)
    assert done == ([] if has_night else [(n_users, n_users)])
    snapshot = store.open(store.current())
    assert snapshot.sales[-1].sale_id == "z-new"
    for user in ranked_shop.users:
        assert list(snapshot.users.find(user).places("meta")) == list(before.users.find(user).places("meta"))
    assert len(list(server.scan_iter("shop:snapshot:*:user:*"))) == n_users


KILLED_PUSH = """
import os, signal, sys
from pathlib import Path
from recsys.config.serving import StoreSettings
from serving.stores import redis_snapshots
redis_snapshots._BATCH = 5
settings = StoreSettings.model_validate_json(sys.argv[1])
redis_snapshots.push(settings, Path(sys.argv[2]), lambda done, _: done > 9 and os.kill(os.getpid(), signal.SIGKILL))
"""


def test_interrupted_push_is_never_served_and_can_be_repeated(
    settings, shop, night, server, store, publish, own_environment
):
    command = [sys.executable, "-c", KILLED_PUSH, settings.model_dump_json(), str(shop.root)]
    assert subprocess.run(command, env=own_environment, timeout=PATIENCE, check=False).returncode == -9
    assert len(list(server.scan_iter("*:user:*"))) == 10
    assert store.current() is None
    with pytest.raises(SnapshotError, match="is not in Redis: push it with 'recsys snapshots push'"):
        store.open(NAME)
    publish()
    assert all(store.open(store.current()).users.find(user) for user in night.users)


def test_push_names_what_is_missing(settings, shop, make_sale):
    with pytest.raises(SnapshotError, match="has no current snapshot: publish one with 'recsys nightly'"):
        push(settings, shop.root, lambda *_: None)
    shop.publish([make_sale("a")], {"ann": [(0, 0.5, 0)]})
    nowhere = settings.model_copy(update={"url": "redis://127.0.0.1:1/0"})
    with pytest.raises(StoreError, match=r"redis://127\.0\.0\.1:1/0 is out of reach .* then push again"):
        push(nowhere, shop.root, lambda *_: None)


def test_closed_sales_are_written_back_to_a_redis_that_lost_its_data(server, store, other):
    store.withdraw(withdrawn("a"))
    store.withdraw(withdrawn("b", closed=False))
    store.restore("b")
    server.flushall()
    other.withdraw(withdrawn("c"))
    assert in_force(store) == in_force(other) == {"a": (True, ""), "c": (True, "")}
    assert {key for key, record in server.hgetall("shop:withdrawn").items() if b'"closed":true' in record} == {
        b"a",
        b"c",
    }


def test_closing_that_a_failover_loses_at_once_is_written_back(server, settings, tmp_path, monkeypatch):
    """Redis fails over to a copy of the moment before the closing, before the process has polled again."""
    store = RedisStore(settings, tmp_path, lambda: NOON)
    monkeypatch.setattr(store.withdrawals, "_wait_for_acknowledgements", lambda _: ([], []))
    store.withdraw(withdrawn("a"))
    store.poll()
    copy = {key: server.dump(key) for key in server.scan_iter("*")}
    store.withdraw(withdrawn("b"))
    for key, content in copy.items():
        server.restore(key, 0, content, replace=True)
    store.poll()
    assert set(server.hkeys("shop:withdrawn")) == {b"a", b"b"}
    store.close()


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
def test_each_flipped_bit_of_a_user_is_detected(server, store, publish, ranked_shop):
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
def test_key_of_another_type_affects_only_its_user(server, store, publish, ranked_shop):
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
    top_sales = TopSales.of(store.open(NAME))
    answer = top_sales.answer(PageRequest(user_id, "meta"), top_sales.as_of + HOUR, "r")
    return pb.GetTopSalesResponse.FromString(answer.written)


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
from recsys.config.serving import StoreSettings
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


def test_slower_process_uses_the_copy_of_the_faster_one(settings, tmp_path, shop, night, publish, monkeypatch):
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
def test_snapshot_that_could_not_be_fetched_for_a_moment_is_not_refused(store, publish, monkeypatch):
    publish()
    watcher = SnapshotWatcher(store, TopSales.of, lambda top_sales: top_sales, Troubles(), lambda: None)
    with monkeypatch.context() as patch:
        patch.setattr(store.snapshots, "_fetch", lambda *_: (_ for _ in ()).throw(StoreError("out of reach")))
        watcher.poll()
    assert watcher.serving() is None
    watcher.poll()
    assert watcher.served().snapshot.name == NAME


# Live counts.


def counted(store: Store) -> dict[str, tuple[int, int]]:
    return counts_by_sale(store.live_counts(0))


VISIT = {"ann": [SessionEvent("a", False, NOON)]}


def test_event_that_two_machines_record_counts_once_and_both_know_it(store, other):
    for each in (store, other, store):
        each.add_to_sessions(VISIT)
    other.add_to_sessions({"ann": [SessionEvent("a", True, NOON + 1)], "bob": VISIT["ann"]})
    assert counted(store) == counted(other) == {"a": (1, 1)}


def test_counts_that_redis_lost_begin_anew_in_every_process(server, store, other):
    store.add_to_sessions({**VISIT, "bob": VISIT["ann"]})
    assert counted(store) == counted(other) == {"a": (2, 0)}
    server.flushall()
    assert counted(store) == {}
    other.add_to_sessions(VISIT)  # delivered again: what was lost counts again
    assert counted(store) == counted(other) == {"a": (1, 0)}


def test_counts_are_read_after_a_failover_to_a_copy_that_lags_behind(server, store, other):
    store.add_to_sessions(VISIT)
    copy = {key: server.dump(key) for key in server.scan_iter("*")}
    store.add_to_sessions({"bob": VISIT["ann"]})
    assert counted(store) == {"a": (2, 0)}
    for key, content in copy.items():
        server.restore(key, 0, content, replace=True)
    other.add_to_sessions({"eve": VISIT["ann"]})
    assert counted(store) == counted(other) == {"a": (2, 0)}


def test_keys_of_counts_are_few_and_expire(server, store):
    for number in range(30):
        event = SessionEvent(f"s{number}", False, NOON + number % 2 * 60 * SECOND)
        store.add_to_sessions({f"u{number % 5}": [event, SessionEvent("s", True, NOON - 2 * DAY)]})
    keys = {key.decode(): server.ttl(key) for key in server.scan_iter("shop:count*")}
    minute = NOON // (60 * SECOND)
    users = {f"shop:counted:20000:u{number}" for number in range(5)}
    minutes = {f"shop:counts:{name}" for name in (minute, minute + 1, "revisions", "began")}
    assert set(keys) == users | minutes
    two_days = 2 * DAY // SECOND
    assert all(two_days - 60 < seconds <= two_days for seconds in keys.values())


def test_only_minutes_that_changed_are_read_again(store, other, server):
    for minute in range(70):  # more than are read at once
        other.add_to_sessions({"ann": [SessionEvent(f"s{minute}", False, NOON - minute * 60 * SECOND)]})
    before = counted(store)
    assert before == {f"s{minute}": (1, 0) for minute in range(70)}
    other.add_to_sessions({"bob": [SessionEvent("s3", False, NOON - 3 * 60 * SECOND)]})
    reads = server.info("commandstats").get("cmdstat_hgetall", {"calls": 0})["calls"]
    assert counted(store) == {**before, "s3": (2, 0)}
    assert counted(store) == {**before, "s3": (2, 0)}
    leases = server.info("commandstats")["cmdstat_hgetall"]["calls"] - reads
    assert leases < 30  # the lease is renewed meanwhile; all minutes would be 70


def test_damaged_counts_are_an_error_with_the_next_step(store, other, server):
    store.add_to_sessions(VISIT)
    server.hset(f"shop:counts:{NOON // (60 * SECOND)}", "a", "no numbers")
    with pytest.raises(StoreError, match=r"a key of shop:counts:\* holds no counts: remove all of them"):
        other.live_counts(0)


def test_counts_of_a_redis_that_hangs_fail_in_time_and_are_read_when_it_answers(store, real_redis):
    store.add_to_sessions(VISIT)
    real_redis.freeze()
    began = time.monotonic()
    for call in (lambda: store.live_counts(0), lambda: store.add_to_sessions({"bob": VISIT["ann"]})):
        with pytest.raises(StoreError, match="is out of reach"):
            call()
    assert time.monotonic() - began < 2  # one timeout of half a second
    real_redis.thaw()
    wait_until(lambda: refusal_of(lambda: store.live_counts(0)) is None)
    assert counted(store) == {"a": (1, 0)}


# Who can write to Redis, and who cannot.


def with_file(manifest: bytes, name: str, content: bytes) -> str:
    """Return a manifest that lists one more file, with a checksum that fits."""
    entry = FileEntry(size=len(content), sha256=hashlib.sha256(content).hexdigest())
    whole = parse_manifest(manifest, "the test's manifest")
    return whole.model_copy(update={"files": {**whole.files, name: entry}}).to_json()


@pytest.mark.usefixtures("night")
@pytest.mark.parametrize(
    "name", ["../evil", "/tmp/recsys-evil", "files/../../evil", "files//evil", ".", "", "manifest.json"]
)
def test_no_file_is_written_outside_the_folder_of_a_snapshot(server, settings, tmp_path, publish, name):
    publish()
    key = f"shop:snapshot:{NAME}"
    manifest = with_file(server.hget(key, "manifest.json"), name, b"evil")  # its checksum is right
    server.hset(key, mapping={name: b"evil"} | {"manifest.json": manifest})
    store = RedisStore(settings, tmp_path / "machine", lambda: NOON)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SnapshotError, match="must be files below the snapshot's folder"):
        store.open(NAME)
    store.close()
    assert sorted(tmp_path.rglob("*")) == before
    assert not Path("/tmp/recsys-evil").exists()


@pytest.mark.usefixtures("night")
def test_file_that_the_manifest_does_not_list_is_not_fetched(server, settings, tmp_path, publish):
    publish()
    server.hset(f"shop:snapshot:{NAME}", mapping={"../evil": b"evil", "more": b"evil"})
    store = RedisStore(settings, tmp_path, lambda: NOON)
    folder = store.open(NAME).path
    store.close()
    assert not (folder / "more").exists()
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize("name", [b"..", b"/", b"a/b", b"../shop", b".hidden", b"\xff", b"x" * 101, b"a\n"])
def test_name_that_is_no_snapshots_is_refused_and_removes_nothing(server, store, tmp_path, name):
    (tmp_path / "machine").mkdir()
    (tmp_path / "machine" / "kept").write_text("kept")
    server.set("shop:current", name)
    server.rpush("shop:published", name, NAME)
    with pytest.raises(SnapshotError, match="must be a snapshot's name: push a snapshot again"):
        store.current()
    with pytest.raises(SnapshotError, match="must be a snapshot's name"):
        store.open(name.decode("utf-8", "backslashreplace"))
    assert store.earlier() == [NAME]
    assert (tmp_path / "machine" / "kept").exists()


@pytest.mark.usefixtures("night")
def test_earlier_snapshots_are_those_pushed_before_without_those_rolled_back(settings, shop, ranked_shop, store):
    names = [ranked_shop.write(shop.root, 8 * digit) for digit in "0123"]
    found = []
    for row in (0, 1, 2, 1, 3):  # 2 is rolled back
        shop.point_at(names[row])
        push(settings, shop.root, lambda *_: None)
        found.append([names.index(name) for name in store.earlier()])
    assert found == [[], [0], [1, 0], [0], [1, 0]]


@pytest.fixture(scope="module")
def protected(tmp_path_factory) -> Iterator[tuple[RealRedis, Authority]]:
    """A server that speaks TLS alone and requires a password."""
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority(folder)
    pair = authority.pair("redis")
    server = RealRedis(folder, [pair.certificate, pair.key, authority.file], "open sesame").start()
    yield server, authority
    server.kill()


def test_password_and_tls_are_taken_from_the_settings_and_from_the_environment(protected, tmp_path, monkeypatch):
    server, authority = protected
    file = tmp_path / "password"
    file.write_text("open sesame\n")
    settings = StoreSettings(kind="redis", url=server.url, authority=str(authority.file), timeout_seconds=5)

    def polled(settings: StoreSettings) -> RecsysError | None:
        store = RedisStore(settings, tmp_path, lambda: NOON)
        try:
            return refusal_of(store.poll)
        finally:
            store.close()

    assert polled(settings.model_copy(update={"password_file": str(file)})) is None
    assert "refuses the user or the password" in str(polled(settings))
    assert "set RECSYS_REDIS_PASSWORD" in str(polled(settings))
    monkeypatch.setenv("RECSYS_REDIS_PASSWORD", "open sesame")
    assert polled(settings) is None
    assert "certificate verify failed" in str(polled(settings.model_copy(update={"authority": None})))
    monkeypatch.setenv("RECSYS_REDIS_USERNAME", "default")
    assert polled(settings) is None
    monkeypatch.setenv("RECSYS_REDIS_USERNAME", "nobody")
    refused = str(polled(settings))
    assert "invalid username-password pair" in refused
    assert "sesame" not in refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"url": "http://me:sesame@redis:6379"},
            "serving.store.url == 'http://redis:6379', must be redis://HOST:PORT/0",
        ),
        ({"url": "redis://redis:port?password=sesame"}, "serving.store.url == 'redis://redis:port', must be redis://"),
        ({"password_file": "/no/file"}, "password_file == '/no/file', must be a file that holds the password"),
        ({"authority": "ca.crt"}, "must begin with rediss:// to use 'authority'"),
    ],
)
def test_wrong_address_is_an_error_without_the_password(changes, message):
    with pytest.raises(ConfigurationError) as error:
        connect(StoreSettings(**changes))
    assert message in str(error.value)
    assert "sesame" not in str(error.value)


# Withdrawn sales that cannot be read.


def test_process_that_starts_keeps_closed_what_it_cannot_read(server, store, reopened):
    store.withdraw(withdrawn("a"))
    for sale_id, record in {"b": b"", "c": b"{", "d": withdrawn("x").model_dump_json(), "\xe9": b"\xff"}.items():
        server.hset("shop:withdrawn", sale_id, record)
    started = reopened()
    assert {sale_id for sale_id, sale in started.withdrawn().items() if sale.closed} == {*"abcd", "\xe9"}
    with pytest.raises(StoreError, match=r"shop:withdrawn holds records that cannot be read, of 'b', 'c', 'd', 'é'"):
        started.poll()
    assert started.withdraw(withdrawn("b", closed=False)).sale.closed  # it may have been closed
    started.withdraw(withdrawn("c", comment="anew"))
    for sale_id in ("b", "d", "\xe9"):
        server.hset("shop:withdrawn", sale_id, withdrawn(sale_id, closed=False, until=0).model_dump_json())
    started.withdraw(withdrawn("e"))
    assert in_force(started) == in_force(store) == {"a": (True, ""), "c": (True, "anew"), "e": (True, "")}


def test_process_that_has_not_read_the_withdrawn_sales_knows_none(server, settings, tmp_path):
    server.set("shop:withdrawn", "of another type")
    store = RedisStore(settings, tmp_path, lambda: NOON)
    for _ in range(2):
        with pytest.raises(StoreError, match="refuses a command"):
            store.poll()
        with pytest.raises(StoreError, match="the closed sales were not read yet"):
            store.withdrawn()
        assert store.known_at() == -math.inf
    server.delete("shop:withdrawn")
    store.poll()
    assert store.withdrawn() == {}
    assert time.monotonic() - store.known_at() < PATIENCE
    store.close()


def test_lease_of_a_process_that_ended_or_was_forgotten_delays_no_closing(server, settings, store, tmp_path):
    ended = RedisStore(settings, tmp_path, lambda: NOON)
    ended.poll()
    ended.close()
    now = 1000 * server.time()[0]
    server.hset("shop:leases", mapping={"old": f"7 {now - 3_600_000}", "killed": f"7 {now - 60_000}"})
    assert store.withdraw(withdrawn("a"))[1:] == ([], ["killed"])
    assert b"old" not in server.hkeys("shop:leases")


def test_machines_with_whole_snapshots_share_closed_sales_and_sessions_by_redis(settings, server, published, tmp_path):
    with_disk = settings.model_copy(update={"snapshots": "folder"})
    with ExitStack() as stack:
        machines = [open_store(with_disk, published.root.parent, lambda: NOON, 0.01) for _ in range(2)]
        for machine in machines:
            stack.callback(machine.close)
            machine.poll()
        name = machines[0].current()
        assert machines[0].open(name).ranking("meta", "ann") is not None
        assert [machine.current() for machine in machines] == [name] * 2
        assert machines[0].earlier() == []
        machines[0].add_to_sessions({"ann": [SessionEvent("s00", False, NOON)]})
        assert [event.sale_id for event in machines[1].session("ann", 0)] == ["s00"]
        polling = Background([machines[1].poll], 0.01)
        polling.start()
        stack.callback(polling.stop)
        assert machines[0].withdraw(withdrawn("s01")).unacknowledged == []
        assert set(in_force(machines[1])) == {"s01"}
    assert not [key for key in server.scan_iter() if b"snapshot" in key or b"current" in key]
