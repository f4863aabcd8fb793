import io

from cli.tables.raw_rows import print_raw_rows
from recsys.console import TextConsole
from recsys.pipeline.raw_rows import RawRows


def printed(*tables: RawRows) -> str:
    console = TextConsole(file=io.StringIO(), width=160)
    print_raw_rows(tables, console)
    return console.file.getvalue()


def test_values_are_text_with_visible_control_characters_and_long_ones_are_cut():
    title = "[red]two\nlines[/red] \x1b[2J"
    text = printed(RawRows("raw_sales", [("title", "string"), ("price", "string")], [(title, "x" * 61), ("b", None)]))
    assert [row.split() for row in text.splitlines()[:2]] == [
        ["raw_sales,", "2", "rows", "as", "read"],
        ["column", "type", "row", "1", "row", "2"],
    ]
    assert r"[red]two\nlines[/red] \x1b[2J" in text
    assert f"{'x' * 59}… " in text
    assert "null" in text.splitlines()[3]


def test_of_a_wide_table_the_first_40_columns_are_printed():
    columns = [(f"c{number}", "int") for number in range(42)]
    text = printed(RawRows("wide", columns, [("1",) * 42]))
    assert "c39" in text
    assert "c40" not in text
    assert "… 2 more columns" in text
