import ast

from recsys.pipeline import table_reference
from recsys.tables.night import BOOLEAN, STRING, Column, Table
from tests.helpers.paths import ROOT

PAGE = ROOT / table_reference.PAGE


def test_page_says_what_the_definitions_say():
    assert PAGE.read_text() == table_reference.reference(), "run python -m recsys.pipeline.table_reference"


def test_every_table_is_on_the_page():
    files = [path.read_text() for path in (ROOT / "recsys/tables").glob("*.py")]
    calls = [call for text in files for call in ast.walk(ast.parse(text)) if isinstance(call, ast.Call)]
    names = {call.args[0].value for call in calls if getattr(call.func, "id", "") == "Table"}
    assert len(names) > 20
    assert names == {table.name for group in table_reference.GROUPS for table in group.tables}


def test_every_column_has_a_meaning_that_is_a_sentence():
    tables = [table for group in table_reference.GROUPS for table in group.tables]
    meanings = [column.meaning for table in tables for column in table.described.values()]
    assert [meaning for meaning in meanings if not meaning.endswith(".")] == []


def test_table_has_its_grain_columns_and_further_columns(monkeypatch):
    drawn = {"user_id": Column(STRING, "Who."), "won": Column(BOOLEAN, "Whether.")}
    table = Table("draws", "one row per draw", drawn, optional=("won",), further="One per prize.")
    monkeypatch.setattr(table_reference, "GROUPS", (table_reference.Group("Lottery", "Weekly.", (table,)),))
    assert """## Lottery

Weekly.

### draws

One row per draw.

| column | type | meaning |
|---|---|---|
| `user_id` | string | Who. |
| `won` | boolean | Whether. May be missing from a source. |

Further columns: One per prize.
""" in table_reference.reference()
