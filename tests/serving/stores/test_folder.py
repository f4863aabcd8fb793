import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from recsys.errors import SnapshotError, StoreError
from recsys.snapshot import store as snapshot_store
from serving.stores.base import Store
from serving.stores.folder import FolderStore
from tests.helpers.store_contract import NOON, StoreContract, withdrawn


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


@pytest.mark.parametrize("content", [b"", b"[{", b'{"sale_id": 1}', b'[{"sale_id": "a"}]', b"\xff"])
def test_damaged_list_of_withdrawn_sales_is_an_error_that_names_the_file(store, shop, reopened, content):
    store.withdraw(withdrawn("a"))
    (shop.root.parent / "serving" / "withdrawn.json").write_bytes(content)
    with pytest.raises(StoreError, match=r"(?s)withdrawn\.json cannot be read .*: correct or remove it"):
        store.poll()
    assert store.withdrawn() == {"a": withdrawn("a")}  # the last ones that could be read
    with pytest.raises(StoreError, match="correct or remove it"):
        reopened().withdrawn()


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
