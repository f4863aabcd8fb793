import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from recsys.errors import StoreError
from serving.stores.shared_counter import SharedCounter

COUNT = """
import sys
from pathlib import Path
from serving.stores.shared_counter import SharedCounter
counter = SharedCounter(Path(sys.argv[1]))
while counter.value() < int(sys.argv[2]):
    counter.increase()
    print(flush=True)
"""


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "new folder" / "counter"


@pytest.fixture
def opened(path) -> Iterator[Callable[[], SharedCounter]]:
    with ExitStack() as stack:
        yield lambda: stack.enter_context(closing(SharedCounter(path)))


def test_counter_has_its_place_on_the_disk_or_is_refused_in_one_line(path, opened, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        with pytest.raises(StoreError, match=r"counter cannot be written \(No space left on device\): make room"):
            opened()
    assert opened().value() == 0
    assert path.stat().st_blocks > 0


def test_new_counter_is_zero_and_keeps_what_it_counted(path, opened):
    with closing(SharedCounter(path)) as first:
        assert first.value() == 0
        first.increase()
        first.increase()
    assert opened().value() == 2


def test_all_counters_of_a_file_see_a_change_at_once(opened):
    one, other = opened(), opened()
    for number in range(1, 6):
        (one if number % 2 else other).increase()
        assert (one.value(), other.value()) == (number, number)


def test_processes_that_count_at_the_same_time_lose_no_step(path, opened, own_environment):
    """Each process counts until 2000 is reached, so lost increments would show as additional lines."""
    command = [sys.executable, "-c", COUNT, str(path), "2000"]
    processes = [subprocess.Popen(command, env=own_environment, stdout=subprocess.PIPE) for _ in range(2)]
    steps = sum(process.communicate(timeout=60)[0].count(b"\n") for process in processes)
    assert opened().value() == steps
    assert steps in (2000, 2001)


def test_killed_process_leaves_a_counter_that_others_can_use(path, opened, own_environment):
    command = [sys.executable, "-c", COUNT, str(path), "1000000000"]
    with subprocess.Popen(command, env=own_environment, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
    counter = opened()
    before = counter.value()
    counter.increase()
    assert counter.value() == before + 1
