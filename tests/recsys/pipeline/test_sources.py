from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from pyspark.sql.types import StructField, StructType

from recsys.config.pipeline import RawTable, SourceSettings
from recsys.errors import ConfigurationError, InputError, SchemaError
from recsys.pipeline import sources
from recsys.tables.logs import COMPACTED_EVENTS
from recsys.tables.night import EVENTS, SALES, USERS
from tests.helpers.paths import CONF
from tests.helpers.small_shop import SmallShop, event, sale


@pytest.fixture
def shop(tmp_path) -> SmallShop:
    return SmallShop(tmp_path).write([sale("s1"), sale("s2")], [event("u1", "s2", -1)])


@pytest.fixture
def select(spark, shop):
    """Select a table of the shop by an SQL text."""

    def selected(table, text: str):
        shop.write_sql(table.name, text)
        settings = shop.settings().source
        return sources.select_table(spark, table, settings, sources.read_raw_tables(spark, settings, Path("absent")))

    return selected


@pytest.fixture
def refusal(select):
    """Return the message of the error that an SQL text raises."""

    def message(table, text: str, kind: type[Exception] = InputError) -> str:
        with pytest.raises(kind) as error:
            select(table, text)
        return str(error.value)

    return message


def test_columns_are_in_the_order_of_the_table_and_absent_optional_ones_are_null(select):
    sales = select(SALES, "select title, closes_at, opens_at, sale_id from {raw_sales}")
    assert sales.columns == list(SALES.columns)
    assert {(row["sale_id"], row["price"], row["attributes"]) for row in sales.collect()} == {
        ("s1", None, None),
        ("s2", None, None),
    }


def test_sql_may_join_all_raw_tables_and_name_one_twice(select):
    text = """
        select e.user_id, s.sale_id, e.kind, e.occurred_at
        from {raw_events} as e
        join {raw_sales} as s on e.sale_id = s.sale_id
        join {raw_sales} as again on s.sale_id = again.sale_id
    """
    assert [row["sale_id"] for row in select(EVENTS, text).collect()] == ["s2"]


def test_sql_file_may_begin_with_a_byte_order_mark_and_have_carriage_returns(select):
    text = "\ufeff-- One row per sale.\r\nselect sale_id, opens_at, closes_at, title\r\nfrom {raw_sales}\r\n"
    assert select(SALES, text).count() == 2


def test_missing_column_is_named_with_file_and_type(refusal, shop):
    message = refusal(SALES, "select sale_id, opens_at, closes_at from {raw_sales}", SchemaError)
    assert message == f"table sales ({shop.folder / 'sql/sales.sql'}): column title is missing, must be string"


def test_all_discrepancies_are_listed(refusal):
    message = refusal(
        SALES,
        "select sale_id, cast(opens_at as string) as opens_at, title, 1 as price, 2 as colour from {raw_sales}",
        SchemaError,
    )
    for problem in (
        "column closes_at is missing, must be timestamp",
        "column opens_at is string, must be timestamp: in the source's SQL write to_timestamp(",
        "column price is int, must be double: cast it in the source's SQL, 'cast(… as double)'",
        "column colour is unknown: remove or rename it",
    ):
        assert problem in message


def test_timestamp_without_a_zone_is_refused_with_the_way_to_give_it_one(refusal):
    text = "select user_id, sale_id, kind, cast(occurred_at as timestamp_ntz) as occurred_at from {raw_events}"
    message = refusal(EVENTS, text, SchemaError)
    assert "column occurred_at is timestamp_ntz, must be timestamp, which has a zone" in message
    assert "to_utc_timestamp(cast(… as timestamp), 'Europe/Paris')" in message


