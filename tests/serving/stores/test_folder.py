import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from recsys.errors import SnapshotError, StoreError
from recsys.snapshot import store as snapshot_store
from serving.stores.base import Store
from serving.stores.folder import FolderStore
from tests.helpers.store_contract import NOON, StoreContract, in_force, withdrawn


@pytest.fixture
def reopened(shop) -> Iterator[Callable[[], FolderStore]]:
    with ExitStack() as stack:

        def opened() -> FolderStore:
            store = FolderStore(shop.root, shop.root.parent / "serving", lambda: NOON)
            stack.callback(store.close)
            return store

        yield opened


@pytest.fixture
def store(reopened) -> Store:
    return reopened()


@pytest.fixture
def other(reopened) -> Store:
    return reopened()


@pytest.fixture
def publish(shop) -> Callable[[], str]:
    return lambda: snapshot_store.current(shop.root)


class TestFolderStore(StoreContract):
    """Make a store; only one of those in a process may use sessions, since LMDB opens a file once per process."""


def test_stamp_changes_when_a_damaged_snapshot_is_repaired(store, shop, night):
    name = store.current()
    file = shop.root / name / "sales.json"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    damaged = store.stamp(name)
    with pytest.raises(SnapshotError, match="must have"):
        store.open(name)
    file.write_bytes(whole)
    assert store.stamp(name) != damaged
    assert store.open(name).name == name


@pytest.mark.parametrize("content", [b"", b"[{", b"{}", b'{"sale_id": 1}', b'[{"sale": "a"}]', b"\xff"])
def test_damaged_list_of_withdrawn_sales_is_an_error_that_names_the_file(store, shop, reopened, content):
    store.withdraw(withdrawn("a"))
    (shop.root.parent / "serving" / "withdrawn.json").write_bytes(content)
    with pytest.raises(StoreError, match=r"(?s)withdrawn\.json cannot be read .*: correct it, or restore"):
        store.poll()
    assert store.withdrawn() == {"a": withdrawn("a")}  # the last ones that could be read
    with pytest.raises(StoreError, match="correct it, or restore"):
        reopened().withdrawn()


def test_record_that_cannot_be_read_keeps_its_sale_closed_and_is_kept_until_it_can_be_read(store, shop, reopened):
    store.withdraw(withdrawn("a", closed=False))
    file = shop.root.parent / "serving" / "withdrawn.json"
    whole = json.loads(file.read_text())
    file.write_text(json.dumps([{"sale_id": "b", "closed": "perhaps"}, *whole]))
    started = reopened()
    for each in (started, store):
        with pytest.raises(StoreError, match=r"holds records that cannot be read, of 'b': these sales stay closed"):
            each.poll()
        assert {sale.sale_id: sale.closed for sale in each.withdrawn().values()} == {"a": False, "b": True}
    started.withdraw(withdrawn("c"))
    assert started.withdraw(withdrawn("b", closed=False)).sale.closed  # it may have been closed
    assert '"closed": "perhaps"' in file.read_text()
    file.write_text(file.read_text().replace('"perhaps"', 'false, "since": 5'))
    store.poll()
    assert in_force(store) == {"a": (False, ""), "b": (False, ""), "c": (True, "")}


def test_closed_sales_are_written_back_to_a_file_that_was_removed(store, shop, reopened):
    store.withdraw(withdrawn("a"))
    other = reopened()
    other.poll()
    (shop.root.parent / "serving" / "withdrawn.json").unlink()
    with pytest.raises(
        StoreError, match=r"withdrawn\.json is gone, and 1 changes were made to it: closed sales would open"
    ):
        reopened().poll()  # it cannot know
    other.poll()
    started = reopened()
    started.poll()
    assert in_force(started) == in_force(store) == {"a": (True, "")}


def test_change_that_a_killed_process_did_not_announce_is_seen_at_the_next_poll(store, other, shop, monkeypatch):
    other.poll()
    version = other.version()
    monkeypatch.setattr(store._changes, "increase", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        store.withdraw(withdrawn("a"))
    assert other.version() == version
    other.poll()
    assert other.version() != version
    assert in_force(other) == {"a": (True, "")}


def test_process_that_knows_of_a_change_and_cannot_read_it_gives_no_answer(store, other, monkeypatch):
    assert other.withdrawn() == {}
    store.withdraw(withdrawn("a"))

    def too_many_files(*_: object) -> bytes:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", too_many_files)
        with pytest.raises(StoreError, match="Too many open files"):
            other.withdrawn()
        with pytest.raises(StoreError):
            other.poll()
    assert in_force(other) == {"a": (True, "")}


def test_disk_that_cannot_be_written_is_an_error_and_changes_nothing(store, shop, monkeypatch):
    store.withdraw(withdrawn("a"))
    version = store.version()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("recsys.storage.local.os.fsync", full)
        with pytest.raises(StoreError, match=r"withdrawn\.json cannot be written \(No space left on device\)"):
            store.withdraw(withdrawn("b"))
    assert store.withdrawn() == {"a": withdrawn("a")}
    assert store.version() == version


CLOSE_MANY = """
import sys
from pathlib import Path
from serving.stores.base import WithdrawnSale
from serving.stores.folder import FolderStore
store = FolderStore(Path("none"), Path(sys.argv[1]), lambda: 0)
for number in range(50):
    store.withdraw(WithdrawnSale(sale_id=f"{sys.argv[2]}-{number}", closed=True, since=0))
"""


def test_processes_that_close_sales_at_the_same_time_lose_none(store, shop, own_environment):
    command = [sys.executable, "-c", CLOSE_MANY, str(shop.root.parent / "serving")]
    writers = [subprocess.Popen([*command, name], env=own_environment) for name in "ab"]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    assert len(store.withdrawn()) == 100
    assert store.version() == 100
