"""A snapshot on its way to a serving machine: seconds until it is there, and what pages take meanwhile.

python -m benchmarks.fleet --users 500000

The object store is moto's S3 server on loopback, one Python process: seconds say nothing of a real store, only the
ratio to a plain download of the same files, one after the other and unchecked, from the same server.
"""

import argparse
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from benchmarks.machine import describe
from benchmarks.processes import Running, free_ports
from benchmarks.served_shop import ServedShop
from benchmarks.service import Service
from recsys.snapshot import store
from recsys.snapshot.format import read_manifest
from recsys.snapshot.publishing import Publisher
from recsys.snapshot.shared import SharedSnapshots
from recsys.storage.places import place
from serving.client import Client

BUCKET = "fleet"
FOLDER = f"s3://{BUCKET}/shop"
IDLE_SECONDS = 15.0
PAGES_PER_SECOND = 100


class Pages:
    """Asks for pages at a steady rate, and keeps when each was asked for and what it took, in seconds."""

    def __init__(self, service: Service):
        self._service, self._ended = service, threading.Event()
        self._took: list[tuple[float, float]] = []
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> "Pages":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def milliseconds(self, since: float, until: float, share: float) -> float:
        """Return a quantile of what the pages took that were asked for in an interval."""
        return float(np.quantile([took for began, took in self._took if since <= began < until], share)) * 1e3

    def _ask(self) -> None:
        with Client(self._service.target, deadline=10.0) as client:
            next_at = time.monotonic()
            for user in cycle(self._service.shop.some_users(10_000)):
                if self._ended.is_set():
                    return
                time.sleep(max(0.0, next_at - time.monotonic()))
                client.top_sales(user)
                self._took.append((next_at, time.monotonic() - next_at))  # since when it was due
                next_at += 1 / PAGES_PER_SECOND


def main() -> None:
    """Print what the downloads and the pages take."""
    parser = argparse.ArgumentParser(description="Take-up of a snapshot from an object store.")
    parser.add_argument("--users", type=int, default=500_000, help="Number of users of the snapshots.")
    users = parser.parse_args().users
    print(describe())
    port, cores = free_ports(1)[0], sorted(os.sched_getaffinity(0))
    os.environ |= {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ |= {"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        with Running(server, cores, folder / "moto.log") as moto:
            moto.wait_for(port)
            measure(folder, users, cores)


def measure(folder: Path, users: int, cores: list[int]) -> None:
    """Publish snapshots, and measure how they are taken up."""
    shop = ServedShop.made(folder, users, 300)
    where: Any = place(FOLDER)
    where.fs.mkdir(BUCKET)
    shared = SharedSnapshots(where / "snapshots")
    driver = Publisher(shop.root, shared)
    first, second = shop.write(1), shop.write(2)
    began = time.monotonic()
    driver.keep(first)
    size = n_bytes(shop, first)
    print(f"{users:,} users, {size / 1e6:,.0f} MB, {size / users:,.0f} bytes per user")
    print(f"  pushed in {time.monotonic() - began:.1f} s")
    plain, pulled = [], []
    for number in range(3):
        plain.append(seconds_of(lambda: download(shared, shop.root / first, folder / "plain")))
        target = Publisher(folder / f"pulled-{number}", shared)
        pulled.append(seconds_of(lambda target=target: target.fetch(first)))
        shutil.rmtree(target.root)
    for way, seconds in (("downloaded one by one, unchecked", plain), ("pulled, checked, in place", pulled)):
        print(f"  {way}: {np.median(seconds):.1f} s ({min(seconds):.1f} to {max(seconds):.1f})")
    print(f"  ratio: {np.median(pulled) / np.median(plain):.2f}")
    serve(shop, driver, first, second, cores)


def serve(shop: ServedShop, driver: Publisher, first: str, second: str, cores: list[int]) -> None:
    """Measure pages of a service that pulls a snapshot, beside those of the same service before."""
    driver.publish(first, datetime.now(UTC))
    where = {"folder": FOLDER, "disk": str(shop.folder / "machine")}
    root = shop.folder / "machine" / "snapshots"
    Publisher(root, driver.shared).pull()
    with Service(shop, 2, cores, where=where, pull_seconds=0.5) as service, Pages(service) as pages:
        time.sleep(3)
        idle = time.monotonic()
        time.sleep(IDLE_SECONDS)
        driver.keep(second)  # its way to the store is none of a serving machine's work
        driver_ended = time.monotonic()
        driver.publish(second, datetime.now(UTC))
        published = time.monotonic()
        while store.current(root) != second:
            time.sleep(0.05)
        here = time.monotonic()
        time.sleep(3)  # it is opened and warmed up
        after = time.monotonic()
    print(f"  pages of {PAGES_PER_SECOND}/s by 2 workers, 99 % within")
    print(f"    idle: {pages.milliseconds(idle, idle + IDLE_SECONDS, 0.99):.2f} ms")
    print(
        f"    while {n_bytes(shop, second) / 1e6:,.0f} MB were pulled in {here - published:.1f} s, and taken up:",
        end="",
    )
    print(f" {pages.milliseconds(driver_ended, after, 0.99):.2f} ms")


def n_bytes(shop: ServedShop, name: str) -> int:
    """Return the size of a snapshot in bytes."""
    return read_manifest(shop.root / name).n_bytes


def seconds_of(work: Callable[[], object]) -> float:
    """Return the seconds that something takes."""
    began = time.monotonic()
    work()
    return time.monotonic() - began


def download(shared: SharedSnapshots, snapshot: Path, target: Path) -> None:
    """Download the files of a snapshot, one after the other."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for entry in read_manifest(snapshot).files.values():
        source: Any = shared.file(entry.sha256)
        source.fs.get_file(source.path, str(target / entry.sha256))


if __name__ == "__main__":
    main()
