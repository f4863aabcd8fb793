from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recsys.erasure import snapshots
from recsys.erasure.snapshots import erase_from_snapshots
from recsys.errors import SnapshotError
from recsys.snapshot import store
from recsys.snapshot.format import Snapshot
from recsys.snapshot.publishing import Publisher
from recsys.snapshot.refreshed import write_refreshed
from tests.helpers.snapshots import ANN, AS_OF, BOB, CONTENTS, EVE, batch, with_histories, write

USERS = ("ann", "bob", "eve")


def content_of(snapshot: Snapshot) -> dict:
    """Everything that a snapshot says of each of its users."""
    content = {}
    for name in USERS:
        user = snapshot.users.find(name)
        if user is not None:
            rankings = [list(user.places(policy)) for policy in snapshot.policies]
            content[name] = rankings, [values.tolist() for values in user.history()]
    return content


def published(root: Path) -> str:
    histories = {"sales": [[7, 9], [1]], "ages": [[60, 1], [5]], "purchases": [[False, True], [False]]}
    name = write(root, with_histories(batch(ANN, BOB), **histories), batch(EVE)).name
    store.publish(root, name, AS_OF)
    return name


@pytest.mark.parametrize("erased", USERS)
def test_snapshot_without_a_user_says_the_same_of_all_others(tmp_path, erased):
    before = Snapshot.open(tmp_path / published(tmp_path))
    said = content_of(before)
    (name,) = erase_from_snapshots(Publisher(tmp_path), erased)
    after = Snapshot.open(tmp_path / name)
    assert content_of(after) == {user: content for user, content in said.items() if user != erased}
    assert (after.manifest.n_users, before.manifest.n_users) == (2, 3)
    assert after.manifest.n_visits == 2 - {"ann": 1, "bob": 1, "eve": 0}[erased]
    assert (store.current(tmp_path), store.names(tmp_path)) == (name, [name])
    assert [publication.name for publication in store.publications(tmp_path)] == [name]
    assert erased.encode() not in (tmp_path / name / "user_ids.bin").read_bytes()
    assert erase_from_snapshots(Publisher(tmp_path), erased) == []


def test_last_user_can_be_erased_and_other_snapshots_stay(tmp_path):
    alone = write(tmp_path, batch(EVE), fingerprint="22222222").name
    others = write(tmp_path, batch(ANN), fingerprint="33333333").name
    (name,) = erase_from_snapshots(Publisher(tmp_path), "eve")
    assert sorted(store.names(tmp_path)) == sorted([name, others])
    assert name != alone
    snapshot = Snapshot.open(tmp_path / name)
    assert (len(snapshot.users.sample(9)), content_of(snapshot)) == (0, {})


def test_user_is_erased_from_refreshed_snapshots_which_have_users_of_their_own_then(tmp_path):
    night = published(tmp_path)
    contents = replace(CONTENTS, fingerprint="99999999")
    refreshed = write_refreshed(tmp_path, Snapshot.open(tmp_path / night), contents, night, 5)
    store.publish(tmp_path, refreshed, AS_OF)
    erase_from_snapshots(Publisher(tmp_path), "ann")
    for name in store.names(tmp_path):
        snapshot = Snapshot.open(tmp_path / name)
        assert content_of(snapshot).keys() == {"bob", "eve"}
        assert snapshot.manifest.users_of is None
    assert store.refreshes(tmp_path, night) == [1]
    assert store.current(tmp_path) == f"{refreshed}-2"
    again = write_refreshed(tmp_path, snapshot, replace(contents, fingerprint="aaaaaaaa"), night, 5)
    assert again == f"{night}.r0002"
    assert Snapshot.open(tmp_path / again).manifest.users_of == f"{refreshed}-2"


class Killed(BaseException):
    """The process ends."""


@pytest.mark.parametrize("step", ["put_under_free_name", "describe", "replace", "write_whole", "remove_folder"])
def test_killed_at_any_step_there_is_a_whole_snapshot_and_a_second_call_erases(tmp_path, monkeypatch, step):
    published(tmp_path)

    def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(snapshots if step in ("put_under_free_name", "describe") else store, step, kill)
        with pytest.raises(Killed):
            erase_from_snapshots(Publisher(tmp_path), "bob")
    assert {"ann", "eve"} <= content_of(Snapshot.open(tmp_path / store.current(tmp_path))).keys()
    erase_from_snapshots(Publisher(tmp_path), "bob")
    (name,) = store.names(tmp_path)
    assert store.current(tmp_path) == name
    assert content_of(Snapshot.open(tmp_path / name)).keys() == {"ann", "eve"}


def test_damaged_snapshot_is_named(tmp_path):
    name = published(tmp_path)
    (tmp_path / name / "manifest.json").write_text("{}")
    with pytest.raises(SnapshotError, match=f"{name}.*; or remove .*{name}, and erase the user again"):
        erase_from_snapshots(Publisher(tmp_path), "bob")


def test_user_of_many_is_erased_wherever_the_row_is(tmp_path):
    users = [(f"u{number}", [number % 5], [0.5], [0]) for number in range(50)]
    write(tmp_path, batch(*users))
    for number in np.random.default_rng(3).permutation(50)[:12].tolist():
        (name,) = erase_from_snapshots(Publisher(tmp_path), f"u{number}")
        users = [user for user in users if user[0] != f"u{number}"]
        found = Snapshot.open(tmp_path / name).users
        assert {user[0]: [place[0] for place in found.find(user[0]).places("meta")] for user in users} == {
            user[0]: user[1] for user in users
        }
        assert found.find(f"u{number}") is None