def test_missing_sql_file_is_named_with_the_columns_it_must_select(spark, shop):
    (shop.folder / "sql/events.sql").unlink()
    with pytest.raises(InputError, match=r"events\.sql is missing: it must select the columns user_id, sale_id, kind"):
        sources.select_table(spark, EVENTS, shop.settings().source, {})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("selct 1", "[PARSE_SYNTAX_ERROR] Syntax error at or near 'selct'"),
        ("", "[PARSE_EMPTY_STATEMENT]"),
        ("select nothing from {raw_sales}", "[UNRESOLVED_COLUMN.WITH_SUGGESTION]"),
        ("select * from absent", "[TABLE_OR_VIEW_NOT_FOUND]"),
        ("select * from {raw_sale}", "{raw_sale} is no raw table"),
        ("select * from {raw_sales} where title rlike '^[a-z]{2}$'", "braces name one, others are written {{ and }}"),
        ("select * from {raw_sales} where title = '{'", "braces name one, others are written {{ and }}"),
    ],
)
def test_invalid_sql_is_an_error_with_sparks_message_and_the_raw_tables(refusal, shop, text, problem):
    message = refusal(SALES, text)
    assert message.startswith(f"{shop.folder / 'sql/sales.sql'}: ")
    assert problem in message
    assert "raw tables are raw_events, raw_sales, recorded_events" in message
    assert "\n" not in message


def test_raw_path_that_does_not_exist_is_named_with_its_key(spark):
    settings = SourceSettings(sql="sql", raw={"lines": RawTable(path="absent/lines.parquet")})
    with pytest.raises(InputError) as error:
        sources.read_raw_tables(spark, settings, Path("absent"))
    assert str(error.value) == ("raw table 'lines': absent/lines.parquet does not exist: correct source.raw.lines.path")


@pytest.mark.parametrize(
    "raw",
    [RawTable(path="{folder}"), RawTable(path="{folder}/text.parquet"), RawTable(table="no.such_table")],
    ids=["empty folder", "no parquet", "no table"],
)
def test_raw_table_that_spark_cannot_read_is_named(spark, tmp_path, raw):
    (tmp_path / "text.parquet").write_text("text")
    if raw.path == "{folder}":
        (tmp_path / "text.parquet").unlink()
    raw = RawTable(path=raw.path.format(folder=tmp_path)) if raw.path else raw
    with pytest.raises(InputError, match=r"raw table 'lines'( at no.such_table)?: "):
        sources.read_raw_tables(spark, SourceSettings(sql="sql", raw={"lines": raw}), Path("absent"))


def test_raw_table_may_be_csv_or_json_or_a_table_of_the_catalogue(spark, tmp_path):
    (tmp_path / "lines.csv").write_text("a;b\n1;é\n")
    (tmp_path / "lines.json").write_text('{"a": "1", "b": "é"}\n')
    spark.createDataFrame([("1", "é")], "a string, b string").createOrReplaceTempView("lines_of_a_test")
    raw = {
        "csv": RawTable(path=str(tmp_path / "lines.csv"), format="csv", options={"header": "true", "sep": ";"}),
        "json": RawTable(path=str(tmp_path / "lines.json"), format="json"),
        "table": RawTable(table="lines_of_a_test"),
    }
    frames = sources.read_raw_tables(spark, SourceSettings(sql="sql", raw=raw), Path("absent"))
    for name in raw:
        assert [tuple(row) for row in frames[name].collect()] == [("1", "é")], name


RECORDED = "select user_id, sale_id, kind, occurred_at from {recorded_events}"


