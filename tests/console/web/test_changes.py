"""The log of changes: what was begun is there whatever happens, and nothing is replaced."""

from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest

from console.web.changes import Change, Changes, End
from console.web.people import Role, Visitor

ANN = Visitor("ann", Role.STAFF)


@pytest.fixture
def changes(tmp_path: Path) -> Changes:
    hours = count()
    return Changes(tmp_path, lambda: datetime(2026, 3, 1, tzinfo=UTC) + timedelta(hours=next(hours)))


def made(changes: Changes, what: str) -> None:
    with changes.logged(ANN, "hide sale", what, "because", "open") as ended:
        ended("hidden")


def test_change_is_logged_before_it_is_made_and_its_end_after(changes):
    with changes.logged(ANN, "hide sale", "s1", "because", "open") as ended:
        ((_, begun, end),) = changes.newest(10)
        assert (begun.by, begun.role, begun.what, begun.before, end) == ("ann", "staff", "s1", "open", None)
        ended("hidden")
    ((_, change, end),) = changes.newest(10)
    assert change == begun
    assert (end.after, end.error) == ("hidden", "")


def test_change_that_fails_says_why(changes):
    with pytest.raises(ValueError, match="refused"), changes.logged(ANN, "hide sale", "s1", "because", "open"):
        raise ValueError("refused")
    assert changes.newest(1)[0][2].error == "refused"


def test_changes_are_the_newest_first_and_older_ones_follow_a_key(changes):
    for number in range(5):
        made(changes, f"s{number}")
    newest = changes.newest(2)
    assert [change.what for _, change, _ in newest] == ["s4", "s3"]
    assert [change.what for _, change, _ in changes.newest(9, newest[-1][0])] == ["s2", "s1", "s0"]


def test_damaged_file_hides_no_other_change(changes, tmp_path):
    made(changes, "s0")
    made(changes, "s1")
    files = (tmp_path / "console" / "changes").iterdir()
    first = min(file for file in files if not file.name.endswith("-ended.json"))
    first.write_text("{")
    assert [type(change) for _, change, _ in changes.newest(9)] == [Change, type(None)]
    assert all(isinstance(end, End) for _, _, end in changes.newest(9))


def test_nothing_is_done_that_cannot_be_logged(changes, tmp_path):
    (tmp_path / "console").write_text("no folder")
    with pytest.raises(OSError, match="console"), changes.logged(ANN, "hide sale", "s1", "because", "open"):
        raise AssertionError("it was begun")
