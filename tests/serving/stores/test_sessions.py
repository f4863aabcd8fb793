"""Sessions in files: killed writers, several processes, and days that pass."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from recsys.errors import StoreError
from recsys.instants import DAY, HOUR, SECOND
from serving.stores.base import SessionEvent
from serving.stores.sessions import SessionFiles

MIDNIGHT = 20_000 * DAY


class Time:
    """A clock that a test moves."""

    now = MIDNIGHT + 12 * HOUR

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Time:
    return Time()


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "sessions"


@pytest.fixture
def opened(folder, clock) -> Iterator[Callable[[], SessionFiles]]:
    with ExitStack() as stack:

        def made() -> SessionFiles:
            sessions = SessionFiles(folder, clock)
            stack.callback(sessions.close)
            return sessions

        yield made


WRITE = """
import sys
from pathlib import Path
from serving.stores.base import SessionEvent
from serving.stores.sessions import SessionFiles
folder, name, count, now = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
sessions = SessionFiles(folder, lambda: now)
for number in range(count):
    user = f"{name}{number // 50}"
    sessions.add({user: [SessionEvent(str(number), False, now)], "both": [SessionEvent(f"{name}{number}", False, now)]})
    print(number, flush=True)
"""


def writer(folder: Path, name: str, count: int, now: int, environment: dict[str, str]) -> subprocess.Popen:
    command = [sys.executable, "-c", WRITE, str(folder), name, str(count), str(now)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def sales(sessions: SessionFiles, user_id: str) -> list[str]:
    return [event.sale_id for event in sessions.get(user_id, 0)]


def test_killed_writer_loses_no_acknowledged_event_and_blocks_no_other_process(opened, folder, clock, own_environment):
    with writer(folder, "u", 1_000_000, clock.now, own_environment) as process:
        for line in process.stdout:
            if int(line) == 200:
                break
        os.kill(process.pid, signal.SIGKILL)
        acknowledged = [200, *map(int, process.stdout)][-1]
    sessions = opened()
    found = [sale for number in range(acknowledged // 50 + 1) for sale in sales(sessions, f"u{number}")]
    assert found[: acknowledged + 1] == [str(number) for number in range(acknowledged + 1)]
    sessions.add({"ann": [SessionEvent("a", False, clock.now)]})
    assert sales(sessions, "ann") == ["a"]


def test_two_processes_that_write_the_same_user_lose_nothing(opened, folder, clock, own_environment):
    sessions = opened()
    processes = [writer(folder, name, 45, clock.now, own_environment) for name in "ab"]
    for process in processes:
        process.communicate(timeout=60)
    assert sorted(sales(sessions, "both")) == sorted(f"{name}{number}" for name in "ab" for number in range(45))


def test_session_continues_over_midnight(opened, clock):
    sessions = opened()
    clock.now = MIDNIGHT - SECOND
    sessions.add({"ann": [SessionEvent("before", False, clock.now)]})
    clock.now = MIDNIGHT + SECOND
    sessions.add({"ann": [SessionEvent("after", False, clock.now)]})
    assert sales(sessions, "ann") == ["before", "after"]
    assert [event.sale_id for event in sessions.get("ann", MIDNIGHT)] == ["after"]


def test_events_of_two_days_ago_are_gone_from_answers_and_from_the_disk(opened, folder, clock):
    sessions = opened()
    for day in range(4):
        clock.now = MIDNIGHT + day * DAY + HOUR
        sessions.add({"ann": [SessionEvent(f"day {day}", False, clock.now)]})
    assert sales(sessions, "ann") == ["day 2", "day 3"]
    assert sorted(path.name for path in folder.glob("2*")) == ["20002", "20003"]


def test_old_days_are_removed_at_the_start_too_and_other_folders_stay(opened, folder, clock):
    for name in ("notes", "19000"):
        (folder / name).mkdir(parents=True)
    opened().add({"ann": [SessionEvent("a", False, clock.now)]})
    assert not (folder / "19000").exists()
    assert (folder / "notes").exists()


def test_sessions_survive_a_restart(opened, clock):
    first = opened()
    first.add({"ann": [SessionEvent("a", True, clock.now)]})
    first.close()
    assert opened().get("ann", 0) == [SessionEvent("a", True, clock.now)]


@pytest.mark.parametrize("call", ["get", "add"])
def test_damaged_file_is_an_error_with_the_next_step(opened, folder, clock, call):
    event = SessionEvent("a", False, clock.now)
    before = opened()
    before.add({"ann": [event]})
    before.close()
    (folder / "20000" / "data.mdb").write_bytes(b"no database" * 1000)
    sessions = opened()
    with pytest.raises(StoreError, match=r"sessions/20000 cannot be opened .*: check the disk, or remove it"):
        sessions.get("ann", 0) if call == "get" else sessions.add({"ann": [event]})


def test_damaged_record_is_an_error_with_the_next_step(opened, folder, clock):
    sessions = opened()
    sessions.add({"ann": [SessionEvent("a", False, clock.now)]})
    with sessions._day_file(20_000).begin(write=True) as transaction:
        transaction.put(b"ann", b"[[no json")
    with pytest.raises(StoreError, match=r"sessions cannot be read .*: check the disk, or remove it"):
        sessions.get("ann", 0)


def test_id_that_is_too_long_for_the_file_is_an_error_that_adds_nothing(opened, clock):
    sessions, event = opened(), SessionEvent("a", False, clock.now)
    with pytest.raises(StoreError, match="cannot be written"):
        sessions.add({"ann": [event], "x" * 600: [event]})
    assert sessions.get("ann", 0) == sessions.get("x" * 600, 0) == []


def test_lock_file_of_lmdb_has_its_place_on_the_disk(folder, clock):
    """LMDB maps it as a sparse file: on a full disk, the kernel would kill the process."""
    files = SessionFiles(folder, clock)
    files.add({"ann": [SessionEvent("a", False, clock())]})
    (lock,) = folder.rglob("lock.mdb")
    assert lock.stat().st_blocks * 512 >= lock.stat().st_size >= 64 * 2048
    assert files.get("ann", clock() - 1) == [SessionEvent("a", False, clock())]
    files.close()


def test_day_that_cannot_be_opened_on_a_full_disk_is_a_store_error(folder, clock, monkeypatch):
    files = SessionFiles(folder, clock)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(StoreError, match="cannot be opened"):
        files.add({"ann": [SessionEvent("a", False, clock())]})
    monkeypatch.undo()
    files.add({"ann": [SessionEvent("a", False, clock())]})
    files.close()