def test_recorded_events_are_a_raw_table_that_is_empty_at_first(spark, shop, tmp_path):
    settings = shop.settings().source
    shop.write_sql("events", RECORDED)
    before = sources.fingerprint(settings, tmp_path)
    empty = sources.read_raw_tables(spark, settings, tmp_path)
    assert sources.select_table(spark, EVENTS, settings, empty).collect() == []
    told_of = {"user_id": "u1", "sale_id": "s1", "kind": "visit", "occurred_at": datetime(2026, 2, 28, tzinfo=UTC)}
    columns = StructType([StructField(name, kind) for name, kind in COMPACTED_EVENTS.columns.items()])
    row = {**dict.fromkeys(COMPACTED_EVENTS.columns), **told_of, "day": date(2026, 2, 28)}
    COMPACTED_EVENTS.write(spark.createDataFrame([row], columns), tmp_path)
    told = sources.read_raw_tables(spark, settings, tmp_path)
    assert [row["user_id"] for row in sources.select_table(spark, EVENTS, settings, told).collect()] == ["u1"]
    assert sources.fingerprint(settings, tmp_path) != before
    shop.write_sql("events", "select 1")
    assert sources.fingerprint(settings, tmp_path) == sources.fingerprint(settings, tmp_path / "absent")


def test_users_are_optional(shop):
    assert not sources.has_table(USERS, shop.settings().source)
    shop.write_sql("users", "select 1")
    assert sources.has_table(USERS, shop.settings().source)


def test_missing_folder_of_sql_files_is_named():
    with pytest.raises(ConfigurationError, match=r"source.sql == 'absent', must be a folder of SQL files"):
        sources.check_settings(SourceSettings(sql="absent", raw={}))


def test_fingerprint_changes_only_with_sql_raw_files_and_settings(shop):
    seen = [sources.fingerprint(shop.settings().source, Path("absent"))]

    def is_new() -> bool:
        seen.append(sources.fingerprint(shop.settings().source, Path("absent")))
        return seen[-1] not in seen[:-1]

    (shop.folder / "sql/notes.txt").write_text("no SQL")
    shop.settings_changes["note"] = "another"
    assert not is_new()
    shop.write_sql("sales", "select * from {raw_sales} where true")
    assert is_new()
    shop.write([sale("s1")], [event("u1", "s1", -1)])
    assert is_new()
    shop.settings_changes["source"] = {**shop.raw_settings()["source"], "max_rejected_share": 0.25}
    assert is_new()
    assert not is_new()


def test_fingerprint_includes_each_file_of_a_folder_and_works_without_files(tmp_path):
    settings = SourceSettings(sql="sql", raw={"lines": RawTable(path=str(tmp_path / "lines"))})
    absent = sources.fingerprint(settings, tmp_path / "absent")
    (tmp_path / "lines/day=1").mkdir(parents=True)
    empty = sources.fingerprint(settings, tmp_path / "absent")
    (tmp_path / "lines/day=1/part").write_text("1")
    one = sources.fingerprint(settings, tmp_path / "absent")
    (tmp_path / "lines/day=2").write_text("1")
    assert absent == empty
    assert len({absent, one, sources.fingerprint(settings, tmp_path / "absent")}) == 3


def test_fingerprint_does_not_depend_on_the_order_of_keys():
    tables = {name: RawTable(table=f"db.{name}", options={"a": "1", name: "2"}) for name in ("sales", "events")}
    one = SourceSettings(sql="sql", raw=tables)
    other = SourceSettings(sql="sql", raw=dict(reversed(tables.items())))
    assert sources.fingerprint(one, Path("absent")) == sources.fingerprint(other, Path("absent"))


def test_fingerprint_changes_with_files_in_an_object_store(object_store):
    settings = SourceSettings(sql="sql", raw={"lines": RawTable(path=f"{object_store('lines')}", format="csv")})
    seen = [sources.fingerprint(settings, Path("absent"))]
    for content in (b"one", b"two"):  # of one size
        (object_store("lines") / "day=1/a.csv").write_bytes(content)
        seen.append(sources.fingerprint(settings, Path("absent")))
    assert len(set(seen)) == 3
    assert sources.fingerprint(settings, Path("absent")) == seen[-1]


def test_every_sql_file_of_the_project_states_its_grain():
    for path in (CONF / "sources").rglob("*.sql"):
        assert path.read_text().startswith("-- One row per "), path
