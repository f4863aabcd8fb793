"""What people see on a terminal is text, whatever the data holds."""

import io
import logging

import pytest

from recsys.console import TextConsole, TextTable, line, print_error, show_progress, stacked

HOSTILE = "a[red]b[/red]:smile:\x1b[2J\x07\u202ec\nerror: forged"
SHOWN = r"a[red]b[/red]:smile:\x1b[2J\x07\u202ec\nerror: forged"


@pytest.fixture
def console() -> TextConsole:
    """A console of a terminal that understands colours."""
    return TextConsole(file=io.StringIO(), width=200, force_terminal=True, color_system=None)


def printed(console: TextConsole) -> list[str]:
    return [each.rstrip() for each in console.file.getvalue().splitlines()]


def test_each_string_is_one_line_of_text(console):
    console.print(HOSTILE, f"Sale {HOSTILE} is closed.", style="yellow")
    assert printed(console) == [SHOWN, f"Sale {SHOWN} is closed."]


def test_parts_with_a_style_are_text(console):
    console.print(line("Next: ", (HOSTILE, "bold")))
    assert printed(console) == [f"Next: {SHOWN}"]


def test_cells_headers_and_stacked_lines_of_a_table_are_text(console):
    table = TextTable("sale", HOSTILE)
    table.add_row(HOSTILE, stacked([line(HOSTILE), line((HOSTILE, "red"))]), style="dim")
    console.print(table)
    header, first, second = printed(console)
    assert header.split("  ")[-1].strip() == SHOWN
    assert first == f"{SHOWN}  {SHOWN}"
    assert second.strip() == SHOWN


def test_in_a_narrow_terminal_words_are_folded_and_figures_follow_below_uncut(console):
    console.width = 28
    table = TextTable("sale", "users", "visits", "ndcg@10", labels=1)
    table.add_row("a" * 20, "1,234", "56,789", "0.1234 ± 0.0056")
    console.print(table)
    assert printed(console) == [
        "sale           users  visits",
        "aaaaaaaaaaaaa  1,234  56,789",
        "aaaaaaa",
        "sale                 ndcg@10",
        "aaaaaaaaaaa  0.1234 ± 0.0056",
        "aaaaaaaaa",
    ]


def test_error_of_the_disk_names_the_path_the_reason_and_what_to_check(capsys, tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        (tmp_path / "none" / "plan.json").write_text("{}")
    print_error(caught.value)
    path = tmp_path / "none" / "plan.json"
    told = f"error: '{path}': No such file or directory: check the path, who may read and write there, and the disk\n"
    assert capsys.readouterr().err == told


def test_further_lines_of_an_error_are_indented_so_that_a_value_begins_none(capsys):
    print_error(ValueError(f"conf.yaml: 2 wrong:\n  a == {HOSTILE}"))
    assert capsys.readouterr().err.splitlines() == [
        "error: conf.yaml: 2 wrong:",
        r"  a == a[red]b[/red]:smile:\x1b[2J\x07\u202ec",
        "  error: forged",
    ]


def test_progress_message_is_one_line(capsys):
    show_progress()
    logging.getLogger("jobs.test").warning("left out, %s", HOSTILE)
    assert capsys.readouterr().err == f"left out, {SHOWN}\n"
