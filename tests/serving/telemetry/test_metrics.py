import errno
import os
import signal
import socket
import threading
import time
from bisect import bisect_left
from contextlib import ExitStack, suppress
from hashlib import sha256
from itertools import accumulate
from math import fsum
from urllib.error import HTTPError
from urllib.request import urlopen

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, values
from recommendations.v1 import admin_pb2
from recommendations.v1 import recommendations_pb2 as pb

from recsys.errors import ConfigurationError, RecsysError
from serving.client import Client, purchase, visit
from serving.process.server import Server
from serving.telemetry import metrics as metrics_module
from serving.telemetry.metrics import Metrics
from tests.helpers.asking import held_answers
from tests.helpers.raw_http2 import is_closed
from tests.helpers.real_service import Load, RealService
from tests.helpers.scraping import answers, scraped
from tests.helpers.waiting import PATIENCE, wait_until

BOUNDS = (0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5)
SECONDS = st.one_of(st.sampled_from(BOUNDS), st.floats(0, 2, allow_subnormal=False))


def sample(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


@given(times=st.lists(st.lists(st.tuples(SECONDS, SECONDS), max_size=30), max_size=4))
def test_histograms_equal_those_of_single_observations(times):
    """Each list holds the seconds between two flushes; a bucket counts values up to and including its bound."""
    metrics = Metrics()
    for some in times:
        for rank, log in some:
            metrics.answered(("meta", "none", "", rank, log))
        metrics.flush()
    for number, stage in enumerate(("rank", "log")):
        seconds = [pair[number] for some in times for pair in some]
        at = [bisect_left(BOUNDS, each) for each in seconds]
        expected = list(accumulate(at.count(bucket) for bucket in range(len(BOUNDS) + 1)))
        if not seconds:
            continue
        bounds = [*map(float, BOUNDS), float("inf")]
        found = [bucket_of(metrics, stage, bound) for bound in bounds]
        assert found == expected
        assert sample(metrics, "recsys_answer_seconds_count", stage=stage) == len(seconds)
        assert sample(metrics, "recsys_answer_seconds_sum", stage=stage) == pytest.approx(fsum(seconds))


def bucket_of(metrics: Metrics, stage: str, bound: float) -> float | None:
    text = "+Inf" if bound == float("inf") else str(bound)
    return sample(metrics, "recsys_answer_seconds_bucket", stage=stage, le=text)


def test_answers_are_counted_by_policy_level_and_variant_at_the_flush():
    metrics = Metrics()
    for policy, level, variant in [("meta", "none", "a")] * 3 + [("meta", "none", "b"), ("popularity", "popular", "")]:
        metrics.answered((policy, level, variant, 0.001, 0.001))
    labels = {"policy": "meta", "fallback": "none", "variant": "a"}
    assert sample(metrics, "recsys_answers_total", **labels) is None
    metrics.flush()
    metrics.flush()
    assert sample(metrics, "recsys_answers_total", **labels) == 3
    assert sample(metrics, "recsys_answers_total", **{**labels, "variant": "b"}) == 1
    popular = {"policy": "popularity", "fallback": "popular", "variant": ""}
    assert sample(metrics, "recsys_answers_total", **popular) == 1


@pytest.fixture
def server(published) -> Server:
    return published.serve(metrics_port=0)


def test_scraped_counts_are_the_requests_made(published, server):
    with Client(server.target, deadline=PATIENCE) as client:
        for user_id, count in (("ann", 7), ("nobody", 3), ("", 2)):
            for _ in range(count):
                client.top_sales(user_id)
        client.batch([pb.GetTopSalesRequest(user_id="bob")] * 5)
        for _ in range(4):
            with pytest.raises(ConfigurationError):
                client.top_sales(n=101)
        client.record([visit("ann", "s00"), visit("bob", "s00"), purchase("ann", "s02")])
    expected = {("none", "meta"): 12, ("popular", "popularity"): 5}
    wait_until(lambda: answers(scraped(server.metrics_port)) == expected)
    samples = scraped(server.metrics_port)
    assert samples["recsys_errors_total", "INVALID_ARGUMENT", "GetTopSales"] == 4
    assert samples["recsys_recorded_events_total", "visit"] == 2
    assert samples["recsys_recorded_events_total", "purchase"] == 1
    assert samples["recsys_answer_seconds_count", "rank"] == samples["recsys_answer_seconds_count", "log"] == 17
    assert 0 < samples["recsys_answer_seconds_sum", "log"] < samples["recsys_answer_seconds_sum", "rank"]
    wait_until(lambda: scraped(server.metrics_port)["recsys_exposures_written_total",] == 17)
    counts = {"GetTopSales": 16, "BatchGetTopSales": 1, "RecordEvents": 1}
    wait_until(lambda: counts.items() <= counts_of_requests(scraped(server.metrics_port)).items())
    assert scraped(server.metrics_port)["recsys_requests_in_flight",] == 0


def counts_of_requests(samples: dict[tuple[str, ...], float]) -> dict[str, float]:
    return {key[1]: value for key, value in samples.items() if key[0] == "recsys_request_seconds_count"}


def test_errors_and_refusals_are_0_before_the_first_one(server):
    samples = scraped(server.metrics_port)
    for method in ("GetTopSales", "BatchGetTopSales", "RecordEvents", "CloseSale"):
        assert samples["recsys_errors_total", "INTERNAL", method] == 0
    for reason in ("unauthenticated", "forbidden", "rate_limit", "overload", "no_body"):
        assert samples["recsys_requests_refused_total", reason] == 0
    assert samples["recsys_exposures_lost_total",] == samples["recsys_recorded_events_total", "purchase"] == 0


def test_refusals_are_counted_by_reason(published):
    callers = [
        {"name": name, "role": role, "token_sha256": sha256(name.encode()).hexdigest()}
        for name, role in (("shop", "website"), ("staff", "admin"))
    ]
    server = published.serve(metrics_port=0, access={"callers": callers}, limits={"max_per_second": 0.001})

    def ask(token: str | None, count: int) -> None:
        with Client(server.target, deadline=PATIENCE, token=token, admin_target=server.admin_target) as client:
            for _ in range(count):
                with suppress(RecsysError):
                    client.top_sales()

    ask(None, 3)
    ask("wrong", 2)
    ask("shop", 5)  # the first one is answered
    with grpc.insecure_channel(server.admin_target) as channel, suppress(grpc.RpcError):
        channel.unary_unary("/recommendations.v1.Admin/GetStatus")(b"", metadata=[("authorization", "Bearer shop")])
    expected = {"unauthenticated": 5, "rate_limit": 4, "forbidden": 1, "overload": 0, "no_body": 0}
    wait_until(lambda: refused_by_reason(scraped(server.metrics_port)) == expected)


def refused_by_reason(samples: dict[tuple[str, ...], float]) -> dict[str, float]:
    return {key[1]: value for key, value in samples.items() if key[0] == "recsys_requests_refused_total"}


def test_time_of_a_request_begins_at_its_arrival_and_those_that_wait_are_in_flight(published):
    server = published.serve(metrics_port=0, threads=1)
    with grpc.insecure_channel(server.target) as channel, held_answers() as free:
        ask = channel.unary_unary("/recommendations.v1.Recommendations/GetTopSales")
        calls = [ask.future(b"", timeout=PATIENCE) for _ in range(5)]
        wait_until(lambda: scraped(server.metrics_port)["recsys_requests_in_flight",] == 5)
        time.sleep(0.1)
        free.set()
        assert all(call.result() for call in calls)
    wait_until(lambda: scraped(server.metrics_port)["recsys_request_seconds_count", "GetTopSales"] == 5)
    assert scraped(server.metrics_port)["recsys_request_seconds_sum", "GetTopSales"] > 5 * 0.1


def test_gauges_follow_the_clock_and_the_withdrawn_sales(published, server):
    def gauges() -> list[float]:
        names = ("snapshot_age_seconds", "snapshot_left_seconds", "open_sales", "withdrawn_sales", "workers")
        samples = scraped(server.metrics_port)
        return [samples[f"recsys_{name}",] for name in names]

    wait_until(lambda: gauges() == [0, 36 * 3600, 12, 0, 1])
    published.clock.set(3)
    wait_until(lambda: gauges() == [3 * 3600, 33 * 3600, 13, 0, 1])
    with Client(server.target, deadline=PATIENCE, admin_target=server.admin_target) as client:
        client.admin("CloseSale", admin_pb2.CloseSaleRequest(sale_id="s00"))
        client.admin("HideSale", admin_pb2.HideSaleRequest(sale_id="not here"))
    wait_until(lambda: gauges() == [3 * 3600, 33 * 3600, 12, 2, 1])


@pytest.mark.usefixtures("night")
def test_problems_are_counted_while_they_last(shop):
    server = shop.serve(metrics_port=0)
    wait_until(lambda: scraped(server.metrics_port).get(("recsys_problems",)) == 0)
    shop.clock.set(40)  # beyond the horizon
    wait_until(lambda: scraped(server.metrics_port)["recsys_problems",] == 1)
    current = (shop.root / "current").read_text()
    (shop.root / "current").write_text("../up")
    wait_until(lambda: scraped(server.metrics_port)["recsys_problems",] == 2)
    shop.clock.set(1)
    (shop.root / "current").write_text(current)
    wait_until(lambda: scraped(server.metrics_port)["recsys_problems",] == 0)


def test_refused_snapshots_are_counted_once_each(shop, make_sale):
    shop.publish([make_sale("a")], {})
    server = shop.serve(metrics_port=0)
    for number, fingerprint in enumerate(("bbbbbbbb", "cccccccc"), start=1):
        bad = shop.write([make_sale("b")], {}, fingerprint=fingerprint)
        file = shop.root / bad / "sales.json"
        file.write_bytes(b" " * file.stat().st_size)  # only the checksum tells
        shop.point_at(bad)  # atomic: a poll must not see an empty pointer
        wait_until(lambda number=number: refused(server) == number)
    for _ in range(20):
        server.watcher.poll()
    assert refused(server) == 2


def refused(server: Server) -> float:
    return scraped(server.metrics_port)["recsys_snapshots_refused_total",]


def test_any_process_returns_the_sums_of_all_and_the_counts_of_a_killed_one_stay(published, tmp_path):
    with RealService(tmp_path).start() as service:
        port = service.ready().settings.metrics_port
        with Load(service.target, users=("ann", "nobody"), threads=8) as load:
            load.wait_for(300)
        n_ann = sum(answer.user_id == "ann" for answer in load.answers)
        made = {("none", "meta"): n_ann, ("popular", "popularity"): len(load.answers) - n_ann}
        wait_until(lambda: all(answers(scraped(port)) == made for _ in range(10)))  # from whatever process
        assert scraped(port)["recsys_workers",] == 2
        wait_until(lambda: scraped(port)["recsys_exposures_written_total",] == len(load.answers))
        victim = service.workers()[0]
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: victim not in service.workers() and len(service.listening()) == 2)
        wait_until(lambda: scraped(port)["recsys_workers",] == 2)
        wait_until(lambda: answers(scraped(port)) == made)
        wait_until(lambda: scraped(port)["recsys_exposures_written_total",] == len(load.answers))
        with service.client() as client:
            client.top_sales("ann")
        made["none", "meta"] += 1
        wait_until(lambda: answers(scraped(port)) == made)
        assert scraped(port)["recsys_snapshot_age_seconds",] > 3600


