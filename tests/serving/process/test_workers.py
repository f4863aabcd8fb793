"""Real processes that are killed, stopped and replaced under load."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime

import psutil
import pytest
from recommendations.v1 import admin_pb2

from recsys.snapshot import store as snapshot_store
from serving.client import Client
from tests.helpers.real_service import Load, RealService, exposed, free_ports, lives, shown
from tests.helpers.waiting import PATIENCE, wait_until

AS_OF = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def start(published, tmp_path) -> Iterator[Callable[..., RealService]]:
    """Start a service on the published shop; all its processes are gone after the test."""
    with ExitStack() as stack:

        def started(**settings: object) -> RealService:
            return stack.enter_context(RealService(tmp_path, **settings).start())

        yield started


def take_over(dead: RealService, stack_start: Callable[..., RealService]) -> RealService:
    return stack_start(**dict(dead.settings))


def ids_by_status(service: RealService) -> set[int]:
    with service.client() as client:
        return {client.status().process_id for _ in range(10)}


def request_ids(load: Load, until: float = float("inf")) -> set[str]:
    return {answer.page.request_id for answer in load.answers if answer.ended < until}


def test_all_processes_answer_on_the_same_ports(start):
    service = start(workers=3).ready()
    seen = set()
    wait_until(lambda: seen.update(ids_by_status(service)) or len(seen) == 3)
    assert seen == set(service.workers())


def test_killed_worker_is_replaced_and_no_request_fails(start):
    service = start().ready()
    with Load(service.target) as load:
        load.wait_for(100)
        expected = load.pages()
        for _ in range(3):
            victim = service.workers()[0]
            os.kill(victim, signal.SIGKILL)
            wait_until(lambda victim=victim: victim not in service.workers() and len(service.listening()) == 2)
            load.wait_for(100)
    assert load.failures == []
    assert load.pages() == expected
    assert all(len(pages) == 1 for pages in expected.values())
    assert len(expected) == 3


def test_killed_parent_leaves_workers_that_answer_until_a_new_one_takes_over(start):
    service = start().ready()
    with Load(service.target) as load:
        load.wait_for(100)
        expected, orphans = load.pages(), [psutil.Process(worker) for worker in service.workers()]
        os.kill(service.process.pid, signal.SIGKILL)
        service.process.wait()
        load.wait_for(300)
        assert all(lives(orphan) for orphan in orphans)
        successor = take_over(service, start).ready()
        wait_until(lambda: not any(lives(orphan) for orphan in orphans))
        load.wait_for(100)
    assert load.failures == []
    assert load.pages() == expected
    assert ids_by_status(successor) <= set(successor.workers())
    assert successor.stop() == 0


def test_parent_that_is_killed_while_it_starts_leaves_no_process(start):
    killed = "import os, signal, serving.process.workers as w"
    killed += "\nw._is_ready = lambda *_: os.kill(os.getpid(), signal.SIGKILL)"
    service = start(first=killed)
    assert service.process.wait(PATIENCE) == -signal.SIGKILL
    wait_until(lambda: "listening" in service.log())
    wait_until(lambda: not any(lives(process) for process in service.members()))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_the_service_after_its_last_request_with_every_exposure_on_disk(start, tmp_path, number):
    slow = "import time; from serving.answers.top_sales import TopSales as T; answer = T.answer"
    slow += "\nT.answer = lambda *a: (time.sleep(0.3 if a[3] != 'warm-up' else 0), answer(*a))[1]"
    service = start(first=slow).ready()
    with Load(service.target, threads=8) as load:
        load.wait_for(20)
        stopped = time.monotonic()
        assert service.stop(number) == 0
        load.wait_for_the_end()
    assert {type(failure).__name__ for failure in load.failures} == {"RecsysError"}
    assert all("start it with 'recsys serve'" in str(failure) for failure in load.failures)
    assert any(answer.began < stopped < answer.ended for answer in load.answers)
    assert request_ids(load) <= {line["request_id"] for line in exposed(tmp_path)}
    assert [file.name for file in (tmp_path / "exposures").glob("*.open")] == []
    assert service.complaints() == []


def test_second_parent_is_refused(start):
    service = start().ready()
    second = start()
    assert second.process.wait(PATIENCE) == 1
    message = f"BusyError: .* is already served by process {service.process.pid}: stop that process first"
    assert re.search(message, service.log())
    assert len(service.listening()) == 2


@pytest.mark.parametrize("key", ["port", "admin_port", "metrics_port"])
def test_port_in_use_is_logged_once_per_worker_and_ends_the_service(start, key):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        service = start(**{key: taken.getsockname()[1]})
        assert service.process.wait(PATIENCE) == 1
    assert f"cannot listen on 127.0.0.1:{taken_port(service, key)}, must be an address" in service.log()
    assert "starting another" not in service.log()
    assert service.workers() == []


def test_service_of_another_shop_on_the_same_ports_is_refused(start, tmp_path):
    first = start().ready()
    same_ports = {key: getattr(first.settings, key) for key in ("port", "admin_port", "metrics_port")}
    (tmp_path / "other_shop").mkdir()
    with RealService(tmp_path / "other_shop", **same_ports).start() as second:
        assert second.process.wait(PATIENCE) == 1
        assert f"cannot listen on 127.0.0.1:{first.settings.port}, must be an address" in second.log()
    assert ids_by_status(first) == set(first.workers())


def taken_port(service: RealService, key: str) -> int:
    return getattr(service.settings, key)


def test_worker_that_dies_at_once_is_started_again_with_growing_delays(start, tmp_path):
    """Delays of 0.05, 0.15, 0.35, 0.75 s: at most 5 starts in the first 1.3 s, and the service recovers by itself."""
    broken = tmp_path / "broken"
    fails = "import os, serving.process.server as s; start = s.start_server"
    fails += f"\ns.start_server = lambda *a, **k: os._exit(7) if os.path.exists({str(broken)!r}) else start(*a, **k)"
    service = start(workers=1, first=fails).ready()
    broken.touch()
    os.kill(service.workers()[0], signal.SIGKILL)
    began = time.monotonic()
    wait_until(lambda: service.log().count("ended with exit code 7: starting another") >= 4)
    assert time.monotonic() - began > 0.05 + 0.15 + 0.35 - 0.05
    broken.unlink()
    service.ready()
    assert ids_by_status(service) == set(service.workers())


def test_swaps_and_rollbacks_fail_no_request_and_are_seen_by_every_process(start, published, make_sale):
    first = snapshot_store.current(published.root)
    service = start(poll_seconds=0.2).ready()
    with Load(service.target, threads=8) as load:
        for fingerprint in ("aaaaaaaa", "bbbbbbbb"):
            load.wait_for(50)
            second = published.publish(
                [make_sale("x"), make_sale("y")], {"ann": [(1, 0.5, 0)]}, fingerprint=fingerprint
            )
            wait_until(lambda name=second: load.saw(name, 40))
            assert snapshot_store.rollback(published.root, AS_OF) == first
            wait_until(lambda: load.saw(first, 40))
            seen_at = time.monotonic()
            load.wait_for(50)
            assert {answer.page.snapshot for answer in load.answers if answer.began > seen_at} <= {first}
    assert load.failures == []
    pages = {(answer.page.snapshot == first, answer.user_id, shown(answer.page)) for answer in load.answers}
    assert len(pages) == 6  # three users, two contents
    assert (False, "ann", ("y", "x")) in pages


def test_sale_closed_in_one_process_is_on_no_page_of_any_process_from_then_on(start):
    service = start(workers=3).ready()
    closed_at = {}
    with Load(service.target, threads=8) as load, service.client() as admin:
        load.wait_for(100)
        for sale_id in ("s13", "s12", "s00"):
            admin.admin("CloseSale", admin_pb2.CloseSaleRequest(sale_id=sale_id))
            closed_at[sale_id] = time.monotonic()
            load.wait_for(100)
    assert load.failures == []
    for sale_id, instant in closed_at.items():
        assert any(sale_id in shown(answer.page) for answer in load.answers if answer.ended < instant)
        assert not [answer for answer in load.answers if answer.began > instant and sale_id in shown(answer.page)]
    assert service.stop() == 0
    successor = take_over(service, start).ready()
    with successor.client() as client:
        for _ in range(10):
            assert not closed_at.keys() & set(shown(client.top_sales("ann", 100)))


def test_killed_processes_lose_at_most_the_exposures_of_the_configured_interval(start, tmp_path):
    service = start(exposures={"flush_seconds": 0.1}).ready()
    with Load(service.target) as load:
        wait_until(lambda: load.answers and load.answers[-1].ended - load.answers[0].ended > 1.5)
        killed = time.monotonic()
        service.kill_all()
    promised = request_ids(load, until=killed - 1)  # 0.1 on an idle machine
    assert len(promised) > 50
    assert promised <= {line["request_id"] for line in exposed(tmp_path)}


def test_durable_log_loses_no_exposure_of_killed_processes(start, tmp_path):
    service = start(exposures={"durable": True}).ready()
    with Load(service.target) as load:
        load.wait_for(200)
        service.kill_all()
    assert len(load.answers) >= 200
    assert request_ids(load) <= {line["request_id"] for line in exposed(tmp_path)}


def test_service_starts_and_answers_while_mlflow_is_down(published, tmp_path):
    (port,) = free_ports(1)
    conf = tmp_path / "shop.yaml"
    conf.write_text(
        f"folder: {tmp_path}\nsource: {{sql: conf/sources/demo, raw: {{raw_sales: {{path: gone}}}}}}\n"
        "mlflow: {tracking_uri: 'http://127.0.0.1:9'}\n"
        f"serving: {{port: {port}, admin_port: null, metrics_port: null, workers: 1, clock: replay}}\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "cli.main", "serve", "--conf", str(conf)]
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(command, env=environment, stderr=log) as process:
        try:
            wait_until(lambda: process.poll() is not None or "listening" in (tmp_path / "log").read_text())
            assert process.poll() is None, (tmp_path / "log").read_text()
            with Client(f"127.0.0.1:{port}", deadline=PATIENCE) as client:
                assert shown(client.top_sales("ann", 3)) == ("s00", "s02", "s03")
        finally:
            process.terminate()
    assert process.returncode == 0
