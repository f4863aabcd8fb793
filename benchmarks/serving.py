"""The service: every headline figure, compared with peers measured in the same run.

    python -m benchmarks.serving [--users 1000000] [--requests 20000] [--soak 1000000] [--only process,latency,...]

One process of `recsys serve` on a core of its own answers GetTopSales from a snapshot, with exposures and metrics on;
h2load sends from another core. Needs Linux, at least two cores, h2load (Debian: nghttp2-client) and redis-server.

    process    throughput and CPU per request, compared with a gRPC server that answers the same number of bytes;
               with sessions too
    breakdown  what a live page with a session spends its CPU time on
    latency    at half of the maximum throughput; two processes compared with one, on at least three cores
    json_api   throughput compared with FastAPI over Redis
    mlflow     throughput compared with `mlflow models serve` for a logistic regression, one page per request
    snapshot   bytes per user, seconds until a worker answers, memory of a second process
    swap       a snapshot is published and rolled back under load
    counts     20,000 events per second recorded beside pages; how soon another machine knows of one, through Redis
    soak       memory and failures over many requests
"""

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks import machine, peers, serving_breakdown, serving_changes, serving_counts
from benchmarks.load import paced, require_h2load, saturate
from benchmarks.peers import Peer
from benchmarks.served_shop import EVENTS_PER_USER, KEPT, ServedShop
from benchmarks.service import Service
from benchmarks.serving_bench import SENDERS, Bench, highest_rate, measured, some_of, verdict

SESSION = 20
ECHO, OURS, WITH_SESSION = "echo", "ours", f"ours, session of {SESSION} sales"
LIVE, LIVE_WITH_SESSION = "live", f"live, session of {SESSION} sales"
Figures = Mapping[str, "list[Round]"]


class Round(NamedTuple):
    """The throughput of a server in one round."""

    rate: float
    """Requests per second."""
    cpu: float
    """Microseconds of CPU per request."""


def main() -> None:
    arguments = _parse_arguments()
    require_h2load()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise SystemExit(f"cores == {len(cores)}, must be at least 2, for server and load: allow more by 'taskset'")
    folder = Path(tempfile.mkdtemp(prefix="serving-", dir=arguments.folder))
    try:
        bench = Bench(_publish_shop(folder, arguments), arguments.requests, arguments.rounds, cores)
        os.sched_setaffinity(0, cores[1:])
        for name in arguments.only:
            SECTIONS[name](bench)
        if arguments.soak:
            serving_changes.soak(bench, arguments.soak)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def process(bench: Bench) -> None:
    """Compare one process with an echo server."""
    with Service(bench.shop, 1, [bench.server_core]) as service:
        service.check_pages()
        size = service.answer_bytes
        bench.title(f"One process on one core, {size:,} bytes per answer")
        with peers.echo(bench.shop.folder, bench.server_core, size, SENDERS) as echo:
            plain: Peer = service, service.requests(SENDERS)
            sessions: Peer = service, service.requests(SENDERS, SESSION)
            found = _measure_in_turns(bench, {OURS: plain, ECHO: echo, WITH_SESSION: sessions})
        service.check_pages()
        _print_rates(found)
        ratio = _print_ratio(found, OURS, ECHO)
        verdict("ours / echo >= 0.80", ratio >= 0.80)
        verdict("CPU of ours <= 150 µs", median(each.cpu for each in found[OURS]) <= 150)
        verdict("CPU with a session <= 400 µs", median(each.cpu for each in found[WITH_SESSION]) <= 400)
        _require_no_errors(service)
    with (
        Service(bench.shop, 1, [bench.server_core], "live", ranking="live") as service,
        peers.echo(bench.shop.folder, bench.server_core, size, SENDERS) as echo,
    ):
        service.record_purchase()
        live: Peer = service, service.requests(SENDERS)
        sessions = service, service.requests(SENDERS, SESSION)
        found = _measure_in_turns(bench, {LIVE: live, ECHO: echo, LIVE_WITH_SESSION: sessions})
        _print_rates(found)
        verdict("live / echo >= 0.55", _print_ratio(found, LIVE, ECHO) >= 0.55)
        cpu = {name: median(each.cpu for each in rounds) for name, rounds in found.items()}
        verdict("CPU of a live page with a session <= 1.8 x echo", cpu[LIVE_WITH_SESSION] <= 1.8 * cpu[ECHO])
        _require_no_errors(service)


def latency(bench: Bench) -> None:
    """Measure the latency at half of the maximum throughput."""
    bench.title("Latency of one process at half of its maximum throughput")
    with Service(bench.shop, 1, [bench.server_core]) as service:
        one = highest_rate(bench, service)
        with paced(service.requests(SENDERS), one / 2, bench.requests, bench.load_core) as load:
            answers = load.answers()
        _require_no_errors(service)
    times = {name: answers.milliseconds(name) for name in (50, 99, 99.9)}
    print(f"  {answers.rate:,.0f} of {one:,.0f} requests/s, {len(answers.took):,} answers, {answers.failures} failures")
    print("  " + "   ".join(f"p{name} {value:.2f} ms" for name, value in times.items()))
    verdict("p99 <= 5 ms", times[99] <= 5)
    if len(bench.cores) < 3:
        print(f"  two processes: not measured, cores == {len(bench.cores)}, must be at least 3")
        return
    with Service(bench.shop, 2, bench.cores[:2]) as service:
        two = highest_rate(bench, service)
    print(f"  two processes on two cores {two:,.0f} requests/s, {two / one:.2f} x one")


