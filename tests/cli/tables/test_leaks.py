from io import StringIO

import pytest

from cli.tables.leaks import print_leaks
from recsys.console import TextConsole

EXAMPLE = {"as_of": "2026-02-24T00:00:00Z", "user_id": "u[1]", "sale_id": "c", "before": 2.0, "after": 3.5}
RESULT = {
    "window": {"users": {"20260224T000000Z": 1_200, "20260227T000000Z": 1}, "tolerance": 1e-05, "note": "Mind this."},
    "features": [
        {"feature": "popularity", "world": "changed", "compared": 9_000, "moved": 0, "largest": 2e-7, "example": None},
        {"feature": "popularity", "world": "deleted", "compared": 9_000, "moved": 0, "largest": 0.0, "example": None},
        {"feature": "own_visits", "world": "changed", "compared": 9_000, "moved": 0, "largest": 0.0, "example": None},
        {
            "feature": "own_visits",
            "world": "deleted",
            "compared": 9_000,
            "moved": 1_234,
            "largest": 1.5,
            "example": EXAMPLE,
        },
    ],
    "warnings": ["closes_at is [the last] event"],
}


@pytest.fixture
def lines() -> list[str]:
    console = TextConsole(file=StringIO(), width=140)
    print_leaks(RESULT, console)
    return [" ".join(line.split()) for line in console.file.getvalue().splitlines()]


def test_row_of_a_feature_has_its_values_those_that_differ_in_each_world_and_the_largest_difference(lines):
    assert "feature values differ: changed differ: deleted largest difference" in lines
    assert "popularity 9,000 0 0 2e-07" in lines
    assert "own_visits 9,000 0 1,234 1.5" in lines


def test_warnings_are_printed_as_they_are(lines):
    assert "Warning: closes_at is [the last] event" in lines


def test_instants_tolerance_and_note_are_printed(lines):
    assert lines[0].startswith("Features as of 20260224T000000Z (1,200 users), 20260227T000000Z (1 user), recomputed")
    assert any(
        line.startswith("Values differ if the difference (above 1, the relative one) is more than 1e-05")
        for line in lines
    )
    assert lines[-1] == "Note: Mind this."


def test_only_a_feature_that_differs_has_an_example_without_markup(lines):
    examples = [line for line in lines if "became" in line]
    assert examples == ["own_visits, deleted: as of 2026-02-24T00:00:00Z for user u[1] and sale c 2 became 3.5"]


def test_missing_value_is_printed_as_nothing():
    console = TextConsole(file=StringIO(), width=140)
    rows = [{**RESULT["features"][-1], "example": {**EXAMPLE, "after": None}}]
    print_leaks({**RESULT, "features": rows}, console)
    assert "2 became nothing" in console.file.getvalue()
