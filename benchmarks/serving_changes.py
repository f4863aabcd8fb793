"""Parts of `benchmarks.serving`: start of the service, swap of the snapshot, long runs."""

import threading
import time
from itertools import cycle
from types import TracebackType

import numpy as np

from benchmarks.load import Answers, paced, saturate
from benchmarks.processes import age, forget_pages
from benchmarks.served_shop import ServedShop
from benchmarks.service import Expected, Service
from benchmarks.serving_bench import SENDERS, Bench, highest_rate, verdict
from recsys.errors import RecsysError
from recsys.snapshot.format import read_manifest
from serving.client import Client

MEGABYTE = 1 << 20
SWAP_SECONDS = 12.0
SOAK_POINTS = 20


def snapshot(bench: Bench) -> None:
    """Measure bytes per user, seconds until a worker answers, and memory of a second process."""
    bench.title("Snapshot")
    _print_bytes(bench.shop)
    for cache in ("cold", "warm"):
        if cache == "cold":
            forget_pages(bench.shop.root)
        with Service(bench.shop, 1, bench.cores) as service:
            worker, command = age(service.workers()[0].pid), time.monotonic() - service.began
            print(f"  page cache {cache}: a worker answers {worker:.2f} s after its start", end="")
            print(f", {command:.2f} s after the start of the command")
            verdict("ready in < 2 s", worker < 2)
    with Service(bench.shop, 2, bench.cores) as service:
        saturate(service.requests(SENDERS), bench.requests, bench.load_core)
        members = [member.memory_full_info() for member in service.members()]
    for name, memory in zip(("parent", "worker", "worker"), members, strict=True):
        unique, proportional = memory.uss / MEGABYTE, memory.pss / MEGABYTE
        print(f"  {name}: {unique:.0f} MB unshared (USS), {proportional:.0f} MB with its share of the rest (PSS)")
    verdict("a second process adds < 100 MB", members[-1].uss < 100 * MEGABYTE)


def swap(bench: Bench) -> None:
    """Publish another snapshot under load, and roll it back."""
    bench.title("Swap of the snapshot under load, at half of the maximum throughput")
    other = bench.shop.write(2)
    with Service(bench.shop, 1, [bench.server_core]) as service:
        rate = highest_rate(bench, service) / 2
        count = int(rate * SWAP_SECONDS)
        errors = service.errors()
        with (
            Reader(service) as reader,
            paced(service.requests(SENDERS), rate, count, bench.load_core) as load,
        ):
            time.sleep(SWAP_SECONDS / 2)
            published = time.time()
            bench.shop.publish(other)
            answers = load.answers()
        failures = answers.failures + service.errors() - errors
    _print_swap(answers, published, reader.first(other) - published)
    _print_failures(failures, reader)
    bench.shop.rollback()
    _rollback(bench, other)


