import json
import shutil
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from recsys.errors import BusyError, ConfigurationError, SnapshotError
from recsys.snapshot.format import SnapshotContents, SnapshotSale
from recsys.snapshot.store import (
    current,
    listing,
    prune,
    publications,
    publish,
    refreshed_name,
    refreshes,
    rollback,
)
from recsys.snapshot.writer import write_snapshot

DAY = timedelta(days=1)
MARCH = datetime(2026, 3, 1, tzinfo=UTC)


def write(root: Path, day: int) -> str:
    as_of = MARCH + day * DAY
    contents = SnapshotContents(
        as_of=as_of,
        horizon_end=as_of + 1.5 * DAY,
        sales=[SnapshotSale("a", "Alps", as_of, as_of + DAY)],
        policies=(),
        shared_rankings={"popularity": (np.array([0]), np.array([1.0]), np.array([0]))},
        reasons=("popularity",),
        versions={"home_ranker": str(day)},
        fingerprint="00000000",
    )
    return write_snapshot(root, contents, [pa.record_batch({"user_id": ["ann", "bob"][: 1 + day % 2]})])


def at(day: int) -> datetime:
    return MARCH + day * DAY + timedelta(hours=3)


@pytest.fixture
def names(tmp_path) -> list[str]:
    """Four snapshots, of 1 to 4 March, none published."""
    return [write(tmp_path, day) for day in range(4)]


def test_no_snapshot_is_current_before_the_first_is_published(tmp_path, names):
    assert current(tmp_path) is None
    assert current(tmp_path / "nowhere") is None
    assert listing(tmp_path / "nowhere") == []


def test_published_snapshot_is_current(tmp_path, names):
    publish(tmp_path, names[0], at(0))
    assert current(tmp_path) == names[0]
    publish(tmp_path, names[1], at(1))
    assert current(tmp_path) == names[1]


def test_snapshot_is_published_in_place_of_the_one_it_was_made_from_only(tmp_path, names):
    publish(tmp_path, names[0], at(0))
    publish(tmp_path, names[1], at(1), instead_of=names[0])
    with pytest.raises(BusyError, match=f"{names[1]} took the place of {names[0]} meanwhile, so {names[2]} is not"):
        publish(tmp_path, names[2], at(2), instead_of=names[0])
    publish(tmp_path, names[1], at(3), instead_of=names[0])  # it is the current one already
    assert current(tmp_path) == names[1]


def test_publishing_the_current_one_again_changes_nothing(tmp_path, names):
    publish(tmp_path, names[0], at(0))
    publish(tmp_path, names[1], at(1))
    publish(tmp_path, names[1], at(2))
    assert [publication.name for publication in publications(tmp_path)] == names[:2]
    assert rollback(tmp_path, at(3)) == names[0]


@pytest.mark.parametrize("name", ["20270101T000000Z-00000000", "../elsewhere", ".tmp-1", "", "current"])
def test_publishing_an_unknown_name_is_an_error(tmp_path, names, name):
    publish(tmp_path, names[0], at(0))
    with pytest.raises(SnapshotError):
        publish(tmp_path, name, at(1))
    assert current(tmp_path) == names[0]


def test_publishing_a_truncated_snapshot_is_an_error(tmp_path, names):
    publish(tmp_path, names[0], at(0))
    (tmp_path / names[1] / "user_ids.bin").write_bytes(b"")
    with pytest.raises(SnapshotError, match=r"user_ids.bin has 0 bytes, must have 6"):
        publish(tmp_path, names[1], at(1))
    assert current(tmp_path) == names[0]


def test_rollback_goes_to_the_one_published_before_and_then_further_back(tmp_path, names):
    for day in (2, 0, 1):  # not in the order of as_of
        publish(tmp_path, names[day], at(day))
    assert rollback(tmp_path, at(4)) == names[0]
    assert current(tmp_path) == names[0]
    assert rollback(tmp_path, at(5)) == names[2]
    with pytest.raises(SnapshotError, match=f"no snapshot published before {names[2]}"):
        rollback(tmp_path, at(6))
    assert current(tmp_path) == names[2]


def test_rollback_after_publishing_again_does_not_return_to_what_was_rolled_back(tmp_path, names):
    publish(tmp_path, names[0], at(0))
    publish(tmp_path, names[1], at(1))  # bad
    rollback(tmp_path, at(2))
    publish(tmp_path, names[2], at(3))
    assert rollback(tmp_path, at(4)) == names[0]


def test_rollback_of_a_snapshot_that_was_published_twice_goes_one_step_back(tmp_path, names):
    for day, name in enumerate([names[0], names[1], names[0]]):
        publish(tmp_path, name, at(day))
    assert rollback(tmp_path, at(3)) == names[1]
    assert rollback(tmp_path, at(4)) == names[0]


def test_rollback_skips_snapshots_that_were_removed(tmp_path, names):
    for day in range(3):
        publish(tmp_path, names[day], at(day))
    (tmp_path / names[1]).rename(tmp_path.parent / "elsewhere")
    assert rollback(tmp_path, at(3)) == names[0]


def test_rollback_without_any_publication_is_an_error(tmp_path, names):
    with pytest.raises(SnapshotError, match="no snapshot published before None"):
        rollback(tmp_path, at(0))


