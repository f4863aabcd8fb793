from datetime import UTC, date, datetime

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pyspark.sql import functions as f

from recsys.errors import InputError, SchemaError
from recsys.instants import to_micros
from recsys.tables import night as tables
from recsys.tables.logs import COMPACTED_EVENTS
from recsys.tables.night import REJECTED_ROWS, TRAINING_EXAMPLES, Table

ALL = [each for each in vars(tables).values() if isinstance(each, Table)]


@pytest.fixture
def rejected(spark):
    return spark.createDataFrame([("sales", "price_valid", "{}"), ("é", 'quoted "', None)], REJECTED_ROWS_DDL)


REJECTED_ROWS_DDL = "table string, rule string, row string"


def test_table_that_is_written_is_read_again(spark, tmp_path, rejected):
    REJECTED_ROWS.write(rejected, tmp_path)
    assert sorted(REJECTED_ROWS.read(spark, tmp_path).collect()) == sorted(rejected.collect())


def test_writing_again_replaces_the_table(spark, tmp_path, rejected):
    for rows in (rejected, rejected.limit(1)):
        REJECTED_ROWS.write(rows, tmp_path)
    assert REJECTED_ROWS.read(spark, tmp_path).count() == REJECTED_ROWS.rows(tmp_path) == 1


def test_rows_are_counted_over_all_files_and_partitions(spark, tmp_path):
    rows = [(day, "popularity", b"x") for day in (1, 1, 2)]
    examples = spark.createDataFrame(rows, "as_of long, recommender string, arrays binary").repartition(3)
    tables.FITTED_RECOMMENDERS.write(examples, tmp_path)
    assert tables.FITTED_RECOMMENDERS.rows(tmp_path) == 3
    tables.FITTED_RECOMMENDERS.write(examples.limit(0), tmp_path)
    assert tables.FITTED_RECOMMENDERS.rows(tmp_path) == 0


def test_partition_columns_keep_their_type(spark, tmp_path):
    examples = spark.createDataFrame([(7, "popularity", b"x")], "as_of long, recommender string, arrays binary")
    tables.FITTED_RECOMMENDERS.write(examples, tmp_path)
    found = tables.FITTED_RECOMMENDERS.read(spark, tmp_path)  # Spark alone would infer an int from 7
    assert dict(found.dtypes)["as_of"] == "bigint"
    assert found.first()["as_of"] == 7


def test_files_are_read_as_they_were_written_by_spark_and_without_it(spark, tmp_path):
    tables.USERS.write_rows(pd.DataFrame({"user_id": ["u"], "attributes": [[("market", "FR")]]}), tmp_path / "plain")
    tables.USERS.write(tables.USERS.read(spark, tmp_path / "plain"), tmp_path / "spark")
    for folder in ("plain", "spark"):
        found = tables.USERS.read(spark, tmp_path / folder)
        assert found.schema == tables.USERS.schema
        assert found.first().asDict() == {"user_id": "u", "attributes": {"market": "FR"}}


def test_instants_that_spark_wrote_keep_their_zone(spark, tmp_path):
    ddl = ", ".join(f"{name} {kind.simpleString()}" for name, kind in tables.EVENTS.columns.items())
    moment = datetime(2026, 3, 1, 12, tzinfo=UTC)
    tables.EVENTS.write(spark.createDataFrame([("u", "s", "visit", moment, moment, None)], ddl), tmp_path)
    found = tables.EVENTS.read(spark, tmp_path)
    assert found.schema == tables.EVENTS.schema
    assert found.selectExpr("unix_micros(occurred_at) as at").first()["at"] == to_micros(moment)


def test_folder_without_a_file_is_no_table(spark, tmp_path):
    (tmp_path / "sales").mkdir()
    with pytest.raises(InputError, match="table sales is not in"):
        tables.SALES.read(spark, tmp_path)


def test_missing_table_is_named_with_its_folder_and_the_next_step(spark, tmp_path):
    with pytest.raises(InputError) as error:
        tables.SALES.read(spark, tmp_path)
    assert str(error.value) == (f"table sales is not in {tmp_path}: run the step that writes it, or 'recsys nightly'")


def test_read_and_write_refuse_other_columns_and_list_them_all(spark, tmp_path, rejected):
    wrong = rejected.select(f.lit(1).alias("rule"), f.col("row"), f.lit(2.5).alias("extra"))
    problems = (
        "column table is missing, must be string; column rule is int, must be string: cast it in the source's SQL, "
        "'cast(… as string)'; column extra is unknown: remove or rename it"
    )
    with pytest.raises(SchemaError) as error:
        REJECTED_ROWS.write(wrong, tmp_path)
    assert str(error.value) == f"table rejected_rows: {problems}"
    assert not list(tmp_path.iterdir())
    wrong.write.parquet(str(tmp_path / "rejected_rows"))
    with pytest.raises(SchemaError) as error:
        REJECTED_ROWS.read(spark, tmp_path)
    assert str(error.value) == f"table rejected_rows ({tmp_path / 'rejected_rows'}): {problems}"


def test_column_names_are_compared_as_they_are_written(rejected):
    with pytest.raises(SchemaError, match=r"column rule is missing, .*column Rule is unknown"):
        REJECTED_ROWS.check(rejected.withColumnRenamed("rule", "Rule"))


def test_open_ended_table_may_have_further_columns_and_must_have_its_own(spark):
    ddl = ", ".join(f"{name} {kind.simpleString()}" for name, kind in TRAINING_EXAMPLES.columns.items())
    examples = spark.createDataFrame([], f"{ddl}, popularity float")
    assert TRAINING_EXAMPLES.check(examples) is examples
    with pytest.raises(SchemaError, match="column bought is missing, must be boolean"):
        TRAINING_EXAMPLES.check(examples.drop("bought"))


@pytest.mark.parametrize("table", ALL, ids=lambda table: table.name)
def test_declaration_of_a_table_is_sound(table):
    assert table.grain.startswith("one row ")
    assert set(table.optional) <= set(table.columns)
    assert set(table.partitioned_by) <= set(table.columns)


def test_no_two_tables_have_the_same_name():
    assert len({table.name for table in ALL}) == len(ALL) >= 9


def test_dataset_reads_files_of_versions_before_instants_had_a_zone(tmp_path):
    day = tmp_path / COMPACTED_EVENTS.name / "day=2026-03-01"
    day.mkdir(parents=True)
    at = pa.array([datetime(2026, 3, 1, 5, tzinfo=UTC)], pa.timestamp("us", "UTC"))
    for name, is_old in (("a", True), ("b", False)):
        rows = pa.table({"event_id": [name], "occurred_at": at})
        pq.write_table(rows, day / f"{name}.parquet", use_deprecated_int96_timestamps=is_old)
    wanted = pc.field("occurred_at") >= datetime(2026, 3, 1, 5, tzinfo=UTC)
    found = COMPACTED_EVENTS.dataset(tmp_path).to_table(["event_id", "occurred_at", "user_id", "day"], wanted)
    assert found["event_id"].to_pylist() == ["a", "b"]
    assert found["occurred_at"].to_pylist() == [datetime(2026, 3, 1, 5, tzinfo=UTC)] * 2
    assert found["user_id"].to_pylist() == [None, None]
    assert found["day"].to_pylist() == [date(2026, 3, 1)] * 2
