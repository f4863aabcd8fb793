"""Sessions in files: killed writers, several processes, and days that pass."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import lmdb
import orjson
import pytest

from recsys.errors import StoreError
from recsys.instants import DAY, HOUR, SECOND
from serving.stores.base import SessionEvent
from serving.stores.sessions import _MINUTE, SessionFiles, _counts
from tests.helpers.counted_events import counts_by_sale

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
    same = {f"same{number % 7}": [SessionEvent("same", number % 3 == 0, now - number)]}
    both = {"both": [SessionEvent(f"{name}{number}", False, now)]}
    sessions.add({user: [SessionEvent(str(number), False, now)], **both, **same})
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


def test_two_processes_that_write_the_same_users_lose_nothing_and_count_nothing_twice(
    opened, folder, clock, own_environment
):
    sessions = opened()
    processes = [writer(folder, name, 45, clock.now, own_environment) for name in "ab"]
    for process in processes:
        process.communicate(timeout=60)
    of_both = sorted(f"{name}{number}" for name in "ab" for number in range(45))
    assert sorted(sales(sessions, "both")) == of_both
    of_each = dict.fromkeys(map(str, range(45)), (2, 0))
    assert counted(sessions) == {**of_each, **dict.fromkeys(of_both, (1, 0)), "same": (0, 7)}


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


# Live counts.


def counted(sessions: SessionFiles, since: int = 0) -> dict[str, tuple[int, int]]:
    return counts_by_sale(sessions.live_counts(since))


def test_event_that_arrives_again_after_midnight_counts_once(opened, clock):
    sessions, event = opened(), SessionEvent("a", False, MIDNIGHT - SECOND)
    clock.now = MIDNIGHT - 1
    sessions.add({"ann": [event]})
    clock.now = MIDNIGHT + SECOND
    sessions.add({"ann": [event, SessionEvent("a", False, MIDNIGHT), SessionEvent("a", True, MIDNIGHT - 2 * SECOND)]})
    assert counted(sessions) == {"a": (1, 1)}
    assert counted(sessions, MIDNIGHT) == {"a": (1, 0)}


@pytest.mark.parametrize("step", [DAY, -DAY, 30 * DAY, -30 * DAY, -HOUR])
def test_clock_that_steps_and_returns_counts_on_without_an_error(opened, clock, step):
    sessions, noon = opened(), clock.now
    sessions.add({"ann": [SessionEvent("a", False, noon)]})
    assert counted(sessions) == {"a": (1, 0)}
    clock.now = noon + step
    sessions.add({"ann": [SessionEvent("b", False, clock.now)]})
    assert counted(sessions)["b"] == (1, 0)
    clock.now = noon + SECOND
    sessions.add({"bob": [SessionEvent("a", False, clock.now)]})
    before = (1, 0) if step == 30 * DAY else (2, 0)  # as if that much time had passed, the files are gone
    assert counted(sessions)["a"] == before
    assert counted(sessions) == counted(sessions)


def test_files_that_are_removed_begin_anew_for_all_processes(opened, folder, clock):
    sessions = opened()
    sessions.add({"ann": [SessionEvent("a", False, clock.now)] * 9, "bob": [SessionEvent("a", True, clock.now)]})
    assert counted(sessions) == {"a": (1, 1)}
    shutil.rmtree(folder / "20000")
    assert counted(sessions) == {}
    sessions.add({"ann": [SessionEvent("a", False, clock.now)]})
    assert counted(sessions) == {"a": (1, 0)}
    sessions.close()
    assert counted(opened()) == {"a": (1, 0)}


def test_only_minutes_that_changed_are_read_again(opened, folder, clock, monkeypatch):
    sessions, decoded = opened(), []
    for minute in range(5):
        sessions.add({"ann": [SessionEvent(f"s{minute}", False, clock.now - minute * 60 * SECOND)]})
    monkeypatch.setattr("serving.stores.sessions._counts", lambda data, known=_counts: decoded.append(1) or known(data))
    expected = {f"s{minute}": (1, 0) for minute in range(5)}
    assert (counted(sessions), len(decoded)) == (expected, 5)
    assert (counted(sessions), len(decoded)) == (expected, 5)
    sessions.add({"bob": [SessionEvent("s3", False, clock.now - 3 * 60 * SECOND)]})
    decoded.clear()
    assert (counted(sessions), len(decoded)) == ({**expected, "s3": (2, 0)}, 1)


def test_events_in_files_of_a_version_that_did_not_count_stay_uncounted(opened, folder, clock):
    event = SessionEvent("a", False, clock.now)
    (folder / "20000").mkdir(parents=True)
    with lmdb.open(str(folder / "20000")) as file, file.begin(write=True) as transaction:
        transaction.put(b"ann", orjson.dumps([tuple(event)]))
    sessions = opened()
    assert counted(sessions) == {}
    sessions.add({"ann": [event, SessionEvent("b", False, clock.now)], "bob": [event]})
    assert (counted(sessions), sales(sessions, "ann")) == ({"a": (1, 0), "b": (1, 0)}, ["a", "b"])


def test_user_id_cannot_touch_the_counts(opened, clock):
    sessions = opened()
    sessions.add({user_id: [SessionEvent("a", False, clock.now)] for user_id in ("\xff", "\udcff", "ÿÿÿÿÿ", "\x00")})
    assert counted(sessions) == {"a": (4, 0)}
    assert sum(sessions.remove(user_id) for user_id in ("\xff", "\udcff", "ÿÿÿÿÿ", "\x00")) == 4
    assert counted(sessions) == {"a": (4, 0)}


@pytest.mark.parametrize("damage", [b"", b"short", *(b"\xff" * 8 + text for text in (b"[", b"7", b'{"a": [1, 2]}'))])
def test_damaged_counts_are_an_error_with_the_next_step(opened, clock, damage):
    sessions, event = opened(), SessionEvent("a", False, clock.now)
    sessions.add({"ann": [event]})
    with sessions._day_file(20_000).begin(write=True) as transaction:
        transaction.put(_MINUTE.pack(b"\xff", clock.now // (60 * SECOND)), damage)
    with pytest.raises(StoreError, match=r"sessions cannot be read .*: check the disk, or remove it"):
        sessions.live_counts(0)
