import logging
import shutil

import pytest

from recsys.errors import SnapshotError
from serving.answers.top_sales import TopSales
from serving.watcher import SnapshotWatcher


@pytest.fixture
def loads() -> list[str]:
    """Names of the snapshots that were made ready, in order."""
    return []


@pytest.fixture
def watcher(shop, loads) -> SnapshotWatcher:
    def prepare(snapshot) -> TopSales:
        loads.append(snapshot.name)
        return TopSales(snapshot)

    return SnapshotWatcher(shop.root, prepare, loaded=lambda: None)


def test_current_snapshot_is_loaded_once(shop, make_sale, watcher, loads):
    name = shop.publish([make_sale("a")], {})
    for _ in range(3):
        watcher.poll()
    assert loads == [name]
    assert watcher.served().snapshot.name == name


def test_rollback_is_followed(shop, make_sale, watcher, loads):
    names = [shop.publish([make_sale("a")], {}, fingerprint=8 * letter) for letter in "ab"]
    for name in (names[1], names[0]):
        shop.point_at(name)
        watcher.poll()
    assert loads == names[::-1]
    assert watcher.served().snapshot.name == names[0]


def test_nothing_is_served_before_the_first_snapshot(watcher):
    watcher.poll()
    with pytest.raises(SnapshotError, match="no snapshot is loaded"):
        watcher.served()


def test_snapshot_that_arrives_after_its_pointer_is_loaded_when_it_is_whole(shop, make_sale, watcher, caplog, tmp_path):
    name = shop.publish([make_sale("a")], {})
    shutil.move(shop.root / name, tmp_path / name)
    watcher.poll()
    (shop.root / name).mkdir()
    shutil.copy(tmp_path / name / "manifest.json", shop.root / name)
    watcher.poll()
    shutil.copytree(tmp_path / name, shop.root / name, dirs_exist_ok=True)
    watcher.poll()
    assert watcher.served().snapshot.name == name
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1


def test_refused_snapshot_is_not_read_again_until_its_files_change(shop, make_sale, watcher, loads, monkeypatch):
    name = shop.publish([make_sale("a")], {})
    reads = []

    def refuse(path):
        reads.append(path)
        raise SnapshotError("bad")

    monkeypatch.setattr("serving.watcher.Snapshot.open", refuse)
    for _ in range(3):
        watcher.poll()
    assert reads == [shop.root / name]
    (shop.root / name / "more").touch()
    watcher.poll()
    assert len(reads) == 2


def test_unexpected_error_is_logged_with_its_trace_and_the_watch_goes_on(shop, make_sale, watcher, monkeypatch, caplog):
    first = shop.publish([make_sale("a")], {})
    watcher.poll()
    shop.publish([make_sale("b")], {}, fingerprint="bbbbbbbb")
    with monkeypatch.context() as patch:
        patch.setattr("serving.watcher.Snapshot.open", lambda _: 1 / 0)
        watcher.poll()
    assert watcher.served().snapshot.name == first
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert record.exc_info[0] is ZeroDivisionError
    third = shop.publish([make_sale("c")], {}, fingerprint="cccccccc")
    watcher.poll()
    assert watcher.served().snapshot.name == third


def test_damaged_pointer_leaves_the_old_snapshot_and_is_logged_once(shop, make_sale, watcher, caplog):
    name = shop.publish([make_sale("a")], {})
    watcher.poll()
    (shop.root / "current").write_text("")
    watcher.poll()
    watcher.poll()
    assert watcher.served().snapshot.name == name
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "must be a snapshot's name" in record.getMessage()
