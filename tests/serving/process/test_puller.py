"""A real service that follows an object store: its pages change with what is published, and go on whatever breaks."""

import os
import re
import secrets
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
from s3fs import S3FileSystem

from recsys.config.settings import Settings
from recsys.snapshot import store
from recsys.snapshot.format import Snapshot, read_manifest
from recsys.snapshot.publishing import Publisher
from recsys.snapshot.shared import SharedSnapshots
from recsys.storage.places import place
from serving.diagnosis import installation_checks
from serving.process.puller import Puller
from serving.telemetry.pull_status import PullStatus, read_status
from tests.helpers.object_store import REFUSED
from tests.helpers.real_service import Load, RealService
from tests.helpers.snapshots import AS_OF, SALES, write
from tests.helpers.waiting import wait_until
from tests.serving.conftest import FakeClock

HOUR = timedelta(hours=1)


@pytest.fixture
def driver(object_store, tmp_path, monkeypatch) -> Iterator[Publisher]:
    """The machine that publishes."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    S3FileSystem.clear_instance_cache()
    where = object_store(f"{secrets.token_hex(4)}/snapshots")
    yield Publisher(tmp_path / "driver", SharedSnapshots(where))
    object_store.fault = lambda method, path: None
    S3FileSystem.clear_instance_cache()  # others are to try as often as usual


def published(driver: Publisher, hour: int = 0) -> str:
    """Publish a snapshot whose sales have titles of their own."""
    as_of = AS_OF + hour * HOUR
    sales = [replace(sale, title=f"{sale.title} {hour}") for sale in SALES]
    name = write(driver.root, as_of=as_of, horizon_end=as_of + 36 * HOUR, sales=sales).name
    driver.publish(name, as_of)
    return name


@pytest.fixture
def service(driver, tmp_path) -> Iterator[RealService]:
    first = "from s3fs import S3FileSystem; S3FileSystem.retries = 1"
    settings = {"workers": 2, "pull_seconds": 0.05, "default_policy": "meta"}
    with RealService(folder_of(tmp_path), first=first, shared=str(driver.shared), **settings) as running:
        yield running.start().ready()


def folder_of(tmp_path: Path) -> Path:
    (tmp_path / "machine").mkdir(exist_ok=True)
    return tmp_path / "machine"


def problems(service: RealService) -> list[str]:
    with service.client() as client:
        return [each for each in client.status().problems if each.startswith("pull of snapshots")]


def says(service: RealService, pattern: str) -> bool:
    """Return whether the worker that answers has a problem like that; another one may not have seen it yet."""
    return any(re.search(pattern, problem) for problem in problems(service))


def serves(service: RealService) -> Callable[[str], bool]:
    def is_served(name: str) -> bool:
        with service.client() as client:
            return all(client.top_sales("ann").snapshot == name for _ in range(5))

    return is_served


def test_pages_follow_the_store_and_go_on_without_it(driver, service, object_store, tmp_path):
    first = published(driver)
    wait_until(lambda: "serving snapshot" in service.log())
    with Load(service.target) as load:
        wait_until(lambda: load.saw(first, 20))
        second = published(driver, 1)
        wait_until(lambda: load.saw(second, 20))

        object_store.fault = lambda method, path: REFUSED
        goes_on = f"pages go on with what is here, {second} is the newest published one known"
        wait_until(lambda: says(service, rf"s3://\S+ does not answer .*; {goes_on}"))
        object_store.fault = lambda method, path: None
        wait_until(lambda: not problems(service))

        third = write(driver.root, as_of=AS_OF + 2 * HOUR, horizon_end=AS_OF + 30 * HOUR, sales=SALES).name
        driver.keep(third)
        file = driver.shared.file(read_manifest(driver.root / third).files["sales.json"].sha256)
        whole = file.read_bytes()
        file.write_bytes(whole.replace(b"Alps", b"Alpz"))
        driver.shared.announce(driver.shared.newest(), [*store.publications(driver.root)[:1], *rolled_forward(third)])
        wait_until(lambda: says(service, r"is damaged, its SHA-256 is \w+: push the snapshot again"))
        load.wait_for(20)
        assert load.saw(second, 5)
        file.write_bytes(whole)
        wait_until(lambda: load.saw(third, 20))
        wait_until(lambda: not problems(service))
        assert not load.failures
    assert {answer.page.snapshot for answer in load.answers} == {first, second, third}
    assert [line for line in service.complaints() if "pull of snapshots" not in line] == []


def rolled_forward(name: str) -> list[store.Publication]:
    return [store.Publication(published_at=AS_OF, action="publish", name=name)]


def test_a_killed_puller_is_replaced_and_all_processes_end_with_the_service(driver, service, tmp_path):
    first = published(driver)
    wait_until(lambda: store.current(folder_of(tmp_path) / "snapshots") == first)
    puller = next(pid for pid in service.workers() if pid not in service.listening())
    assert psutil.Process(puller).nice() == 10
    os.kill(puller, signal.SIGKILL)
    second = published(driver, 1)
    wait_until(lambda: store.current(folder_of(tmp_path) / "snapshots") == second)
    assert f"puller {puller} ended with exit code -9: starting another" in service.log()
    members = service.members()
    assert service.stop() == 0
    wait_until(lambda: not any(each.is_running() for each in members if each.pid != service.process.pid))


def test_workers_do_not_read_again_what_was_verified_when_it_was_pulled(driver, tmp_path, monkeypatch):
    from serving.stores.folder import FolderStore

    published(driver)
    folder = folder_of(tmp_path)
    server = Publisher(folder / "snapshots", driver.shared)
    server.pull()
    name = store.current(server.root)
    files = FolderStore(server.root, folder / "serving", FakeClock())
    opened = []
    monkeypatch.setattr(Snapshot, "open", lambda path, verify: opened.append(verify))
    files.open(name)
    os.utime(server.root / name / "sales.json")
    files.open(name)
    files.close()
    assert opened == [False, True]


def test_the_status_says_what_was_pulled_and_why_not(driver, tmp_path):
    folder = folder_of(tmp_path)
    puller = Puller(Publisher(folder / "snapshots", driver.shared), folder, 10.0)
    assert puller.look() == 10.0
    assert read_status(folder).newest is None
    name = published(driver)
    puller.look()
    status = read_status(folder)
    assert (status.newest, status.published_at, status.problem) == (name, AS_OF.timestamp(), None)
    assert status.pulled_seconds > 0
    second = published(driver, 1)
    file = driver.shared.file(read_manifest(driver.root / second).files["sales.json"].sha256)
    file.write_bytes(b"")
    assert [puller.look() for _ in range(6)] == [20.0, 40.0, 80.0, 160.0, 300.0, 300.0]
    status = read_status(folder)
    assert "has 0 bytes, must have" in status.problem
    assert status.newest == name
    driver.push_again()
    assert puller.look() == 10.0
    assert read_status(folder).newest == second


def test_a_process_that_looks_no_more_is_a_problem():
    status = PullStatus(interval_seconds=10.0, looked_at=1000.0)
    assert status.problem_at(1600.0) is None
    assert status.problem_at(1601.0) == (
        "not looked at for 601 s: see the service's log, the process that pulls may hang"
    )


def test_doctor_says_whether_the_machine_has_what_is_published(driver, tmp_path):
    where = str(driver.shared).removesuffix("/snapshots")
    source = {"sql": "sql", "raw": {"lines": {"path": "lines.parquet"}}}
    settings = Settings.model_validate({"folder": where, "disk": str(tmp_path / "machine"), "source": source})
    assert place(where) == settings.place

    def finding(hours: float = 0.0):
        return installation_checks.fleet(settings, int((AS_OF + hours * HOUR).timestamp() * 1e6))

    assert (finding().status, finding().advice) == ("FAIL", "publish one with 'recsys nightly'")
    name = published(driver)
    assert finding().found.endswith("but this machine has none")
    settings.publisher.pull()
    assert finding(2.0).status == "OK"
    assert re.fullmatch(rf"{name} was published 2.0 h ago by process \d+ of \S+", finding(2.0).found)
    second = published(driver, 1)
    assert (finding().status, finding().found.partition(", but ")[2]) == ("WARN", f"this machine has {name}")
    settings.publisher.pull()
    assert finding().found.startswith(second)
    alone = settings.model_copy(update={"folder": str(tmp_path)})
    assert installation_checks.fleet(alone, 0).status == "OK"