def soak(bench: Bench, requests: int) -> None:
    """Send many requests of changing users, and print the memory of the process meanwhile."""
    bench.title(f"{requests:,} requests to one process")
    count = max(SENDERS, requests // SOAK_POINTS)
    users = bench.shop.some_users(SENDERS * (SOAK_POINTS + 1))
    failures, unshared = 0, []
    with Service(bench.shop, 1, [bench.server_core]) as service:
        (worker,) = service.workers()
        for point in range(SOAK_POINTS + 1):
            some = [service.request(user) for user in users[point * SENDERS :][:SENDERS]]
            failures += saturate(some, count, bench.load_core).failures
            memory = worker.memory_info()
            unshared.append(memory.rss - memory.shared)
            if point % 5 == 0:
                rss, own = memory.rss / MEGABYTE, unshared[-1] / MEGABYTE
                print(f"  {count * (point + 1):>11,} requests  RSS {rss:.1f} MB, unshared {own:.1f} MB", flush=True)
        failures += service.errors()
    growth = unshared[-1] / unshared[0]
    print(f"  unshared memory at the end / after {count:,} requests: {growth:.3f}; failures: {failures}")
    verdict("no failure, and unshared memory grows by at most 5 %", not failures and growth <= 1.05)


class Reader:
    """Requests pages during the load, and compares them with the snapshots; leaving the context stops it."""

    def __init__(self, service: Service):
        self.pages = 0
        self.problems: list[str] = []
        self._first: dict[str, float] = {}
        self._service = service
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._check_pages)

    def __enter__(self) -> "Reader":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def first(self, snapshot: str) -> float:
        """Return when the first page of a snapshot was received, seconds since 1970.

        Raises:
            SystemExit: If none was received.
        """
        if snapshot not in self._first:
            raise SystemExit(f"no page of snapshot {snapshot} was received:\n{self._service.log.read_text()}")
        return self._first[snapshot]

    def _check_pages(self) -> None:
        expected = Expected(self._service.shop.root)
        users = cycle(self._service.shop.some_users(1000))
        with Client(self._service.target, deadline=1.0) as client:
            while not self._done.wait(0.005):
                user = next(users)
                try:
                    page = client.top_sales(user)
                except RecsysError as error:
                    self.problems.append(str(error))
                    continue
                self.pages += 1
                self._first.setdefault(page.snapshot, time.time())
                if problem := expected.problem(user, page):
                    self.problems.append(problem)


def _print_bytes(shop: ServedShop) -> None:
    sizes = {name: entry.size for name, entry in read_manifest(shop.root / shop.current()).files.items()}
    ranking, history, index = (
        sum(size for name, size in sizes.items() if name.startswith(kind)) / shop.users
        for kind in ("ranking_", "history_", "user_")
    )
    print(f"  {ranking + index:.0f} bytes per user and policy: ranking {ranking:.0f}, index {index:.0f};", end="")
    print(f" history {history:.0f} bytes per user; {sum(sizes.values()) / MEGABYTE:,.0f} MB in total")
    verdict("<= 250 bytes per user and policy", ranking + index <= 250)


def _print_swap(answers: Answers, published: float, seconds: float) -> None:
    """Print the latency before the publication, and from then until at least a second later."""
    at = answers.began / 1e6 - published
    before = answers.took[at < 0] / 1000
    around = answers.took[(at >= 0) & (at < max(1.0, seconds + 0.5))] / 1000
    ratio = float(np.percentile(around, 99) / np.percentile(before, 99))
    print(f"  {answers.rate:,.0f} requests/s; first answer from the new snapshot {seconds:.2f} s after its publication")
    for name, times in (("before", before), ("around", around)):
        p50, p99 = np.percentile(times, (50, 99))
        print(f"  {name}: p50 {p50:.2f} ms, p99 {p99:.2f} ms, maximum {times.max():.2f} ms, {len(times):,} answers")
    verdict(f"p99 around the swap <= 3 x before ({ratio:.1f} x)", ratio <= 3)


def _print_failures(failures: int, reader: Reader) -> None:
    print(f"  failures counted by the service and by h2load: {failures};", end="")
    print(f" wrong or failed of {reader.pages:,} checked pages: {len(reader.problems)}")
    for problem in reader.problems[:3]:
        print(f"    {problem}")
    verdict("no request fails", not failures and not reader.problems)


def _rollback(bench: Bench, other: str) -> None:
    """Measure how long two processes still serve a snapshot after its rollback."""
    with Service(bench.shop, 2, bench.cores) as service, Reader(service) as reader:
        statuses = service.statuses(2)
        bench.shop.publish(other)
        while statuses.snapshots() != {other}:
            time.sleep(0.01)
        start = time.monotonic()
        name = bench.shop.rollback()
        while statuses.snapshots() != {name}:
            time.sleep(0.01)
        seconds = time.monotonic() - start
        failures = service.errors()
        statuses.close()
    print(f"  rollback: both processes answer from the previous snapshot after {seconds:.2f} s")
    verdict("rollback < 1 s", seconds < 1)
    _print_failures(failures, reader)
