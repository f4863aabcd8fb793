"""The log of champions: its content after crashes, and the champion at an instant."""

import json
import threading
from datetime import UTC, datetime, timedelta

import pytest

from recsys.errors import BusyError, StoreError
from recsys.registry.log import Change, Evidence, ModelLog
from recsys.storage.places import contents, files_in, put, sizes_below

DAY_0 = datetime(2026, 3, 1, tzinfo=UTC)


def day(number: float) -> datetime:
    return DAY_0 + timedelta(days=number)


def change(after: str, at: float, action: str = "promote", before: str | None = None, model: str = "ranker") -> Change:
    return Change(
        id=f"{model}-{after}-{at}", model=model, at=day(at), action=action, by="ann", why="", before=before, after=after
    )


@pytest.fixture
def log(folder) -> ModelLog:
    return ModelLog(folder, "ranker")


def made(log: ModelLog, *changes: Change) -> None:
    for each in changes:
        log.begin(each)
        log.end(each, each.at, "done")


def test_log_is_empty_before_the_first_change(log, folder):
    assert (log.changes(), log.unfinished_change(), log.live_at(day(1)), log.rollback_targets()) == ([], None, None, [])
    assert sizes_below(folder) == {}


def test_entry_has_time_author_reason_both_versions_evidence_and_force(log, folder):
    evidence = Evidence(run_id="r1", first_day="2026-03-01", last_day="2026-03-07", value=0.02, low=0.01, high=0.03)
    said = change("6", 0).model_copy(
        update={"before": "5", "why": "better photos", "evidence": evidence, "forced": True}
    )
    made(log, said)
    assert log.changes() == [said]
    entry, end = map(json.loads, contents(files_in(folder / "models/log")))
    assert entry == {
        "id": said.id,
        "model": "ranker",
        "at": "2026-03-01T00:00:00Z",
        "action": "promote",
        "by": "ann",
        "why": "better photos",
        "from": "5",
        "to": "6",
        "evidence": {
            "run_id": "r1",
            "first_day": "2026-03-01",
            "last_day": "2026-03-07",
            "value": 0.02,
            "low": 0.01,
            "high": 0.03,
        },
        "forced": True,
    }
    assert end == {"ends": said.id, "at": "2026-03-01T00:00:00Z", "outcome": "done"}


def test_change_is_listed_only_after_it_is_done(log):
    first = change("1", 0, "first")
    log.begin(first)
    assert (log.changes(), log.unfinished_change()) == ([], first)
    log.end(first, day(0), "done")
    assert (log.changes(), log.unfinished_change()) == ([first], None)


def test_abandoned_change_is_not_listed(log):
    made(log, change("1", 0, "first"))
    given_up = change("2", 1)
    log.begin(given_up)
    log.end(given_up, day(2), "abandoned")
    assert [each.after for each in log.changes()] == ["1"]
    assert log.live_at(day(3)).after == "1"


@pytest.mark.parametrize(
    ("at", "live"), [(-0.001, None), (0, "1"), (0.999, "1"), (1, "2"), (2.5, "1"), (3, "3"), (99, "3")]
)
def test_version_live_at_an_instant_is_that_of_the_last_change_at_or_before_it(log, at, live):
    made(log, change("1", 0, "first"), change("2", 1), change("1", 2, "rollback"), change("3", 3))
    found = log.live_at(day(at))
    assert (found.after if found else None) == live


@pytest.mark.parametrize(
    ("steps", "may_go_to"),
    [
        ([("first", "1")], []),
        ([("first", "1"), ("promote", "2")], ["1"]),
        ([("first", "1"), ("promote", "2"), ("promote", "3")], ["2", "1"]),
        ([("first", "1"), ("promote", "2"), ("rollback", "1")], []),
        ([("first", "1"), ("promote", "2"), ("promote", "3"), ("rollback", "2")], ["1"]),
        ([("first", "1"), ("promote", "2"), ("rollback", "1"), ("promote", "3")], ["1"]),
        ([("first", "1"), ("promote", "2"), ("promote", "1")], ["2"]),
        ([("first", "1"), ("promote", "2"), ("promote", "3"), ("rollback", "1")], []),  # 2 was rolled back
        ([("found", "4"), ("promote", "2")], ["4"]),
    ],
)
def test_rollback_goes_to_the_previous_champion_and_the_next_one_further_back(log, steps, may_go_to):
    made(log, *(change(after, at, action) for at, (action, after) in enumerate(steps)))
    assert log.rollback_targets() == may_go_to


def test_changes_of_other_models_are_ignored(log, folder):
    made(log, change("1", 0, "first"))
    other = ModelLog(folder, "other")
    made(other, change("7", 1, "first", model="other"))
    other.begin(change("8", 2, model="other"))
    assert [each.after for each in log.changes()] == ["1"]
    assert log.unfinished_change() is None
    assert log.live_at(day(9)).after == "1"


def test_entries_are_never_changed(log, folder):
    before: dict[str, bytes] = {}
    for number in range(4):
        made(log, change(str(number), number))
        files = files_in(folder / "models/log")
        found = dict(zip([file.name for file in files], contents(files), strict=True))
        assert len(found) == 2 * number + 2
        assert before.items() <= found.items()
        before = found


def test_of_two_who_write_the_same_entry_the_second_is_told(log, folder, monkeypatch):
    made(log, change("1", 0, "first"))
    before = files_in(folder / "models/log")
    log.begin(change("2", 1))
    monkeypatch.setattr("recsys.registry.log.files_in", lambda *_: before)  # as it was before the other one wrote
    with pytest.raises(BusyError, match=r"another process changed the champion just now .*: run the command again"):
        log.begin(change("3", 1))


@pytest.mark.parametrize("content", ["no json", "{}", '{"ends": "x"}', '{"id": "x", "to": "1"}'])
def test_damaged_entry_is_named(log, folder, content):
    made(log, change("1", 0, "first"))
    put(folder / "models/log/00000003.json", content)
    with pytest.raises(StoreError, match=r"00000003.json == .*, must be JSON of a change or its end"):
        log.changes()


def test_lock_lets_one_change_at_a_time(log, folder):
    with log.locked():
        begun = threading.Event()

        def change_too() -> None:
            begun.set()
            with ModelLog(folder, "ranker").locked():
                made(log, change("2", 1))

        thread = threading.Thread(target=change_too)
        thread.start()
        begun.wait()
        made(log, change("1", 0, "first"))
        assert [each.after for each in log.changes()] == ["1"]
    thread.join()
    assert [each.after for each in log.changes()] == ["1", "2"]


@pytest.mark.parametrize(("low", "is_better"), [(1e-9, True), (0.0, False), (-0.01, False)])
def test_version_is_better_if_the_confidence_interval_is_above_zero(low, is_better):
    evidence = Evidence(run_id="r", first_day="a", last_day="b", value=0.1, low=low, high=0.2)
    assert evidence.is_better == is_better
