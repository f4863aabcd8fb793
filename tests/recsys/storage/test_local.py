import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from recsys.errors import BusyError
from recsys.storage import local
from recsys.storage.local import (
    held,
    put_in_place,
    remove_folder,
    remove_leftovers,
    scratch_folder,
    to_disk,
    tree_to_disk,
    write_whole,
)
from tests.helpers.paths import ROOT
from tests.helpers.waiting import PATIENCE

PRELUDE = """
import os, sys, time
from pathlib import Path
from recsys.storage.local import held, put_in_place, scratch_folder, write_whole
folder = Path(sys.argv[1])
def ready():
    print(flush=True)
    time.sleep(60)
"""
HOLD = "with held(folder):\n    ready()"
WRITE = "with scratch_folder(folder) as scratch:\n    (scratch / 'half').write_text('ha')\n    ready()"
# Killed after the new content is on disk and before it is renamed.
REPLACE = "os.fsync = lambda descriptor: ready()\nwrite_whole(folder / 'current', 'new')"
FORK = "with held(folder):\n    os.fork() or (print(flush=True), sys.stdin.read(), os._exit(0))\n    time.sleep(60)"


@contextmanager
def running(script: str, folder: Path) -> Iterator[subprocess.Popen]:
    command = [sys.executable, "-c", PRELUDE + script, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as process:
        try:
            assert process.stdout.readline() == b"\n"
            yield process
        finally:
            process.send_signal(signal.SIGKILL)


def killed(script: str, folder: Path) -> None:
    with running(script, folder):
        pass


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def scratch_names(folder: Path) -> list[str]:
    return [name for name in names(folder) if name.startswith(".tmp-")]


@pytest.fixture
def synced(monkeypatch) -> list[Path]:
    """The paths that were synced, in order, by their names at that time."""
    found: list[Path] = []
    fsync = os.fsync

    def recording(descriptor: int) -> None:
        found.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", recording)
    return found


def test_folder_locked_by_another_process_is_busy_until_that_is_killed(tmp_path):
    with running(HOLD, tmp_path):
        with pytest.raises(BusyError) as error, held(tmp_path, wait=False):
            pass
        assert str(error.value) == f"another run works in {tmp_path}: wait for it to end, or give another 'folder'"
        with held(tmp_path / "another", wait=False):
            pass
    with held(tmp_path, wait=False):
        pass


def test_forked_child_that_outlives_its_killed_parent_holds_no_lock(tmp_path):
    with running(FORK, tmp_path) as parent:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        with held(tmp_path, wait=False):
            pass


def test_waiting_thread_gets_the_lock_when_it_is_released(tmp_path):
    order = []

    def wait() -> None:
        with held(tmp_path):
            order.append("waited")

    with held(tmp_path):
        thread = threading.Thread(target=wait)
        thread.start()
        thread.join(0.1)
        order.append("first")
    thread.join(PATIENCE)
    assert order == ["first", "waited"]


def test_folder_is_created_and_its_lock_is_released_after_an_error(tmp_path):
    folder = tmp_path / "new" / "folder"
    with pytest.raises(ZeroDivisionError), held(folder):
        _ = 1 / len(names(folder)[1:])
    with held(folder, wait=False):
        pass


def test_thread_that_locks_a_folder_twice_gets_an_error(tmp_path):
    with held(tmp_path), pytest.raises(RuntimeError, match="already held"), held(tmp_path):
        pass


@pytest.mark.parametrize("content", ["Zürich\n", "Zürich\n".encode()])
def test_file_is_replaced(tmp_path, content):
    path = tmp_path / "new" / "current"
    write_whole(path, "old and longer")
    write_whole(path, content)
    assert path.read_bytes() == "Zürich\n".encode()
    assert names(path.parent) == ["current"]


def test_content_is_synced_before_the_folder(tmp_path, synced):
    write_whole(tmp_path / "new" / "current", "text")
    made, content, name = synced
    assert made == tmp_path  # it holds the name of the new folder
    assert (content.name, content.parent.parent) == ("current", tmp_path / "new")
    assert content.parent.name.startswith(".tmp-")
    assert name == tmp_path / "new"


def test_content_is_synced_before_it_is_renamed(tmp_path, monkeypatch):
    path = tmp_path / "current"
    write_whole(path, "old")
    seen = []
    to_disk = local.to_disk

    def looking(synced: Path) -> None:
        seen.append((synced.is_dir(), path.read_text()))
        to_disk(synced)

    monkeypatch.setattr(local, "to_disk", looking)
    write_whole(path, "new")
    assert seen == [(False, "old"), (True, "new")]


def test_writer_killed_before_renaming_leaves_the_old_file_and_the_next_writer_cleans_up(tmp_path):
    path = tmp_path / "current"
    path.write_text("old")
    killed(REPLACE, tmp_path)
    assert path.read_text() == "old"
    assert len(scratch_names(tmp_path)) == 2  # the scratch folder and its lock
    write_whole(path, "next")
    assert (path.read_text(), names(tmp_path)) == ("next", ["current"])


def refuse(*_: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("call", ["fsync", "mkdir", "rename"])
def test_full_disk_leaves_the_old_file_and_no_scratch_folder(tmp_path, monkeypatch, call):
    path = tmp_path / "current"
    path.write_text("old")
    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, "new")
    assert (path.read_text(), names(tmp_path)) == ("old", ["current"])


def test_write_stopped_by_a_file_size_limit_leaves_the_old_file_and_no_scratch_folder(tmp_path):
    path = tmp_path / "current"
    path.write_text("old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))  # Python ignores SIGXFSZ: write raises EFBIG
    try:
        with pytest.raises(OSError, match="File too large"):
            write_whole(path, "x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (path.read_text(), names(tmp_path)) == ("old", ["current"])


def test_concurrent_writers_of_one_file_leave_one_of_their_texts_and_no_scratch_folder(tmp_path):
    path = tmp_path / "current"
    texts = [str(number) * 100_000 for number in range(4)]
    threads = [threading.Thread(target=write_whole, args=(path, text)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() in texts
    assert names(tmp_path) == ["current"]


def test_scratch_folder_is_new_and_empty_and_removed_at_the_end(tmp_path):
    parent = tmp_path / "new"
    with scratch_folder(parent) as first, scratch_folder(parent) as second:
        assert first != second
        assert (names(first), names(second)) == ([], [])
        assert (first.parent, second.parent) == (parent, parent)
        (first / "half").write_text("ha")
    assert names(parent) == []


def test_scratch_folder_of_a_failing_writer_is_removed(tmp_path):
    with pytest.raises(FileNotFoundError), scratch_folder(tmp_path) as scratch:
        put_in_place(scratch / "never written", tmp_path / "part")
    assert names(tmp_path) == []


def cleans_by_itself(parent: Path) -> None:
    with scratch_folder(parent):
        pass


@pytest.mark.parametrize("clean", [remove_leftovers, cleans_by_itself])
def test_scratch_folders_of_killed_processes_are_removed_and_those_of_running_ones_stay(
    tmp_path, clean: Callable[[Path], None]
):
    killed(WRITE, tmp_path)
    dead = scratch_names(tmp_path)
    with running(WRITE, tmp_path), scratch_folder(tmp_path) as own:
        left = scratch_names(tmp_path)
        assert len(dead) == 2
        assert not set(dead) & set(left)  # the other process removed it as it began
        clean(tmp_path)
        assert scratch_names(tmp_path) == left
        assert own.is_dir()
        assert len(list(tmp_path.glob("*/half"))) == 1
    clean(tmp_path)
    assert names(tmp_path) == []


@pytest.mark.parametrize("left", ["folder", "lock"])
def test_scratch_folder_without_a_lock_and_lock_without_a_folder_are_removed(tmp_path, left):
    path = tmp_path / f".tmp-{'0' * 16}"
    path.mkdir() if left == "folder" else path.with_name(f"{path.name}.lock").touch()
    remove_leftovers(tmp_path)
    assert names(tmp_path) == []


def test_folders_with_similar_names_stay(tmp_path):
    for name in (".tmp-of-theirs", f".tmp-{'0' * 17}", f"x.tmp-{'0' * 16}"):
        (tmp_path / name).mkdir()
    before = names(tmp_path)
    remove_leftovers(tmp_path)
    assert names(tmp_path) == before


def test_folder_is_synced_with_its_content_before_it_is_renamed(tmp_path, synced):
    with scratch_folder(tmp_path) as scratch:
        (scratch / "part" / "day").mkdir(parents=True)
        (scratch / "part" / "day" / "rows").write_text("rows")
        synced.clear()
        put_in_place(scratch / "part", tmp_path / "tables" / "part")
    assert (tmp_path / "tables/part/day/rows").read_text() == "rows"
    tree, (made, name) = synced[:3], synced[3:]
    assert {path.relative_to(scratch).as_posix() for path in tree} == {"part", "part/day", "part/day/rows"}
    assert (made, name) == (tmp_path, tmp_path / "tables")


def test_scratch_folder_itself_can_be_put_in_place(tmp_path):
    with scratch_folder(tmp_path) as scratch:
        (scratch / "rows").write_text("rows")
        put_in_place(scratch, tmp_path / "part")
    assert names(tmp_path) == ["part"]
    assert names(tmp_path / "part") == ["rows"]


def test_existing_folder_is_not_replaced(tmp_path):
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "rows").write_text("old")
    with scratch_folder(tmp_path) as scratch:
        (scratch / "rows").write_text("new")
        with pytest.raises(OSError, match="not empty"):
            put_in_place(scratch, tmp_path / "part")
    assert names(tmp_path) == ["part"]
    assert (tmp_path / "part" / "rows").read_text() == "old"


def test_folder_is_hidden_before_any_of_its_content_is_removed(tmp_path, monkeypatch):
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "rows").write_text("old")
    with monkeypatch.context() as patch:
        patch.setattr(local.shutil, "rmtree", lambda *_, **__: None)  # killed here
        remove_folder(tmp_path / "part")
    (gone,) = tmp_path.iterdir()
    assert (gone / "rows").read_text() == "old"
    remove_leftovers(tmp_path)
    assert names(tmp_path) == []


def test_removing_an_absent_folder_does_nothing(tmp_path):
    (tmp_path / "part" / "day").mkdir(parents=True)
    remove_folder(tmp_path / "part")
    remove_folder(tmp_path / "part")
    assert names(tmp_path) == []


def test_path_and_tree_are_synced(tmp_path, synced):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_text("")
    to_disk(tmp_path)
    assert synced == [tmp_path]
    tree_to_disk(tmp_path)
    assert set(synced[1:]) == {tmp_path, tmp_path / "a", tmp_path / "a" / "b"}
    assert len(synced) == 4


@pytest.mark.parametrize("before", [None, b"", b"abc", b"x" * 20_000])
def test_reserved_file_has_its_place_on_the_disk_and_keeps_its_content(tmp_path, before):
    path = tmp_path / "file"
    if before is not None:
        path.write_bytes(before)
    local.reserve(path, 10_000)
    content = path.read_bytes()
    assert content == (before or b"") + bytes(max(0, 10_000 - len(before or b"")))
    assert path.stat().st_blocks * 512 >= len(content)


def test_sparse_file_is_given_its_place(tmp_path):
    path = tmp_path / "file"
    path.touch()
    os.truncate(path, 1 << 20)
    local.reserve(path, 1 << 20)
    assert path.stat().st_blocks * 512 >= 1 << 20