def half_scrape(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    connection.sendall(b"GET /metrics HTTP/1.1\r\n")
    return connection


def test_half_requests_of_the_metrics_port_hold_no_thread(server):
    before = threading.active_count()
    with ExitStack() as stack:
        half = [stack.enter_context(half_scrape(server.metrics_port)) for _ in range(20)]
        assert scraped(server.metrics_port)  # answered after those before it were read
        assert threading.active_count() <= before + 1
        half[7].sendall(b"\r\n\r\n")
        assert half[7].recv(1000).startswith(b"HTTP/1.0 200 OK")


def test_oldest_half_request_of_the_metrics_port_gives_way(server, monkeypatch):
    monkeypatch.setattr(metrics_module, "_HALF_REQUESTS", 5)
    with ExitStack() as stack:
        connections = [stack.enter_context(half_scrape(server.metrics_port)) for _ in range(30)]
        assert scraped(server.metrics_port)["recsys_workers",] == 1
        assert all(connection.recv(1) == b"" for connection in connections[:25])
        connections[-1].sendall(b"\r\n")
        assert connections[-1].recv(8) == b"HTTP/1.0"


@pytest.mark.parametrize("sent", [b"", b"GET /metrics HTTP/1.1\r\n"])
def test_half_request_of_the_metrics_port_ends_after_a_time_even_if_bytes_trickle(server, monkeypatch, sent):
    monkeypatch.setattr(metrics_module, "_HALF_SECONDS", 0.3)
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.metrics_port), timeout=0.05) as connection:
        connection.sendall(sent)
        while not is_closed(connection):
            with suppress(OSError):
                connection.sendall(b"x")
            assert time.monotonic() < began + PATIENCE
    assert time.monotonic() > began + 0.25


