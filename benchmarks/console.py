"""The console on a large snapshot: what each page takes on one core, its memory, and what pages of the service take
while ten people click.

    python -m benchmarks.console --users 1000000

The peer is FastAPI with uvicorn that answers with the same bytes, which it has ready: what no console of this kind can
be faster than.
"""

import argparse
import json
import os
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path
from urllib.parse import quote

import numpy as np
import psutil

from benchmarks.machine import describe
from benchmarks.processes import Running, free_ports
from benchmarks.served_shop import ServedShop
from benchmarks.service import Service
from serving.client import Client

REQUESTS = 100
PEOPLE = 10
CLICK_SECONDS = 1.0
"""Mean time between two clicks of a person."""
PAGES_PER_SECOND = 100
SECONDS = 20.0
CONSTANT = """
import sys
import uvicorn
from fastapi import FastAPI, Response
from pathlib import Path
bodies = {path.name: path.read_bytes() for path in Path(sys.argv[1]).iterdir()}
app = FastAPI(openapi_url=None)
@app.get("/{name}")
def page(name: str) -> Response:
    return Response(bodies[name], media_type="text/html")
uvicorn.run(app, port=int(sys.argv[2]), log_level="warning", access_log=False)
"""


def main() -> None:
    """Print what the pages take."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=1_000_000, help="number of users of the snapshot")
    users = parser.parse_args().users
    print(describe())
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as name:
        shop = ServedShop.made(Path(name), users, 300)
        shop.publish(shop.write(1))
        with Service(shop, 1, cores[:1], ranking="live") as service, console_of(shop, cores[-1:]) as console:
            measure(shop, service, console, cores[-1:])


class Console(Running):
    """The console's process; ready when constructed."""

    def __init__(self, shop: ServedShop, configuration: Path, port: int, cores: Sequence[int]):
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "cli.main", "console", "--conf", str(configuration)]
        super().__init__(command, cores, shop.folder / "console.log")
        self.wait_for(port)

    @property
    def memory(self) -> float:
        """Memory in MB: what is the process's own, without files that are mapped."""
        return max(each.memory_full_info().uss for each in self.members()) / 1e6


def console_of(shop: ServedShop, cores: Sequence[int]) -> Console:
    """Start the console of a shop whose service runs, with rules and without experiments."""
    (port,) = free_ports(1)
    rules = shop.folder / "rules.yaml"
    rules.write_text("schema_version: 1\nrules: []\n")
    values = json.loads((shop.folder / "service.yaml").read_text())
    values["serving"] |= {"rules": str(rules)}
    values["console"] = {"port": port}
    configuration = shop.folder / "console.yaml"
    configuration.write_text(json.dumps(values))
    return Console(shop, configuration, port, cores)


def measure(shop: ServedShop, service: Service, console: Console, cores: Sequence[int]) -> None:
    """Measure each page, then the service while people click."""
    users, sale = shop.some_users(REQUESTS), shop.open_sale_ids()[7]
    pages: dict[str, Callable[[int], str]] = {
        "tonight": lambda _: "/",
        "window": lambda n: f"/window?user={quote(users[n % len(users)])}",
        "two windows": lambda n: f"/window?user={quote(users[n % len(users)])}&beside=popularity&session={sale}",
        "sales": lambda _: "/sales",
        "a sale": lambda _: f"/sales/{quote(sale)}",
        "photos": lambda _: "/photos",
        "rules": lambda _: "/rules",
        "models": lambda _: "/models",
        "changes": lambda _: "/changes",
    }
    constant = shop.folder / "constant"
    constant.mkdir()
    for name, path in pages.items():
        (constant / quote(name)).write_bytes(fetched(console.url + path(0)))
    (port,) = free_ports(1)
    with Running([sys.executable, "-c", CONSTANT, str(constant), str(port)], cores, shop.folder / "peer.log") as peer:
        peer.wait_for(port)
        print(f"{'page':<14}{'kB':>7}{'p50 ms':>9}{'p95 ms':>9}{'constant p95':>14}{'ratio':>8}")
        for name, path in pages.items():
            took = [seconds_of(console.url + path(number)) for number in range(REQUESTS)]
            floor = [seconds_of(f"http://127.0.0.1:{port}/{quote(quote(name))}") for _ in range(REQUESTS)]
            size = (constant / quote(name)).stat().st_size / 1e3
            half, most = np.quantile(took, [0.5, 0.95]) * 1e3
            least = float(np.quantile(floor, 0.95)) * 1e3
            print(f"{name:<14}{size:>7.0f}{half:>9.1f}{most:>9.1f}{least:>14.1f}{most / least:>8.1f}", flush=True)
    print(f"memory {console.memory:,.0f} MB, files that are mapped left out")
    idle, busy = [paced(service, console, pages, people) for people in (0, PEOPLE)]
    print(
        f"{PAGES_PER_SECOND} pages/s of one worker, 99 % within {idle:.1f} ms; with {PEOPLE} people who click every "
        f"{CLICK_SECONDS:g} s {busy:.1f} ms: {busy / idle:.2f} times"
    )
    print(f"memory {console.memory:,.0f} MB then, {psutil.cpu_count()} cores")


def paced(service: Service, console: Console, pages: dict[str, Callable[[int], str]], people: int) -> float:
    """Return within how many milliseconds 99 % of the service's pages are answered while people click."""
    ended = threading.Event()

    def click(number: int) -> None:
        rng = np.random.default_rng(number)
        for path in cycle(pages.values()):
            if ended.wait(rng.exponential(CLICK_SECONDS)):
                return
            fetched(console.url + path(int(rng.integers(REQUESTS))))

    threads = [threading.Thread(target=click, args=(number,)) for number in range(people)]
    for thread in threads:
        thread.start()
    took = []
    with Client(service.target, deadline=10.0) as client:
        users, start = cycle(service.shop.some_users(1000)), time.monotonic()
        for number in range(int(SECONDS * PAGES_PER_SECOND)):
            due = start + number / PAGES_PER_SECOND
            time.sleep(max(0.0, due - time.monotonic()))
            client.top_sales(next(users))
            took.append(time.monotonic() - due)  # since when it was due
    ended.set()
    for thread in threads:
        thread.join()
    return float(np.quantile(took, 0.99)) * 1e3


def fetched(url: str) -> bytes:
    """Return what an address answers.

    Raises:
        HTTPError: If it answers an error.
    """
    with urllib.request.urlopen(url, timeout=60) as answer:
        content: bytes = answer.read()
    return content


def seconds_of(url: str) -> float:
    """Return the seconds that an answer takes."""
    began = time.monotonic()
    fetched(url)
    return time.monotonic() - began


if __name__ == "__main__":
    main()
