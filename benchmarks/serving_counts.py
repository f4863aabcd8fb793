"""Part of `benchmarks.serving`: live counts, recorded beside pages and read by another machine."""

import threading
import time
import urllib.request
from dataclasses import replace
from statistics import median
from types import TracebackType

import grpc
import numpy as np
from recommendations.v1 import recommendations_pb2 as pb

from benchmarks import peers
from benchmarks.load import paced
from benchmarks.processes import PATIENCE, Running, free_ports
from benchmarks.served_shop import ServedShop, user_id
from benchmarks.service import Service
from benchmarks.serving_bench import SENDERS, Bench, highest_rate, verdict
from recsys.config.serving import StoreSettings
from serving.client import Client
from serving.stores.redis_snapshots import push

RECORD = "/recommendations.v1.Recommendations/RecordEvents"
EVENTS_PER_SECOND = 20_000
BATCH = 500
SECONDS = 8.0
PURCHASE_SHARE = 0.05
STALENESS_ROUNDS = 10
REDIS_USERS = 2_000


def live_counts(bench: Bench) -> None:
    """Measure pages with and without events beside them, and how old the counts of another machine are."""
    bench.title(f"Live counts: {EVENTS_PER_SECOND:,} events/s in batches of {BATCH}, pages at a quarter of the maximum")
    _pages_beside_events(bench)
    if problem := peers.missing_redis():
        raise SystemExit(problem)
    _staleness(bench)


def _pages_beside_events(bench: Bench) -> None:
    ratios = []
    cores = bench.cores[:-1]  # the last one is for the load
    with Service(bench.shop, len(cores), cores) as service:
        rate = highest_rate(bench, service) / 4
        count = int(rate * SECONDS)
        requests = service.requests(SENDERS)
        for number in range(bench.rounds + 1):
            with paced(requests, rate, count, bench.load_core) as load:
                alone = load.answers().milliseconds(99)
            before = service.cpu_seconds()
            with (
                Recorder(bench.shop, service, number) as recorder,
                paced(requests, rate, count, bench.load_core) as load,
            ):
                answers = load.answers()
            cpu = service.cpu_seconds() - before
            beside = answers.milliseconds(99)
            if number:  # the first round is a warm-up
                ratios.append(beside / alone)
                print(f"  {answers.rate:,.0f} pages/s, p99 {alone:.2f} ms alone, {beside:.2f} ms beside ", end="")
                print(f"{recorder.rate:,.0f} events/s; {cpu:.1f} s of CPU in all", flush=True)
        failures = service.errors()
    verdict(f"{EVENTS_PER_SECOND:,} events/s", recorder.rate >= 0.99 * EVENTS_PER_SECOND and not failures)
    verdict(f"p99 of pages <= 1.5 x alone ({median(ratios):.2f} x)", median(ratios) <= 1.5)


def _staleness(bench: Bench) -> None:
    """Record events through one service, and wait until the metrics of another one with the same Redis have them."""
    (port,) = free_ports(1)
    folders = [bench.shop.folder / name for name in ("machine-1", "machine-2")]
    shop = ServedShop.made(folders[0], REDIS_USERS, 300)
    shop.publish(shop.write(1))
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    store = StoreSettings(kind="redis", url=f"redis://127.0.0.1:{port}/0", timeout_seconds=1.0)
    seconds = []
    with Running(command, bench.cores, bench.shop.folder / "redis.log") as redis:
        redis.wait_for(port)
        push(store, shop.root, lambda *_: None)
        folders[1].mkdir()
        machines = [Service(replace(shop, folder=each), 1, bench.cores, store=store.model_dump()) for each in folders]
        with machines[0] as one, machines[1] as other, Client(one.target, deadline=PATIENCE) as client:
            sale_id = shop.open_sale_ids()[0]
            for number in range(STALENESS_ROUNDS):
                client.record([pb.Event(user_id=f"new-{number}", sale_id=sale_id, kind=pb.EVENT_KIND_VISIT)])
                began = time.monotonic()
                while _counted(other) <= number:
                    time.sleep(0.05)
                seconds.append(time.monotonic() - began)
    text = f"median {median(seconds):.2f} s, maximum {max(seconds):.2f} s"
    print(f"  through Redis, another process knows an event after: {text}")
    verdict("staleness <= 5 s", max(seconds) <= 5)


def _counted(service: Service) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{service.metrics_port}/metrics") as response:
        lines = response.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("recsys_live_counts_events"))


class Recorder:
    """Records visits and purchases of random users in batches at a constant rate; leaving the context stops it."""

    def __init__(self, shop: ServedShop, service: Service, seed: int):
        rng = np.random.default_rng(seed)
        sale_ids = shop.open_sale_ids()
        shares = 1 / np.arange(1, len(sale_ids) + 1)  # few sales have most events
        self._batches = []
        for _ in range(int(EVENTS_PER_SECOND / BATCH * SECONDS * 1.5)):
            users = rng.integers(0, shop.users, BATCH).tolist()
            sales = rng.choice(len(sale_ids), BATCH, p=shares / shares.sum()).tolist()
            kinds = np.where(rng.random(BATCH) < PURCHASE_SHARE, pb.EVENT_KIND_PURCHASE, pb.EVENT_KIND_VISIT).tolist()
            events = [
                pb.Event(user_id=user_id(user), sale_id=sale_ids[sale], kind=kind)
                for user, sale, kind in zip(users, sales, kinds, strict=True)
            ]
            self._batches.append(pb.RecordEventsRequest(events=events).SerializeToString())
        self._target = service.target
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._record)
        self.rate = 0.0
        """Events per second that were recorded."""

    def __enter__(self) -> "Recorder":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _record(self) -> None:
        """Send each batch when it is due, over connections that reach all processes; stop when told."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        channels = [grpc.insecure_channel(self._target, options) for _ in range(SENDERS)]
        calls = [channel.unary_unary(RECORD, None, pb.RecordEventsResponse.FromString) for channel in channels]
        began, sent = time.monotonic(), []
        for number, batch in enumerate(self._batches):
            if self._done.wait(max(0.0, began + number * BATCH / EVENTS_PER_SECOND - time.monotonic())):
                break
            sent.append(calls[number % SENDERS].future(batch, timeout=PATIENCE))
        recorded = sum(each.result().recorded for each in sent if each.exception() is None)
        self.rate = recorded / (time.monotonic() - began)
        for channel in channels:
            channel.close()