def test_metrics_are_read_at_most_five_times_a_second(server, monkeypatch):
    read, collect = [], CollectorRegistry.collect
    monkeypatch.setattr(CollectorRegistry, "collect", lambda registry: read.append(1) or collect(registry))
    began = time.monotonic()
    for _ in range(30):
        scraped(server.metrics_port)
    assert 1 <= len(read) <= (time.monotonic() - began) / 0.2 + 1


def test_address_without_metrics_is_not_found(server):
    with pytest.raises(HTTPError, match="404"):
        urlopen(f"http://127.0.0.1:{server.metrics_port}/etc/passwd")


def test_everything_listens_on_an_ipv6_address(published):
    for host in ("::1", "[::1]"):
        server = published.serve(host=host, metrics_port=0)
        assert server.target == f"[::1]:{server.port}"
        for target in (server.target, f"::1:{server.port}"):
            with Client(target, deadline=PATIENCE, admin_target=server.admin_target) as client:
                assert len(client.top_sales("ann").sales) == 10
                assert client.status().snapshot
        with urlopen(f"http://[::1]:{server.metrics_port}/metrics") as response:
            assert b"recsys_workers" in response.read()


def test_full_disk_leaves_the_metrics_of_a_process_to_itself(tmp_path, monkeypatch, caplog):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    monkeypatch.setattr(values, "ValueClass", values.MultiProcessValue())
    monkeypatch.setattr(os, "posix_fallocate", full)
    metrics = Metrics()
    metrics.redone.inc()
    assert sample(metrics, "recsys_pages_redone_total") == 1
    assert list(tmp_path.iterdir()) == []
    assert "make room" in caplog.text


def test_files_of_shared_metrics_have_their_place_on_the_disk(tmp_path, monkeypatch):
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    monkeypatch.setattr(values, "ValueClass", values.MultiProcessValue())
    metrics = Metrics()
    metrics.expect("GetTopSales")
    metrics.redone.inc()
    files = list(tmp_path.iterdir())
    assert len(files) == 5
    for file in files:
        assert file.stat().st_blocks * 512 >= file.stat().st_size >= 1 << 20
