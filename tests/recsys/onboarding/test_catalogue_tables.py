import pyarrow as pa
import pytest

from recsys.errors import InputError
from recsys.onboarding.catalogue_tables import is_table_name, lake_table, read_lake_sample, read_table_sample


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("shop.events", True),
        ("lake.shop.events", True),
        ("lake.`my-shop`.events", True),
        ("events", False),
        ("events.csv", False),  # a file that is missing
        ("data.2026.jsonl", False),
        ("data/shop.events", False),
        ("s3://bucket/shop.events", False),
    ],
)
def test_name_of_a_table_has_parts_and_no_end_of_a_file(location, expected):
    assert is_table_name(location) == expected


def test_file_of_the_name_of_a_table_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop.events").touch()
    assert not is_table_name("shop.events")


def test_table_is_sampled_with_its_types(spark):
    spark.sql(
        "create or replace temporary view clicks as select 7 as u, timestamp '2026-03-01 10:00:00' as t, "
        "timestamp_ntz '2026-03-01 10:00:00' as n, named_struct('sku', 'a1') as p, cast(1.5 as decimal(4, 2)) as d"
    )
    sample = read_table_sample(spark, "clicks")
    assert {column.name: column.rows[0] for column in sample.columns if column.name not in "tn"} == {
        "u": 7,
        "p.sku": "a1",
        "d": 1.5,
    }
    zones = {each.name: each.instants.has_zone for each in sample.columns if each.instants}
    assert zones == {"t": True, "n": False}
    assert sample.raw.model_dump(exclude_defaults=True) == {"table": "clicks"}


def test_table_that_is_missing_or_empty_is_refused(spark):
    with pytest.raises(InputError, match=r"neither a file nor a table of Spark's catalogue .*spark\.conf of conf/base"):
        read_table_sample(spark, "lake.shop.events")
    spark.sql("create or replace temporary view nothing as select 1 as u where false")
    with pytest.raises(InputError, match="has no row"):
        read_table_sample(spark, "nothing")


def test_delta_table_is_recognised_and_sampled(spark, tmp_path):
    deltalake = pytest.importorskip("deltalake", reason="needs deltalake: pip install 'flash-sale-recsys[delta]'")
    deltalake.write_deltalake(str(tmp_path / "lines"), pa.table({"u": ["007"], "n": [1]}), partition_by=["u"])
    sample = read_lake_sample(spark, lake_table(str(tmp_path / "lines")))
    assert sample.raw.format == "delta"
    assert {column.name: column.rows for column in sample.columns} == {"u": ["007"], "n": [1]}


def test_other_tables_of_a_lake_are_recognised_by_their_files(tmp_path):
    (tmp_path / "iceberg/metadata").mkdir(parents=True)
    (tmp_path / "iceberg/metadata/v1.metadata.json").touch()
    (tmp_path / "avro/day=1").mkdir(parents=True)
    (tmp_path / "avro/day=1/a.avro").touch()
    assert lake_table(str(tmp_path / "iceberg")).format == "iceberg"
    assert lake_table(str(tmp_path / "avro")).format == "avro"
    assert lake_table(f"{tmp_path}/avro/*/*.avro") is None  # a pattern
    assert lake_table("lake.shop.events") is None
