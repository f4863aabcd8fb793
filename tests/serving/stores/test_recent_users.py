import errno
import os
from pathlib import Path

import pytest

from recsys.errors import StoreError
from recsys.instants import SECOND
from serving.stores.recent_users import RecentUsers


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "sessions" / "recent_users"


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_user_may_have_events_up_to_the_latest_one(path):
    users = RecentUsers(path)
    users.note(b"ann", 10 * SECOND)
    users.note(b"ann", 7 * SECOND)
    assert users.may_have_events(b"ann", 10 * SECOND)
    assert not users.may_have_events(b"ann", 11 * SECOND)
    assert not users.may_have_events(b"bob", 0)
    assert RecentUsers(path).may_have_events(b"ann", 10 * SECOND)  # as another process sees it
    users.close()


def test_table_has_its_place_on_the_disk(path):
    RecentUsers(path).close()
    assert path.stat().st_blocks * 512 >= path.stat().st_size == 4 << 20


def test_sparse_table_of_an_earlier_version_gets_its_place_and_keeps_its_content(path):
    path.parent.mkdir()
    users = RecentUsers(path)
    users.note(b"ann", 10 * SECOND)
    users.close()
    content = path.read_bytes()
    path.unlink()
    with path.open("wb") as file:
        os.truncate(path, len(content))
        at = content.index((11).to_bytes(4, "little"))
        file.seek(at)
        file.write(content[at : at + 4])
    assert RecentUsers(path).may_have_events(b"ann", 10 * SECOND)
    assert path.stat().st_blocks * 512 >= 4 << 20


def test_on_a_full_disk_every_user_may_have_events_and_none_is_noted_until_there_is_room(path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        users = RecentUsers(path)
        assert users.may_have_events(b"ann", 10 * SECOND)
        with pytest.raises(StoreError, match=r"recent_users cannot be written \(No space left on device\): make room"):
            users.note(b"ann", 10 * SECOND)
    users.note(b"ann", 10 * SECOND)
    assert users.may_have_events(b"ann", 10 * SECOND)
    assert not users.may_have_events(b"bob", 0)