def test_publications_have_instant_action_and_name(tmp_path, names):
    publish(tmp_path, names[0], at(0))
    publish(tmp_path, names[1], at(1).astimezone())
    rollback(tmp_path, at(2))
    lines = [json.loads(line) for line in (tmp_path / "published.log").read_text().splitlines()]
    assert lines == [
        {"published_at": "2026-03-01T03:00:00Z", "action": "publish", "name": names[0]},
        {"published_at": "2026-03-02T03:00:00Z", "action": "publish", "name": names[1]},
        {"published_at": "2026-03-03T03:00:00Z", "action": "rollback", "name": names[0]},
    ]


def test_instant_without_zone_is_refused(tmp_path, names):
    with pytest.raises(ConfigurationError, match="has no zone"):
        publish(tmp_path, names[0], datetime(2026, 3, 1))
    assert current(tmp_path) is None


@pytest.mark.parametrize("crash", ["published.log", "current"])
def test_crash_between_log_and_pointer_leaves_a_folder_that_works(tmp_path, names, monkeypatch, crash):
    publish(tmp_path, names[0], at(0))
    publish(tmp_path, names[1], at(1))

    rename = Path.rename

    def killed(path: Path, target: Path) -> Path:
        if target.name == crash:
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            publish(tmp_path, names[2], at(2))
    assert current(tmp_path) == names[1]
    assert rollback(tmp_path, at(3)) == names[0]
    publish(tmp_path, names[2], at(4))
    assert rollback(tmp_path, at(5)) == names[0]


def test_listing_has_the_latest_first_with_the_time_of_publication(tmp_path, names):
    publish(tmp_path, names[2], at(2))
    publish(tmp_path, names[0], at(3))
    found = listing(tmp_path)
    assert [listed.name for listed in found] == names[::-1]
    assert [listed.published_at for listed in found] == [None, at(2), None, at(3)]
    assert [listed.is_current for listed in found] == [False, False, False, True]
    assert [listed.n_users for listed in found] == [2, 1, 2, 1]
    assert [listed.as_of for listed in found] == [MARCH + day * DAY for day in (3, 2, 1, 0)]
    assert found[0].versions == {"home_ranker": "3"}
    assert all(listed.n_bytes and listed.problem is None for listed in found)


def test_listing_has_the_problem_of_a_damaged_snapshot(tmp_path, names):
    (tmp_path / names[1] / "manifest.json").unlink()
    found = {listed.name: listed.problem for listed in listing(tmp_path)}
    assert "manifest.json is missing" in found.pop(names[1])
    assert set(found.values()) == {None}


def test_prune_keeps_the_latest(tmp_path, names):
    publish(tmp_path, names[3], at(3))
    assert prune(tmp_path, keep=2) == names[:2]
    assert [listed.name for listed in listing(tmp_path)] == names[:1:-1]
    assert prune(tmp_path, keep=2) == []


def test_prune_keeps_hours_besides_nights(tmp_path, names):
    publish(tmp_path, names[3], at(3))
    hourly = {name.partition("-")[0] for name in names[1:]}
    assert prune(tmp_path, keep=2, keep_hourly=2, hourly=hourly) == [names[1]]  # 0 is the only night
    assert prune(tmp_path, keep=2, keep_hourly=1, hourly=hourly) == [names[2]]


def test_prune_keeps_the_last_refreshed_snapshot_besides_nights(tmp_path, names):
    refreshed = [refreshed_name(names[3], number) for number in (1, 2, 10)]
    for name in refreshed:
        shutil.copytree(tmp_path / names[3], tmp_path / name)
    publish(tmp_path, names[3], at(3))
    assert refreshes(tmp_path, names[3]) == [1, 2, 10]
    assert refreshes(tmp_path, names[2]) == []
    assert prune(tmp_path, keep=4) == refreshed[:2]
    assert prune(tmp_path, keep=2) == names[:2]


def test_prune_keeps_the_current_one_and_the_one_a_rollback_needs(tmp_path, names):
    publish(tmp_path, names[1], at(1))
    publish(tmp_path, names[0], at(2))
    assert prune(tmp_path, keep=1) == [names[2]]
    assert current(tmp_path) == names[0]
    assert rollback(tmp_path, at(3)) == names[1]


def test_prune_removes_leftovers_of_killed_writers(tmp_path, names):
    left = tmp_path / f".tmp-{'0' * 16}"
    (left / "files").mkdir(parents=True)
    left.with_name(f"{left.name}.lock").touch()
    prune(tmp_path, keep=4)
    assert list(tmp_path.glob(".tmp-*")) == []


def test_prune_keeps_at_least_one(tmp_path, names):
    with pytest.raises(ConfigurationError, match="keep == 0, must be at least 1"):
        prune(tmp_path, keep=0)


def test_pointer_that_holds_no_name_is_an_error(tmp_path, names):
    (tmp_path / "current").write_text("../../etc\n")
    with pytest.raises(SnapshotError, match=r"current == '../../etc', must be a snapshot's name"):
        current(tmp_path)


def test_damaged_line_of_the_history_is_named_by_its_number(tmp_path, names):
    publish(tmp_path, names[0], at(0))
    with (tmp_path / "published.log").open("a") as log:
        log.write('{"published_at"\n')
    with pytest.raises(SnapshotError, match=r"published.log:2 == .* must be a JSON line"):
        listing(tmp_path)


def test_readers_see_one_name_or_the_other_while_it_changes(tmp_path, names):
    publish(tmp_path, names[0], at(0))
    seen, done = set(), threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.add(current(tmp_path))

    reader = threading.Thread(target=read)
    reader.start()
    for day in range(1, 21):
        publish(tmp_path, names[day % 2], at(day))
    done.set()
    reader.join()
    assert seen == {names[0], names[1]}
