"""The log of exposures: CPU time per record, compared with the standard library's logging.

    python -m benchmarks.exposures [--records 200000] [--per-second 5000]

CPU time is that of the whole process: appending, encoding and writing, at a constant rate of records. A record is a
page of ten sales in an experiment.
"""

import argparse
import json
import logging
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks import machine
from recsys.logs.log_files import finished
from recsys.logs.records import Assignment, Exposure, encode_exposure
from serving.telemetry.record_log import RecordLog

SALE_IDS = [f"sale-{number:05d}" for number in range(500)]
SHOWN = [(number * 7, 0.9 - number / 17, 1, 0) for number in range(10)]
ASSIGNMENT = Assignment("image-themes", 1, "control", 4711, "assigned", "ab12cd34" * 5)
THREADS = 8


class Cost(NamedTuple):
    """Times in microseconds per record."""

    cpu: float
    append: float
    """Median time that the request's thread waits."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--per-second", type=int, default=5_000)
    arguments = parser.parse_args()
    print(f"{arguments.records:,} exposures of 10 sales, {arguments.per_second:,} per second; {machine.describe()}")
    with tempfile.TemporaryDirectory() as folder:
        paced = (arguments.records, arguments.per_second)
        report("nothing", measure(lambda _: None, *paced))
        ours = log_records(Path(folder) / "ours", *paced)
        report("RecordLog", ours)
        peer = log_by_logging(Path(folder) / "peer.log", *paced)
        report("logging.FileHandler, json.dumps", peer)
        print(f"  CPU of RecordLog / CPU of logging: {ours.cpu / peer.cpu:.2f}")
        log_durably(Path(folder) / "durable", 4_000)


def exposure(number: int) -> Exposure:
    return Exposure(
        exposed_at=1_772_323_200_000_000 + number,
        request_id=f"{number:016x}",
        user_id=f"user-{number % 9973:07d}",
        surface="home",
        policy="meta",
        model_version="3",
        snapshot="20260301T000000Z-1a2b3c4d",
        fallback_level="FALLBACK_LEVEL_NONE",
        n=10,
        shown=SHOWN,
        sale_ids=SALE_IDS,
        attributes={"country": "DE"},
        assignment=ASSIGNMENT,
    )


def measure(append: Callable[[Exposure], None], records: int, per_second: int) -> Cost:
    """Append at a constant rate, in 100 batches per second; creating the records is not counted."""
    batch, waits, cpu = per_second // 100, [], 0.0
    start = time.perf_counter()
    for first in range(0, records, batch):
        before = time.process_time()
        time.sleep(max(0.0, start + first / per_second - time.perf_counter()))
        cpu += time.process_time() - before
        pages = [exposure(number) for number in range(first, first + batch)]
        before, begin = time.process_time(), time.perf_counter()
        for page in pages:
            append(page)
        waits.append((time.perf_counter() - begin) / batch)
        cpu += time.process_time() - before
    return Cost(cpu / records * 1e6, sorted(waits)[len(waits) // 2] * 1e6)


def log_records(folder: Path, records: int, per_second: int) -> Cost:
    log = RecordLog(folder, "exposures", encode_exposure)
    log.start()
    cost = measure(log.append, records, per_second)
    before = time.process_time()
    log.close()
    closing = (time.process_time() - before) / records * 1e6
    size = sum(file.stat().st_size for file in finished(folder))
    print(f"  {size / records:.0f} bytes per record; {log.state().written:,} written, {log.state().lost:,} lost")
    return cost._replace(cpu=cost.cpu + closing)


def log_by_logging(path: Path, records: int, per_second: int) -> Cost:
    """Log the same fields with the standard library: encoded and written by the request's thread."""
    logger, handler = logging.getLogger("peer"), logging.FileHandler(path)
    logger.propagate = False
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)

    def append(page: Exposure) -> None:
        fields = page._asdict()
        shown = fields.pop("shown")
        fields["sale_ids"] = [page.sale_ids[sale[0]] for sale in shown]
        fields["scores"] = [sale[1] for sale in shown]
        logger.info(json.dumps(fields))

    cost = measure(append, records, per_second)
    handler.close()
    return cost


def log_durably(folder: Path, records: int) -> None:
    """Append durably from several threads, and print records per second and the wait for each."""
    log = RecordLog(folder, "exposures", encode_exposure, durable=True)
    log.start()
    share = records // THREADS
    threads = [
        threading.Thread(target=lambda: [log.append(exposure(number)) for number in range(share)])
        for _ in range(THREADS)
    ]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - start
    log.close()
    each = seconds / share * 1000
    print(f"  durable, {THREADS} threads: {records / seconds:,.0f} records/s, {each:.2f} ms wait per record")


def report(name: str, cost: Cost) -> None:
    print(f"  {name:<34} {cost.cpu:6.2f} µs of CPU per record; the request's thread waits {cost.append:6.2f} µs")


if __name__ == "__main__":
    main()
