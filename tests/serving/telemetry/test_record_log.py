"""The log of a process: it loses records only where it must, and then a uniform random sample stays."""

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from recsys.logs.log_files import LogFile, finished, recover
from serving.errors import NotRecordedError
from serving.telemetry.record_log import RecordLog
from tests.helpers.paths import ROOT
from tests.helpers.waiting import PATIENCE, wait_until


def line(record: object) -> bytes:
    return b"%s\n" % json.dumps(record).encode()


def log_of(folder: Path, **others: object) -> RecordLog:
    return RecordLog(folder, "pages", line, **{"flush_seconds": 0.02, "seed": 3, **others})


def records(*files: Path) -> list:
    return [json.loads(each) for file in files for each in file.read_bytes().splitlines()]


def written(folder: Path) -> list:
    """The records in the finished log files of a folder."""
    return records(*finished(folder))


def being_written(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.open"))


@pytest.fixture
def started() -> Iterator[Callable[..., RecordLog]]:
    logs = []

    def start(folder: Path, **others: object) -> RecordLog:
        logs.append(log_of(folder, **others))
        logs[-1].start()
        return logs[-1]

    yield start
    for log in logs:
        log.close()


class Disk:
    """A disk whose log files a test can break or halt; it counts the calls."""

    def __init__(self) -> None:
        self.broken: dict[str, OSError] = {}
        self.calls: Counter[str] = Counter()
        self.gate = threading.Event()
        self.gate.set()

    def ask(self, what: str) -> None:
        self.calls[what] += 1
        self.gate.wait(PATIENCE)
        if what in self.broken:
            raise self.broken[what]

    def new_file(self, folder: Path, name: str) -> LogFile:
        self.ask("open")
        disk = self

        class BreakableLogFile(LogFile):
            def write(self, lines: bytes) -> None:
                disk.ask("write")
                super().write(lines)

            def sync(self) -> None:
                disk.ask("sync")
                super().sync()

            def finish(self) -> None:
                super().finish()
                disk.ask("finish")

        return BreakableLogFile(folder, name)


class Memory(LogFile):
    """A segment that stores what was written last."""

    lines = b""

    def __init__(self, *_: object) -> None:
        self.size = 0

    def write(self, lines: bytes) -> None:
        Memory.lines = lines

    def finish(self) -> None:
        pass


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
DAMAGED = OSError(errno.EIO, os.strerror(errno.EIO))


def test_closing_writes_everything_in_order_and_finishes_the_log_file(tmp_path):
    log = log_of(tmp_path / "logs")
    for number in range(1000):
        log.append(number)
    assert log.state() == (1000, 0, 0, 0, None)
    log.close()
    assert written(tmp_path / "logs") == list(range(1000))
    assert log.state() == (0, 1000, 0, 1, None)
    assert being_written(tmp_path / "logs") == []


def test_log_without_records_creates_no_file(tmp_path, started):
    started(tmp_path / "logs").close()
    assert not (tmp_path / "logs").exists()


def test_records_are_passed_to_the_system_without_further_ones(tmp_path, started):
    started(tmp_path, flush_seconds=0.1).append("early")
    wait_until(lambda: records(*being_written(tmp_path)) == ["early"])


def test_threads_lose_nothing(tmp_path, started):
    log = started(tmp_path)

    def append(thread: int) -> None:
        for number in range(2000):
            log.append([thread, number])

    threads = [threading.Thread(target=append, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    found = written(tmp_path)
    assert sorted(found) == [[thread, number] for thread in range(5) for number in range(2000)]
    assert [number for thread, number in found if thread == 3] == list(range(2000))


def test_a_log_file_is_finished_at_its_size(tmp_path):
    log = log_of(tmp_path, file_bytes=200)
    for number in range(1000, 1130):  # 5 bytes each: a chunk of 64 has 320
        log.append(number)
    log.close()
    assert [len(records(file)) for file in finished(tmp_path)] == [64, 64, 2]
    assert written(tmp_path) == list(range(1000, 1130))
    names = [file.name.split("-") for file in finished(tmp_path)]
    assert [(name[0], name[2], name[3]) for name in names] == [
        ("pages", str(os.getpid()), f"{number}.jsonl") for number in (1, 2, 3)
    ]


def test_an_idle_log_file_is_finished_at_its_age(tmp_path, started):
    log = started(tmp_path, file_seconds=0.05)
    log.append("a")
    wait_until(lambda: written(tmp_path) == ["a"])
    log.append("b")
    wait_until(lambda: written(tmp_path) == ["a", "b"])
    assert log.state().files == 2


def chi_square(counts: Counter[int], runs: int) -> float:
    """The chi-square statistic of how often each of 50 records stayed, where 20 of them stay per run.

    With 49 degrees of freedom, 85.4 is exceeded once in 1,000 times. The variance of draws without replacement is
    1 - 20 / 50 of that of independent ones.
    """
    assert counts.total() == 20 * runs
    expected = 20 * runs / 50
    return sum((counts[number] - expected) ** 2 / expected for number in range(50)) / (1 - 20 / 50)


def test_overflow_retains_every_record_with_the_same_probability(tmp_path):
    counts: Counter[int] = Counter()
    for seed in range(2000):
        log = log_of(tmp_path, max_queued=20, seed=seed, new_file=Memory)
        for number in range(50):
            log.append(number)
        assert log.state()[:3] == (20, 0, 30)
        log.close()
        counts.update(json.loads(each) for each in Memory.lines.splitlines())
    assert chi_square(counts, 2000) < 85.4


def test_the_sample_begins_again_when_the_queue_was_emptied(tmp_path):
    counts: Counter[int] = Counter()
    for seed in range(200):
        disk = Disk()
        log = log_of(tmp_path / str(seed), max_queued=20, seed=seed, flush_seconds=0.001, new_file=disk.new_file)
        for _ in range(70):
            log.append("before")
        disk.gate.clear()
        log.start()
        wait_until(lambda disk=disk: disk.calls["open"])
        for number in range(50):
            log.append(number)
        assert log.state()[:3] == (40, 0, 80)
        disk.gate.set()
        log.close()
        counts.update(number for number in written(tmp_path / str(seed)) if number != "before")
    assert chi_square(counts, 200) < 85.4


def test_a_record_that_cannot_be_encoded_is_lost_alone(tmp_path, caplog):
    log = log_of(tmp_path)
    for record in ("a", object(), object(), "b"):
        log.append(record)
    log.close()
    assert written(tmp_path) == ["a", "b"]
    assert log.state()[:3] == (0, 2, 2)
    assert len(caplog.records) == 1


@pytest.mark.parametrize("error", [FULL, DAMAGED])
def test_records_wait_while_the_disk_cannot_be_written(tmp_path, started, caplog, error):
    disk = Disk()
    log = started(tmp_path, new_file=disk.new_file, max_queued=50)
    log.append("before")
    wait_until(lambda: log.state().written == 1)
    disk.broken = {"write": error, "open": error}
    log.append("first")
    wait_until(lambda: log.state().problem)
    for number in range(100):
        log.append(number)
    assert log.state()[:3] == (51, 1, 50)
    assert log.state().problem.startswith(f"pages cannot be written to {tmp_path} ({error}): make room")
    disk.broken = {}
    wait_until(lambda: log.state().problem is None)
    log.close()
    found = written(tmp_path)
    assert found[:2] == ["before", "first"]
    assert len(set(found)) == len(found) == 52
    assert log.state()[:3] == (0, 52, 50)
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1


def test_a_failing_disk_is_retried_with_growing_delays(tmp_path, started):
    disk = Disk()
    disk.broken = {"open": FULL}
    log = started(tmp_path, new_file=disk.new_file, flush_seconds=0.01)
    began = time.monotonic()
    log.append("a")
    wait_until(lambda: disk.calls["open"] >= 4)
    assert time.monotonic() - began >= 0.07  # after 5, 15, 35 and 75 ms


def test_a_log_file_that_could_not_be_finished_is_not_written_to_again(tmp_path, started):
    disk = Disk()
    disk.broken = {"finish": DAMAGED}
    log = started(tmp_path, new_file=disk.new_file, file_bytes=1)
    log.append("a")
    wait_until(lambda: disk.calls["finish"])
    disk.broken = {}
    log.append("b")
    log.close()
    assert written(tmp_path) == ["a", "b"]
    assert log.state()[:4] == (0, 2, 0, 2)


def test_a_log_closed_on_a_broken_disk_counts_what_is_lost(tmp_path, caplog):
    disk = Disk()
    disk.broken = {"write": FULL}
    log = log_of(tmp_path, new_file=disk.new_file)
    log.append("a")
    log.append("b")
    log.close()
    log.append("too late")
    assert log.state()[:3] == (0, 0, 3)
    assert "records lost: 2 " in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_was_removed_is_created_again(tmp_path, started):
    folder = tmp_path / "logs"
    log = started(folder)
    log.append("gone")
    wait_until(lambda: log.state().written == 1)
    being_written(folder)[0].unlink()
    folder.rmdir()
    log.append("written")
    log.close()
    assert written(folder) == ["written"]


def test_a_path_that_is_not_a_folder_is_a_problem_until_it_is_one(tmp_path, started):
    (tmp_path / "logs").write_text("a file")
    log = started(tmp_path / "logs")
    log.append("a")
    wait_until(lambda: log.state().problem)
    (tmp_path / "logs").unlink()
    log.close()
    assert written(tmp_path / "logs") == ["a"]


@contextmanager
def limited_files() -> Iterator[None]:
    """Limit files to 4,000 bytes: the system writes a part and then fails, as with a full disk.

    Use it only around the writes: the test run's own output may be a longer file.
    """
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_partly_written_line_is_undone(tmp_path):
    log_file = LogFile(tmp_path, "a")
    with limited_files():
        log_file.write(b"x" * 2999 + b"\n")
        with pytest.raises(OSError, match="File too large"):
            log_file.write(b"y" * 1999 + b"\n")
        log_file.write(b"z" * 999 + b"\n")
        log_file.finish()
    assert [len(part) for part in finished(tmp_path)[0].read_bytes().split(b"\n")] == [2999, 999, 0]


def test_a_log_continues_in_another_segment_where_one_cannot_grow(tmp_path, started):
    with limited_files():
        log = started(tmp_path)
        for number in range(64 * 5):
            log.append(f"{number:025}")  # a chunk of 64 has 1,792 bytes: two fit
        wait_until(lambda: log.state().queued == 0)
        log.close()
    assert written(tmp_path) == [f"{number:025}" for number in range(64 * 5)]
    assert [len(records(file)) for file in finished(tmp_path)] == [128, 128, 64]


def test_a_full_file_system_loses_nothing_and_leaves_complete_lines(tmp_path, started):
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a small file system needs root")
    try:
        (folder / "ballast").write_bytes(b"x" * 50_000)
        log = started(folder / "logs", file_bytes=5000)
        for number in range(1000):
            log.append(f"{number:030}")
        wait_until(lambda: log.state().problem)
        assert "No space left on device" in log.state().problem
        on_disk = records(*finished(folder / "logs"))
        assert len(on_disk) == log.state().written < 1000
        (folder / "ballast").unlink()
        wait_until(lambda: log.state().queued == 0)
        log.close()
        assert log.state()[:3] == (0, 1000, 0)
        assert sorted(written(folder / "logs")) == [f"{number:030}" for number in range(1000)]
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_durable_record_is_on_disk_when_append_returns(tmp_path, started):
    disk = Disk()
    log = started(tmp_path, durable=True, new_file=disk.new_file, flush_seconds=60)
    log.append("a")
    assert records(*being_written(tmp_path)) == ["a"]
    assert disk.calls["sync"] == 1


def test_callers_that_wait_at_the_same_time_share_a_sync(tmp_path, started):
    disk = Disk()
    disk.gate.clear()
    log = started(tmp_path, durable=True, new_file=disk.new_file)
    threads = [threading.Thread(target=log.append, args=(number,)) for number in range(21)]
    threads[0].start()
    wait_until(lambda: disk.calls["open"] == 1)
    for thread in threads[1:]:
        thread.start()
    wait_until(lambda: log.state().queued == 21)
    disk.gate.set()
    for thread in threads:
        thread.join()
    assert disk.calls["sync"] == 2
    log.close()
    assert sorted(written(tmp_path)) == list(range(21))


@pytest.mark.parametrize("what", ["open", "write", "sync"])
def test_a_durable_record_that_cannot_be_written_is_an_error_and_may_be_written_later(tmp_path, started, what):
    disk = Disk()
    disk.broken = {what: FULL}
    log = started(tmp_path, durable=True, timeout_seconds=0.5, new_file=disk.new_file)
    with pytest.raises(NotRecordedError, match=r"pages: not on the disk within 0.5 s: .*No space left.*make room"):
        log.append("a")
    disk.broken = {}
    wait_until(lambda: log.state().queued == 0)
    log.append("b")
    log.close()
    assert list(dict.fromkeys(written(tmp_path))) == ["a", "b"]


def test_a_durable_log_that_is_full_or_closed_fails_at_once(tmp_path):
    log = log_of(tmp_path, durable=True, max_queued=1, timeout_seconds=0.0)
    with pytest.raises(NotRecordedError, match=r"not on the disk within 0.0 s: send it again later"):
        log.append("a")
    with pytest.raises(NotRecordedError, match="1 records wait, must be fewer than 1"):
        log.append("b")
    log.close()
    with pytest.raises(NotRecordedError, match="the log is closed"):
        log.append("c")
    assert written(tmp_path) == ["a"]


def test_a_durable_record_that_cannot_be_encoded_is_the_callers_error(tmp_path, started):
    log = started(tmp_path, durable=True)
    with pytest.raises(TypeError):
        log.append(object())
    log.append("a")
    assert log.state()[:3] == (0, 1, 0)


def test_recovery_takes_only_the_log_files_of_dead_processes(tmp_path):
    living = LogFile(tmp_path, "living")
    living.write(b"1\n")
    (tmp_path / "dead.jsonl.open").write_bytes(b'2\n"torn')
    (tmp_path / "empty.jsonl.open").touch()
    recover(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dead.jsonl", "living.jsonl.open"]
    assert (tmp_path / "dead.jsonl").read_bytes() == b'2\n"torn'
    living.finish()
    assert [path.name for path in finished(tmp_path)] == ["dead.jsonl", "living.jsonl"]


def test_a_name_is_never_given_twice(tmp_path):
    first = LogFile(tmp_path, "a")
    with pytest.raises(FileExistsError):
        LogFile(tmp_path, "a")
    first.write(b"1\n")
    first.finish()
    with pytest.raises(FileExistsError):
        LogFile(tmp_path, "a")
    assert records(tmp_path / "a.jsonl") == [1]


WRITER = """
import signal, sys, time
from pathlib import Path
from serving.telemetry.record_log import RecordLog

def stop(*_):
    raise SystemExit

signal.signal(signal.SIGTERM, stop)
log = RecordLog(Path(sys.argv[1]), "pages", b"%d\\n".__mod__, durable=sys.argv[2] == "durable", flush_seconds=0.3)
log.start()
number = 0
try:
    while True:
        log.append(number)
        print(time.monotonic(), number, flush=True)
        number += 1
        time.sleep(0.0002)
finally:
    log.close()
"""


def run_writer(folder: Path, mode: str, end: signal.Signals) -> dict[int, float]:
    """Run a process that logs numbers and end it; return the instant of each logged number."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), mode], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        first = process.stdout.readline()
        time.sleep(1.5)  # five times the interval
        process.send_signal(end)
        said = [first, *process.stdout.read().splitlines()]
    whole = [each.split() for each in said if len(each.split()) == 2]
    return {int(number): float(at) for at, number in whole}


def test_a_killed_process_loses_what_it_logged_in_the_last_interval_at_most(tmp_path):
    logged = run_writer(tmp_path, "fast", signal.SIGKILL)
    recover(tmp_path)
    found = written(tmp_path)  # every line can be read
    assert found == list(range(len(found)))
    assert len(found) > 100
    last = max(logged.values())
    assert all(last - logged[number] <= 1 for number in logged if number >= len(found))  # 0.3 on an idle machine


def test_a_process_that_shuts_down_loses_nothing(tmp_path):
    logged = run_writer(tmp_path, "fast", signal.SIGTERM)
    assert being_written(tmp_path) == []
    assert written(tmp_path) in (list(range(len(logged))), list(range(len(logged) + 1)))  # logged, not yet said


def test_a_killed_process_loses_nothing_that_was_acknowledged(tmp_path):
    logged = run_writer(tmp_path, "durable", signal.SIGKILL)
    recover(tmp_path)
    assert logged
    assert set(logged) <= set(written(tmp_path))
