"""The service under attack: rate of valid answers beside the rate without the attack, in the same run.

    python -m benchmarks.attacks [--users 100000] [--requests 20000] [--streams 700] [--only half,...]

One process of `recsys serve` on a core of its own answers callers with a token, as fast as they send. Another process
on the load's core attacks it meanwhile: it opens `--streams` requests per `--again` seconds, evenly over that time, and
the measurement begins once all are open. If they were opened together, the length of the measurement would decide how
many of them fall into it. The requests are prepared bytes, since a client in Python would take the processor from the
load. Needs h2load (Debian: nghttp2-client) and two cores.

    half        requests that send headers and no body, without a token
    health      the same of health checks, which need no token
    watch       open streams of health checks
    reflection  open streams of reflection, without a token
    metrics     half requests of the metrics port
    scrapes     20 requests per second of the metrics port
    batches     batches of 500 explained pages of 100 sales, of a caller with a token who leaves after 50 ms,
                one per connection and second
    mails       batches of 500 pages of a caller with a token, one after the other
"""

import argparse
import asyncio
import hashlib
import math
import multiprocessing
import os
import shutil
import socket
import tempfile
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.synchronize import Event
from pathlib import Path
from statistics import median
from typing import NamedTuple

import grpc
from recommendations.v1 import recommendations_pb2 as pb

from benchmarks import machine
from benchmarks.load import require_h2load, saturate
from benchmarks.served_shop import ServedShop
from benchmarks.service import METHOD, Service
from benchmarks.serving_bench import SENDERS, some_of, verdict
from tests.helpers.raw_http2 import open_streams

TOKEN = "benchmark"
_BATCH = METHOD.replace("GetTopSales", "BatchGetTopSales")
_REFUSED = ("RESOURCE_EXHAUSTED", "UNAVAILABLE", "INTERNAL")


