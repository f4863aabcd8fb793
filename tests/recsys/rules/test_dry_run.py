from io import StringIO

import pytest

from cli.tables.rules import print_trial
from recsys.console import TextConsole
from recsys.rules import ArrangedPage, compare, summed_up
from recsys.rules.dry_run import PositionChange

SALE_IDS = ["s-0", "s-1", "s-2", "s-3"]


def page(sales: list[int], rules: list[str | None], *notes: str) -> ArrangedPage:
    return ArrangedPage(sales, rules, sorted({rule for rule in rules if rule}), list(notes))


def test_comparison_lists_the_positions_that_changed_with_their_rules():
    change = compare("u", [0, 1, 2], page([0, 3, 1], [None, "pin", None]), SALE_IDS)
    assert change.places == (PositionChange(2, "s-1", "s-3", "pin"), PositionChange(3, "s-2", "s-1", None))
    assert (change.entered, change.left, change.applied) == (("s-3",), ("s-2",), ("pin",))


def test_page_that_rules_do_not_change_has_no_changes():
    change = compare("u", [2, 0], page([2, 0], ["pin", None]), SALE_IDS)
    assert (change.places, change.entered, change.left) == ((), (), ())


def test_positions_that_stay_empty_count_as_changed():
    change = compare("u", [0, 1, 2], page([2], [None], "Rule 'f' hides 2 sales."), SALE_IDS)
    assert change.places == (
        PositionChange(1, "s-0", "s-2", None),
        PositionChange(2, "s-1", None, None),
        PositionChange(3, "s-2", None, None),
    )
    assert (change.left, change.notes) == (("s-0", "s-1"), ("Rule 'f' hides 2 sales.",))
    assert compare("u", [], page([1], ["pin"]), SALE_IDS).places == (PositionChange(1, None, "s-1", "pin"),)


def trial():
    return summed_up(
        [
            compare("ann", [0, 1], page([3, 0], ["pin", None]), SALE_IDS),
            compare("bob", [1, 2], page([3, 2], ["pin", "fresh"], "Rule 'q' is not met."), SALE_IDS),
            compare("cy", [3, 0], page([3, 0], ["pin", None], "Rule 'q' is not met."), SALE_IDS),
            compare("", [0, 2], page([2, 0], ["fresh", None]), SALE_IDS),
        ]
    )


def test_trial_counts_pages_rules_sales_and_notes():
    assert (trial().pages, len(trial().changed), trial().changed_share) == (4, 3, 3 / 4)
    assert list(trial().rules.items()) == [("pin", 3), ("fresh", 2)]
    assert trial().entered == {"s-3": 2}
    assert list(trial().left.items()) == [("s-1", 2)]
    assert trial().notes == {"Rule 'q' is not met.": 2}


def test_trial_without_pages_has_no_changes():
    assert (summed_up([]).changed_share, summed_up([]).rules) == (0.0, {})


@pytest.fixture
def console() -> TextConsole:
    return TextConsole(file=StringIO(), width=100)


def test_trial_is_printed_with_its_counts_and_the_first_pages(console):
    print_trial(trial(), console, shown_pages=2)
    lines = [" ".join(line.split()) for line in console.file.getvalue().splitlines()]
    assert lines[0] == "4 pages, 3 changed by rules (75.0%)"
    for line in [
        "pin 3 75.0%",
        "fresh 2 50.0%",
        "s-3 2 50.0%",
        "Rule 'q' is not met. 2 50.0%",
        "1 s-0 s-3 pin",
        "2 s-1 s-0 –",
    ]:
        assert line in lines
    assert "ann" in lines
    assert "bob" in lines
    assert "anonymous" not in lines


def test_trial_without_changes_is_printed_in_one_line(console):
    print_trial(summed_up([compare("u", [0], page([0], [None]), SALE_IDS)]), console)
    assert console.file.getvalue() == "1 page, 0 changed by rules (0.0%)\n"


def test_markup_in_names_is_printed_literally(console):
    print_trial(summed_up([compare("[b]u[/b]", [0], page([1], ["pin"]), ["[red]a", "[x]"])]), console)
    for text in ("[b]u[/b]", "[red]a", "[x]"):
        assert text in console.file.getvalue()
