"""The log of champions: its content after crashes, and the champion at an instant."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from recsys.errors import StoreError
from recsys.registry.log import Change, Evidence, ModelLog

DAY_0 = datetime(2026, 3, 1, tzinfo=UTC)


def day(number: float) -> datetime:
    return DAY_0 + timedelta(days=number)


def change(after: str, at: float, action: str = "promote", before: str | None = None, model: str = "ranker") -> Change:
    return Change(
        id=f"{model}-{after}-{at}", model=model, at=day(at), action=action, by="ann", why="", before=before, after=after
    )


@pytest.fixture
def log(tmp_path) -> ModelLog:
    return ModelLog(tmp_path, "ranker")


def made(log: ModelLog, *changes: Change) -> None:
    for each in changes:
        log.begin(each)
        log.end(each, each.at, "done")


def test_log_is_empty_before_the_first_change(log, tmp_path):
    assert (log.changes(), log.unfinished_change(), log.live_at(day(1)), log.rollback_targets()) == ([], None, None, [])
    assert list(tmp_path.iterdir()) == []


def test_line_has_time_author_reason_both_versions_evidence_and_force(log, tmp_path):
    evidence = Evidence(run_id="r1", first_day="2026-03-01", last_day="2026-03-07", value=0.02, low=0.01, high=0.03)
    said = change("6", 0).model_copy(
        update={"before": "5", "why": "better photos", "evidence": evidence, "forced": True}
    )
    made(log, said)
    assert log.changes() == [said]
    line, end = map(json.loads, (tmp_path / "models/log.jsonl").read_text().splitlines())
    assert line == {
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


def test_changes_of_other_models_are_ignored(log, tmp_path):
    made(log, change("1", 0, "first"))
    other = ModelLog(tmp_path, "other")
    made(other, change("7", 1, "first", model="other"))
    other.begin(change("8", 2, model="other"))
    assert [each.after for each in log.changes()] == ["1"]
    assert log.unfinished_change() is None
    assert log.live_at(day(9)).after == "1"


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_partly_written_line_is_ignored_and_the_next_one_is_complete(log, tmp_path, kept):
    path = tmp_path / "models/log.jsonl"
    made(log, change("1", 0, "first"))
    whole = path.read_bytes()
    log.begin(change("2", 1))
    half = path.read_bytes()[len(whole) :]
    path.write_bytes(whole + half[: int(len(half) * kept)])
    assert ([each.after for each in log.changes()], log.unfinished_change()) == (["1"], None)
    made(log, change("3", 2))
    assert [each.after for each in log.changes()] == ["1", "3"]
    assert path.read_bytes().startswith(whole)


def test_log_is_append_only(log, tmp_path):
    path, before = tmp_path / "models/log.jsonl", b""
    for number in range(4):
        made(log, change(str(number), number))
        assert path.read_bytes().startswith(before)
        assert len(before) < len(before := path.read_bytes())


@pytest.mark.parametrize("line", ["no json", "{}", '{"ends": "x"}', '{"id": "x", "to": "1"}'])
def test_damaged_line_is_named(log, tmp_path, line):
    made(log, change("1", 0, "first"))
    with Path(tmp_path / "models/log.jsonl").open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(StoreError, match=r"log.jsonl:3 == .*, must be a JSON line of a change or its end"):
        log.changes()


@pytest.mark.parametrize(("low", "is_better"), [(1e-9, True), (0.0, False), (-0.01, False)])
def test_version_is_better_if_the_confidence_interval_is_above_zero(low, is_better):
    evidence = Evidence(run_id="r", first_day="a", last_day="b", value=0.1, low=low, high=0.2)
    assert evidence.is_better == is_better