def main() -> None:
    arguments = _parse_arguments()
    require_h2load()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise SystemExit(f"cores == {len(cores)}, must be at least 2, for server and load: allow more by 'taskset'")
    folder = Path(tempfile.mkdtemp(prefix="attacks-", dir=arguments.folder))
    print(machine.describe())
    try:
        shop = ServedShop.made(folder, arguments.users, arguments.open_sales)
        shop.publish(shop.write(1))
        callers = [{"name": "shop", "role": "admin", "token_sha256": hashlib.sha256(TOKEN.encode()).hexdigest()}]
        settings = {"access": {"callers": callers}, "reflection": True}
        os.sched_setaffinity(0, cores[1:])
        with Service(shop, 1, cores[:1], token=TOKEN, **settings) as service:
            saturate(service.requests(SENDERS), arguments.requests // 2, cores[-1])
            for name in arguments.only:
                _compare(service, name, arguments, cores[-1])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Measured(NamedTuple):
    """The valid answers of one measurement."""

    rate: float
    """Per second."""
    cpu: float
    """Microseconds of the service's CPU per valid answer."""
    p99: float
    """Milliseconds."""


def _compare(service: Service, name: str, arguments: argparse.Namespace, core: int) -> None:
    """Measure without and with an attack in turns, and print the medians."""
    rates, costs, slowest = [], [], []
    for _ in range(arguments.rounds):
        calm = _measure(service, arguments.requests, core)
        with _attack(name, service, arguments):
            attacked = _measure(service, arguments.requests, core)
        rates.append(attacked.rate / calm.rate)
        costs.append(attacked.cpu / calm.cpu)
        slowest.append(attacked.p99)
        print(
            f"  {name:<11} {calm.rate:>6,.0f} valid answers/s without, {attacked.rate:>6,.0f} with; "
            f"CPU per answer {calm.cpu:.0f} and {attacked.cpu:.0f} µs; p99 {calm.p99:.0f} and {attacked.p99:.0f} ms",
            flush=True,
        )
    print(f"  {name:<11} with / without {median(rates):.2f}, CPU per valid answer {median(costs):.2f}")
    verdict("valid answers >= 0.90 of those without", median(rates) >= 0.9)


def _measure(service: Service, count: int, core: int) -> Measured:
    refused, cpu = service.errors("GetTopSales", _REFUSED), service.cpu_seconds()
    answers = saturate(service.requests(SENDERS), count, core)
    cpu = service.cpu_seconds() - cpu
    valid = len(answers.took) - (service.errors("GetTopSales", _REFUSED) - refused)
    return Measured(answers.rate * valid / len(answers.took), cpu / valid * 1e6, answers.milliseconds(99))


@contextmanager
def _attack(name: str, service: Service, arguments: argparse.Namespace) -> Iterator[None]:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    chosen = arguments.streams, arguments.connections, arguments.again
    inputs = name, service.target, service.metrics_port, *chosen, ready
    attacker = context.Process(target=_run_attack, args=inputs, daemon=True)
    attacker.start()
    try:
        if not ready.wait(60):
            raise SystemExit(f"the attack {name!r} did not begin within 60 s")
        yield
        if not attacker.is_alive():
            raise SystemExit(f"the attack {name!r} has ended, must last: see its error above")
    finally:
        attacker.kill()
        attacker.join()


class Attack(NamedTuple):
    """What an attacker knows and does."""

    target: str
    metrics_port: int
    streams: int
    connections: int
    again: float
    """Seconds after which all streams are closed and opened again."""
    begun: Callable[[], None]
    """Called when the attack is under way."""

    def channels(self) -> list[grpc.aio.Channel]:
        """Return connections of a client."""
        own_connection = [("grpc.use_local_subchannel_pool", 1)]
        return [grpc.aio.insecure_channel(self.target, own_connection) for _ in range(self.connections)]


def _run_attack(
    name: str, target: str, metrics_port: int, streams: int, connections: int, again: float, ready: Event
) -> None:
    async def run() -> None:
        await ATTACKS[name](Attack(target, metrics_port, streams, connections, again, ready.set))

    asyncio.run(run())


async def _hold_streams(attack: Attack, method: str, message: bytes | None = None) -> None:
    """Keep streams open on all connections, of which one after the other is closed and opened again."""
    opened: deque[socket.socket] = deque()
    while True:
        if len(opened) == attack.connections:
            opened.popleft().close()
            attack.begun()
        opened.append(open_streams(attack.target, method, math.ceil(attack.streams / attack.connections), message))
        await asyncio.sleep(attack.again / attack.connections)


async def _half(attack: Attack) -> None:
    await _hold_streams(attack, METHOD)


async def _health(attack: Attack) -> None:
    await _hold_streams(attack, "/grpc.health.v1.Health/Check")


async def _watch(attack: Attack) -> None:
    await _hold_streams(attack, "/grpc.health.v1.Health/Watch", b"")


async def _reflection(attack: Attack) -> None:
    await _hold_streams(attack, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")


async def _metrics(attack: Attack) -> None:
    half = []
    for _ in range(attack.streams):
        half.append(asyncio.ensure_future(_ask_metrics(attack, b"GET /metrics HTTP/1.1\r\n", attack.again)))
        await asyncio.sleep(attack.again / attack.streams)
    attack.begun()
    await asyncio.gather(*half)


async def _scrapes(attack: Attack) -> None:
    attack.begun()
    await _ask_metrics(attack, b"GET /metrics HTTP/1.0\r\n\r\n", 0.05)


async def _ask_metrics(attack: Attack, request: bytes, pause: float) -> None:
    """Send bytes to the metrics port and read until it closes, again and again."""
    while True:
        with suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", attack.metrics_port)
            writer.write(request)
            await reader.read()
            writer.close()
        await asyncio.sleep(pause)


async def _batches(attack: Attack) -> None:
    batch = pb.BatchGetTopSalesRequest(requests=[pb.GetTopSalesRequest(n=100, explain=True)] * 500).SerializeToString()
    channels = attack.channels()
    attack.begun()
    while True:
        await asyncio.gather(*(_ask(channel, batch, 0.05) for channel in channels))
        await asyncio.sleep(1)


async def _mails(attack: Attack) -> None:
    users = [pb.GetTopSalesRequest(user_id=f"u-{number:09}") for number in range(500)]
    batch = pb.BatchGetTopSalesRequest(requests=users).SerializeToString()
    channel = attack.channels()[0]
    attack.begun()
    while True:
        await _ask(channel, batch, 60)


async def _ask(channel: grpc.aio.Channel, message: bytes, timeout: float) -> None:
    with suppress(grpc.RpcError):
        await channel.unary_unary(_BATCH)(message, timeout=timeout, metadata=[("authorization", f"Bearer {TOKEN}")])


ATTACKS: dict[str, Callable[[Attack], Awaitable[None]]] = {
    "half": _half,
    "health": _health,
    "watch": _watch,
    "reflection": _reflection,
    "metrics": _metrics,
    "scrapes": _scrapes,
    "batches": _batches,
    "mails": _mails,
}


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=100_000, help="number of users of the snapshot")
    parser.add_argument("--open-sales", type=int, default=300, help="approximate number of open sales")
    parser.add_argument("--requests", type=int, default=20_000, help="number of requests per measurement")
    parser.add_argument("--rounds", type=int, default=3, help="number of rounds per attack; medians are printed")
    parser.add_argument(
        "--streams", type=int, default=700, help="number of half requests or streams, at most 100 per connection"
    )
    parser.add_argument("--connections", type=int, default=11, help="number of connections of the attacker")
    parser.add_argument("--again", type=float, default=5, help="seconds until streams are opened again")
    parser.add_argument("--folder", help="folder for temporary files; the system's by default")
    names = ",".join(ATTACKS)
    parser.add_argument("--only", type=some_of(ATTACKS), default=list(ATTACKS), help=f"some of {names}")
    return parser.parse_args()


if __name__ == "__main__":
    main()
