"""Snapshots in an object store with faults: published by one of several, pulled whole or not at all."""

import json
import secrets
import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from s3fs import S3FileSystem

from recsys.erasure.snapshots import erase_from_snapshots
from recsys.errors import BusyError, SnapshotError, StoreError
from recsys.snapshot import store
from recsys.snapshot.format import MANIFEST, Snapshot, read_manifest
from recsys.snapshot.publishing import Publisher
from recsys.snapshot.refreshed import write_refreshed
from recsys.snapshot.shared import SharedSnapshots
from recsys.snapshot.verified import is_verified
from recsys.storage.places import sizes_below
from tests.helpers.object_store import CUT, LOST, REFUSED
from tests.helpers.snapshots import AS_OF, CONTENTS, SALES, write

DAY = timedelta(days=1)


@pytest.fixture
def shop(object_store, tmp_path, monkeypatch):
    """Return publishers of machines that share a folder of the store."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # botocore's own; those of s3fs come on top
    S3FileSystem.clear_instance_cache()
    place = object_store(secrets.token_hex(4)) / "snapshots"

    def machine(name: str) -> Publisher:
        return Publisher(tmp_path / name, SharedSnapshots(place))

    machine.place = place
    yield machine
    object_store.fault = lambda method, path: None
    S3FileSystem.clear_instance_cache()  # others are to try as often as usual


def published(machine: Publisher, day: int = 0, **changes: object) -> str:
    """Write the snapshot of a day on a machine, and publish it."""
    name = written(machine, day, **changes)
    machine.publish(name, AS_OF + day * DAY)
    return name


def written(machine: Publisher, day: int = 0, **changes: object) -> str:
    """Write the snapshot of a day, whose first sale has its own title."""
    as_of, sales = AS_OF + day * DAY, [replace(SALES[0], title=f"Day {day}"), *SALES[1:]]
    return write(machine.root, **{"as_of": as_of, "horizon_end": as_of + 2 * DAY, "sales": sales, **changes}).name


def contents_of(snapshot: Path) -> dict[str, bytes]:
    return {name: (snapshot / name).read_bytes() for name in (MANIFEST, *read_manifest(snapshot).files)}


def test_snapshot_of_one_machine_is_served_by_all(shop):
    driver, server = shop("driver"), shop("server")
    server.pull()
    assert store.current(server.root) is None
    names = [published(driver), published(driver, 1)]
    for machine in (server, shop("later")):
        machine.pull()
        assert store.current(machine.root) == names[1]
        assert contents_of(machine.root / names[1]) == contents_of(driver.root / names[1])
        assert is_verified(machine.root / names[1])
        Snapshot.open(machine.root / names[1])
    assert store.publications(server.root) == store.publications(driver.root)
    assert [each.name for each in store.publications(server.root)] == names
    assert [(each.name, each.is_current, each.n_users) for each in server.listing()] == [
        (names[1], True, 3),
        (names[0], False, 3),
    ]


def test_rollback_and_activation_by_another_machine_reach_all(shop):
    first, second, third = shop("first"), shop("second"), shop("third")
    names = [published(first, day) for day in range(3)]
    assert second.rollback(AS_OF + 9 * DAY) == names[1]
    third.pull()
    assert store.current(third.root) == store.current(second.root) == names[1]
    assert third.rollback(AS_OF + 9 * DAY) == names[0]
    with pytest.raises(SnapshotError, match="has no snapshot published before"):
        first.rollback(AS_OF + 9 * DAY)
    second.publish(names[2], AS_OF + 9 * DAY)
    first.pull()
    assert store.current(first.root) == names[2]
    with pytest.raises(SnapshotError, match="snapshot nothing is not in s3://"):
        first.publish("nothing", AS_OF)


def test_a_refreshed_snapshot_moves_only_the_files_that_differ(shop, object_store):
    driver, server = shop("driver"), shop("server")
    night = published(driver)
    server.pull()
    before = Snapshot.open(driver.root / night)
    sales = [replace(before.sales[0], title="New"), *before.sales[1:]]
    contents = replace(CONTENTS, fingerprint="refreshed", sales=sales)
    name = write_refreshed(driver.root, before, contents, night, len(before.sales))
    object_store.requests.clear()
    driver.publish(name, AS_OF, instead_of=night)
    server.pull()
    assert Snapshot.open(server.root / name).sales[0].title == "New"
    moved = [(method, path.rpartition("/")[2]) for method, path in object_store.requests if "/files/" in path]
    changed = read_manifest(server.root / name).files["sales.json"].sha256
    assert moved == [("PUT", changed), ("GET", changed)]
    shared = [(root / each / "user_ids.bin").stat().st_ino for root in (server.root,) for each in (night, name)]
    assert shared[0] == shared[1]


def test_of_two_who_publish_at_once_one_is_told_of_the_other(shop, monkeypatch):
    first, second = shop("first"), shop("second")
    late = written(second, 1)
    announce = SharedSnapshots.announce
    early = []

    def beaten(self, before, publications):
        monkeypatch.undo()
        early.append(published(first))  # between the other's look and its entry
        announce(self, before, publications)

    monkeypatch.setattr(SharedSnapshots, "announce", beaten)
    with pytest.raises(BusyError, match=rf"process \d+ of \S+ published {CONTENTS.as_of:%Y}\S+ just now, so {late} is"):
        second.publish(late, AS_OF)
    assert shop("third").in_use()[0] == early[0]
    second.publish(late, AS_OF)
    with pytest.raises(BusyError, match=f"{late} took the place of {early[0]} meanwhile"):
        first.publish(early[0], AS_OF, instead_of=early[0])


def test_all_publishers_at_once_leave_one_line_of_publications(shop):
    machines = [shop(str(number)) for number in range(4)]
    names = [written(each, day) for day, each in enumerate(machines)]
    won: list[str] = []

    def publish(machine: Publisher, name: str) -> None:
        while True:
            try:
                machine.publish(name, AS_OF)
            except BusyError:
                continue
            won.append(name)
            return

    threads = [threading.Thread(target=publish, args=each) for each in zip(machines, names, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    newest = machines[0].shared.newest()
    assert sorted(each.name for each in newest.publications) == sorted(names)
    assert newest.number == 4


@pytest.mark.parametrize("kind", [CUT, LOST])
def test_requests_whose_answers_are_lost_do_not_disturb_a_publisher(shop, object_store, kind):
    old = published(shop("driver"))
    asked: list[str] = []

    def fault(method: str, path: str) -> str | None:
        asked.append(path)
        return kind if method == "PUT" and asked.count(path) == 1 else None

    object_store.fault = fault
    new = published(shop("driver"), 1)
    assert [each.name for each in shop("driver").shared.newest().publications] == [old, new]


def test_a_publisher_that_dies_at_any_request_is_run_again(shop, object_store, monkeypatch):
    """Readers see the old snapshot or the new one, whole; what was begun is gone on with."""
    monkeypatch.setattr(S3FileSystem, "retries", 1)
    driver, reader = shop("driver"), shop("reader")
    old, new = published(driver), written(driver, 1)
    done, lived = False, 0
    while not done:
        asked: list[str] = []

        def fault(method: str, path: str, asked=asked, lived=lived) -> str | None:  # from some request on, none is left
            asked.append(path)
            return REFUSED if len(asked) > lived else None

        object_store.fault = fault
        try:
            driver.publish(new, AS_OF)
            done = True
        except StoreError:
            pass
        object_store.fault = lambda method, path: None
        reader.pull()
        assert store.current(reader.root) in (old, new)
        Snapshot.open(reader.root / store.current(reader.root))
        lived += 1
    assert lived > 5
    assert store.current(driver.root) == store.current(reader.root) == new
    assert [each.name for each in driver.shared.newest().publications] == [old, new]


def test_a_snapshot_that_is_damaged_in_the_store_leaves_the_last_good_one(shop):
    driver, server = shop("driver"), shop("server")
    old = published(driver)
    server.pull()
    new = published(driver, 1)
    file = driver.shared.file(read_manifest(driver.root / new).files["sales.json"].sha256)
    whole = file.read_bytes()
    for damaged, why in (
        (whole[:-1] + b"!", "is damaged, its SHA-256 is"),
        (whole[:-1], "bytes, must have"),
        (None, "is missing"),
    ):
        if damaged is None:
            file.unlink()
        else:
            file.write_bytes(damaged)
        with pytest.raises(SnapshotError, match=why):
            server.pull()
        assert store.current(server.root) == old
        assert store.names(server.root) == [old]
    fresh = shop("fresh")  # has none, so that an earlier one is better than none
    with pytest.raises(SnapshotError, match="is missing"):
        fresh.pull()
    assert store.current(fresh.root) == old
    driver.push_again()
    for machine in (server, fresh):
        machine.pull()
        assert store.current(machine.root) == new


def test_a_damaged_copy_on_a_machine_is_fetched_again(shop):
    driver, server = shop("driver"), shop("server")
    name = published(driver)
    server.pull()
    file = server.root / name / "sales.json"
    content = file.read_bytes()
    file.write_bytes(content.replace(b"Day 0", b"Day 9"))
    assert not is_verified(server.root / name)
    server.pull()
    assert file.read_bytes() == content
    (server.root / name / MANIFEST).unlink()
    server.pull()
    assert contents_of(server.root / name) == contents_of(driver.root / name)


def test_a_pull_that_failed_goes_on_with_the_files_that_it_has(shop, object_store, monkeypatch):
    driver, server = shop("driver"), shop("server")
    name = published(driver)
    files = sorted({each.sha256 for each in read_manifest(driver.root / name).files.values() if each.size})
    monkeypatch.setattr(S3FileSystem, "retries", 1)
    object_store.fault = lambda method, path: REFUSED if method == "GET" and path.endswith(files[-1]) else None
    with pytest.raises(StoreError, match="does not answer"):
        server.pull()
    assert store.current(server.root) is None
    object_store.fault = lambda method, path: None
    object_store.requests.clear()
    server.pull()
    assert store.current(server.root) == name
    assert not [file for file in (server.root / ".pulled").iterdir() if len(file.name) > 20]


def test_snapshots_that_the_store_has_no_more_leave_the_machines_too(shop):
    driver, server = shop("driver"), shop("server")
    names = []
    for day in range(4):
        names.append(published(driver, day))
        server.pull()
    kept = write(server.root, as_of=AS_OF - DAY, fingerprint="ofitsown").name  # was never in the store
    driver.prune(1, 1, (), AS_OF + 10 * DAY)
    assert driver.shared.names() == names[2:]
    used = {each.sha256 for name in names[2:] for each in read_manifest(driver.root / name).files.values()}
    assert sizes_below(shop.place / "files").keys() > used  # younger than a day
    driver.prune(1, 1, (), AS_OF + 1000 * DAY)
    assert sizes_below(shop.place / "files").keys() == used
    last = published(driver, 5)
    server.pull()
    assert store.names(server.root) == [kept, *names[2:], last]
    assert sorted(mark.name for mark in server.root.glob(".verified-*")) == [
        f".verified-{name}" for name in (*names[2:], last)
    ]


def test_an_erased_user_leaves_all_machines_and_the_store(shop):
    driver, server = shop("driver"), shop("server")
    names = [published(driver), published(driver, 1)]
    server.pull()
    erased = erase_from_snapshots(shop("fresh"), "ann")
    assert erased == [f"{name}-2" for name in names]
    assert driver.shared.names() == erased
    server.pull()
    assert store.names(server.root) == [f"{names[1]}-2"]
    assert store.current(server.root) == erased[1]
    assert [each.name for each in store.publications(server.root)] == erased
    for name, size in sizes_below(shop.place / "files").items():
        assert b"ann" not in (shop.place / "files" / name).read_bytes(), size
    assert json.loads((shop.place / "published" / "00000004.json").read_text())["publications"][0]["name"] == erased[0]


def test_a_night_that_was_written_twice_is_published_as_the_first_wrote_it(shop):
    killed, second = shop("killed"), shop("second")
    name = write(killed.root).name
    killed.keep(name)
    other = write(second.root, versions={"home_ranker": "4"}).name  # the same inputs by name, other bytes
    assert other == name
    second.publish(other, AS_OF)
    assert contents_of(second.root / name) == contents_of(killed.root / name)


def test_a_store_that_does_not_answer_is_named(shop, object_store, monkeypatch):
    monkeypatch.setattr(S3FileSystem, "retries", 1)
    driver, server = shop("driver"), shop("server")
    name = published(driver)
    server.pull()
    object_store.fault = lambda method, path: REFUSED
    with pytest.raises(StoreError, match=r"s3://shop/\S+/snapshots does not answer .*: check network, credentials"):
        server.pull()
    assert store.current(server.root) == name
