"""What changed about the columns of raw tables between two nights."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql.types import StructType

from recsys.config.pipeline import RawTable, SourceSettings
from recsys.errors import InputError
from recsys.pipeline import raw_schemas
from recsys.raw_tables.opening import open_raw_table


def schemas(ddl: str) -> dict[str, StructType]:
    return {"lines": StructType.fromDDL(ddl)}


@pytest.fixture
def compare(spark, tmp_path):
    """Compare columns of a folder's files with those of the last night, for an SQL file."""

    def changes_of(before: str, sql: str, format_: str = "parquet", **types: str) -> list[str]:
        (tmp_path / "sql").mkdir(exist_ok=True)
        (tmp_path / "sql/events.sql").write_text(sql)
        table = RawTable(path=str(tmp_path / "lines"), format=format_, types=types)
        raw = {"lines": open_raw_table(spark, "lines", table)}
        found = raw_schemas.changes(schemas(before), raw_schemas.schemas_of(raw))
        settings = SourceSettings(sql=str(tmp_path / "sql"), raw={"lines": table})
        raw_schemas.check_changes(found, settings, raw)
        return [str(each) for each in found]

    (tmp_path / "lines").mkdir()
    return changes_of


def test_new_gone_and_wider_columns_are_named_once_and_their_order_does_not_matter(compare, tmp_path):
    pq.write_table(pa.table({"b": [1.5], "new": ["x"], "a": pa.array([1], pa.int64())}), tmp_path / "lines/1.parquet")
    assert compare("a int, b double, gone date", "select a, b from {lines}") == [
        "raw table 'lines': column a is bigint, was int",
        "raw table 'lines': column gone is gone, was date",
        "raw table 'lines': column new is new (string)",
    ]
    assert compare("b double, a bigint, new string", "select a from {lines}") == []


def test_text_where_a_number_was_is_refused_with_the_file_that_has_it(compare, tmp_path):
    pq.write_table(pa.table({"price": [1.5]}), tmp_path / "lines/1.parquet")
    pq.write_table(pa.table({"price": ["on request"]}), tmp_path / "lines/2.parquet")
    with pytest.raises(InputError) as error:
        compare("price double", "select price from {lines}")
    for text in (
        "raw table 'lines': column price is string, was double",
        f"in {tmp_path}/lines/2.parquet",
        "source.raw.lines.types: {price: string}",
    ):
        assert text in str(error.value)
    assert compare("price double", "select price from {lines}", price="string")
    assert compare("price double", "select 1 -- not price\nfrom {lines}")
    assert compare("price double", "select price from {others}")


def test_file_of_json_with_a_text_where_a_number_was_is_found_by_its_values(compare, tmp_path):
    (tmp_path / "lines/1.json").write_text('{"price": 1.5}\n')
    (tmp_path / "lines/2.json").write_text('{"price": "on request"}\n')
    with pytest.raises(InputError, match=r"column price is string, was double in the last night, in file:.*/2.json"):
        compare("price double", "select price from {lines}", "json")


def test_column_without_a_value_may_become_anything(compare, spark, tmp_path):
    pq.write_table(pa.table({"a": pa.nulls(1), "b": [1]}), tmp_path / "lines/1.parquet")
    raw = {"lines": open_raw_table(spark, "lines", RawTable(path=str(tmp_path / "lines")))}
    first = raw_schemas.read(raw_schemas.written(raw_schemas.schemas_of(raw)))
    pq.write_table(pa.table({"a": ["text"], "b": [1]}), tmp_path / "lines/1.parquet")
    raw = {"lines": open_raw_table(spark, "lines", RawTable(path=str(tmp_path / "lines")))}
    assert raw_schemas.changes(first, raw_schemas.schemas_of(raw)) == []


def test_error_of_the_sql_names_what_is_gone_since_the_last_night():
    settings = SourceSettings(sql="sql", raw={"lines": RawTable(path="/lake/lines")})
    gone = raw_schemas.changes(schemas("price double, a int"), schemas("a int"))
    error = raw_schemas.explained(InputError("events.sql: `price` cannot be resolved"), gone, settings)
    assert str(error) == (
        "events.sql: `price` cannot be resolved. Since the last night raw table 'lines': column price is gone, "
        "was double (/lake/lines): write the files with it again, or take it out of the SQL"
    )
    other = InputError("events.sql: `colour` cannot be resolved")
    assert raw_schemas.explained(other, gone, settings) is other