def json_api(bench: Bench) -> None:
    """Compare with FastAPI over Redis."""
    bench.title(f"FastAPI on uvicorn ({peers.uvicorn_parts()}), rankings as JSON in Redis, on the same core")
    if problem := peers.missing_redis():
        raise SystemExit(problem)
    users = bench.shop.some_users(SENDERS)
    with (
        Service(bench.shop, 1, [bench.server_core]) as service,
        peers.json_over_redis(bench.shop, bench.server_core, bench.cores[1], users) as peer,
    ):
        name = "FastAPI, Redis"
        found = _measure_in_turns(bench, {OURS: (service, service.requests(SENDERS)), name: peer})
    _print_rates(found)
    verdict("ours / FastAPI >= 3", _print_ratio(found, OURS, name) >= 3)
    with (
        Service(bench.shop, 1, [bench.server_core], "live", ranking="live") as service,
        peers.json_over_redis(bench.shop, bench.server_core, bench.cores[1], users) as peer,
    ):
        service.record_purchase()
        found = _measure_in_turns(bench, {LIVE: (service, service.requests(SENDERS)), name: peer})
    _print_rates(found)
    verdict("live / FastAPI with rankings of the night > 1", _print_ratio(found, LIVE, name) > 1)
    if bench.cores[1] == bench.load_core:
        print("  Redis shared the load's core")


def mlflow(bench: Bench) -> None:
    """Compare with `mlflow models serve`."""
    scorer = bench.shop.ranker.scorer
    features, rows = len(scorer.names), len(scorer.horizon)
    bench.title(f"mlflow models serve, logistic regression, {features} features of {rows} sales per request, same core")
    with (
        Service(bench.shop, 1, [bench.server_core]) as service,
        peers.mlflow_server(bench.shop.folder, bench.server_core, features, rows, SENDERS) as peer,
    ):
        name = "mlflow models serve"
        contenders: dict[str, Peer] = {
            OURS: (service, service.requests(SENDERS)),
            WITH_SESSION: (service, service.requests(SENDERS, SESSION)),
            name: peer,
        }
        found = _measure_in_turns(bench, contenders, fewer={name: 20})
    _print_rates(found)
    verdict("ours / mlflow >= 20", _print_ratio(found, OURS, name) >= 20)
    print("  With a session ours computes the features too, which mlflow receives:")
    _print_ratio(found, WITH_SESSION, name)


def _measure_in_turns(bench: Bench, contenders: Mapping[str, Peer], fewer: Mapping[str, int] = {}) -> Figures:
    """Measure one server after the other in several rounds; the first round is a warm-up and does not count."""
    found: dict[str, list[Round]] = {name: [] for name in contenders}
    for number in range(bench.rounds + 1):
        for name, (server, requests) in contenders.items():
            count = max(SENDERS, bench.requests // fewer.get(name, 1))
            rate, cpu = measured(server, partial(saturate, requests, count, bench.load_core), count)
            if number:
                found[name].append(Round(rate, cpu))
    return found


def _print_rates(found: Figures) -> None:
    for name, rounds in found.items():
        rates = sorted(each.rate for each in rounds)
        spread = f"({rates[0]:,.0f} to {rates[-1]:,.0f})"
        cpu = median(each.cpu for each in rounds)
        print(f"  {name:<26} {median(rates):>8,.0f} requests/s {spread:<18} {cpu:>7,.0f} µs of CPU per request")


def _print_ratio(found: Figures, ours: str, peer: str) -> float:
    """Print the medians over rounds of the ratios of throughput and of CPU per request, and return the former."""
    ratios = sorted(mine.rate / other.rate for mine, other in zip(found[ours], found[peer], strict=True))
    middle = median(ratios)
    cpu = median(mine.cpu / other.cpu for mine, other in zip(found[ours], found[peer], strict=True))
    print(f"  {ours} / {peer}: {middle:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}), CPU per request {cpu:.2f}")
    return middle


def _require_no_errors(service: Service) -> None:
    if errors := service.errors():
        raise SystemExit(f"requests that ended in an error == {errors}, must be 0:\n{service.log.read_text()}")


def _publish_shop(folder: Path, arguments: argparse.Namespace) -> ServedShop:
    print(machine.describe())
    shop = ServedShop.made(folder, arguments.users, arguments.open_sales)
    start = time.perf_counter()
    shop.publish(shop.write(1))
    n_sales = len(shop.ranker.scorer.horizon)
    print(f"{shop.users:,} users, {KEPT} of {n_sales} open sales and {EVENTS_PER_USER} events each; ", end="")
    print(f"the snapshot was written in {time.perf_counter() - start:.1f} s", flush=True)
    return shop


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=1_000_000, help="number of users of a snapshot")
    parser.add_argument("--open-sales", type=int, default=300, help="approximate number of open sales")
    parser.add_argument("--requests", type=int, default=20_000, help="number of requests per measurement")
    parser.add_argument("--rounds", type=int, default=5, help="number of rounds per comparison; medians are printed")
    parser.add_argument("--soak", type=int, default=0, help="number of requests to send while printing memory")
    parser.add_argument("--folder", help="folder for temporary files; the system's by default")
    parser.add_argument(
        "--only", type=some_of(SECTIONS), default=list(SECTIONS), help=f"some of {','.join(SECTIONS)}, or none"
    )
    return parser.parse_args()


SECTIONS: dict[str, Callable[[Bench], None]] = {
    "process": process,
    "breakdown": serving_breakdown.breakdown,
    "latency": latency,
    "json_api": json_api,
    "mlflow": mlflow,
    "snapshot": serving_changes.snapshot,
    "swap": serving_changes.swap,
    "counts": serving_counts.live_counts,
}

if __name__ == "__main__":
    main()
