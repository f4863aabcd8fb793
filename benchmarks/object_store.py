"""The night with the shop's folder on a disk, and in an object store: moto's S3 server, in Python, on loopback.

    python -m benchmarks.object_store [--users 250000] [--rounds 1]

Both nights read the same raw tables; what they write is compared. A real store answers later than this one, and has
more room for requests at the same time.
"""

import argparse
import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks import machine
from benchmarks.night import logged_steps, made_shop
from jobs.engine.nights import night
from jobs.night.nightly import nightly
from recsys.storage.places import place
from recsys.tables.parts import parts_of

_BUCKET = "benchmark"
_CREDENTIALS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}


class Night(NamedTuple):
    """A night's time, and the digests of what it ranked."""

    seconds: float
    steps: dict[str, float]
    rankings: list[str]


def main() -> None:
    """Run both nights, each in a process of its own, and print their times beside each other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=250_000)
    parser.add_argument("--open-sales", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    print(machine.describe())
    for _ in range(arguments.rounds):
        with tempfile.TemporaryDirectory(prefix="night-") as folder, _server():
            found = []
            for kind in ("disk", "store"):
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    found.append(pool.apply(measure, (Path(folder, kind), arguments.users, arguments.open_sales, kind)))
        print(describe(*found), flush=True)


def describe(disk: Night, store: Night) -> str:
    """Return a table of the steps, and a line for the nights."""
    steps = [(name, seconds, store.steps[name]) for name, seconds in disk.steps.items()]
    rows = [f"{name:<20}{one:>9.1f}{other:>9.1f}" for name, one, other in steps if max(one, other) >= 0.1]
    same = "the same bytes" if disk.rankings == store.rankings else "OTHER BYTES"
    total = f"{'night':<20}{disk.seconds:>9.1f}{store.seconds:>9.1f}  {store.seconds / disk.seconds:.2f} x; {same}"
    return "\n".join([f"{'step':<20}{'disk s':>9}{'store s':>9}", *rows, total])


def measure(folder: Path, users: int, open_sales: int, kind: str) -> Night:
    """Generate a shop, and return the time of its night; its raw tables are on the disk in any case."""
    settings = made_shop(folder, users, open_sales)
    if kind == "store":
        settings = settings.model_copy(update={"folder": f"s3://{_BUCKET}/shop", "disk": settings.folder})
    with logged_steps(folder) as steps:
        began = time.monotonic()
        run = night(settings, trains=False)
        nightly(run)
        seconds = time.monotonic() - began
    digests = sorted(part.sha256 for part in parts_of(run.outputs / "rankings"))
    return Night(seconds, {step.name: step.seconds for step in steps}, digests)


@contextmanager
def _server() -> Iterator[None]:
    """Serve an empty bucket; variables of the environment lead all processes there."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        os.environ.update({**_CREDENTIALS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"})
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.1)
        place(f"s3://{_BUCKET}").mkdir()
        yield
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
