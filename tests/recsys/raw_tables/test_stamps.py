"""A stamp changes when the rows of a raw table do, and with nothing else."""

import os

import pyarrow as pa
import pytest

from recsys.config.pipeline import RawTable
from recsys.errors import InputError
from recsys.raw_tables.stamps import stamps


def test_stamp_of_files_in_an_object_store_is_their_content_not_their_time(object_store, tmp_path):
    folder = object_store(tmp_path.name)
    raw = RawTable(path=str(folder), format="csv")

    def stamp_with(content):
        (folder / "a.csv").write_bytes(content)
        return stamps("lines", raw)

    one, other, again = stamp_with(b"1"), stamp_with(b"2"), stamp_with(b"1")
    assert one == again != other
    (folder / "_SUCCESS").write_bytes(b"")  # nobody reads it
    assert stamps("lines", raw) == one


def test_stamp_of_a_pattern_is_that_of_its_files(object_store, tmp_path):
    folder = object_store(tmp_path.name)
    for name in ("a1", "a2", "b1"):
        (folder / name).write_bytes(b"1")

    def names(pattern):
        found = stamps("lines", RawTable(pattern=f"{folder}/{pattern}", format="csv"))
        return [each.partition("|")[0].rpartition("/")[2] for each in found]

    assert names("a*") == ["a1", "a2"]
    assert names("{a2,b?}") == ["a2", "b1"]


def test_absent_files_have_no_stamp_and_an_absent_bucket_is_named(object_store, tmp_path):
    assert stamps("lines", RawTable(path=f"{object_store(tmp_path.name)}", format="csv")) == []
    assert stamps("lines", RawTable(path="s3://no-such-bucket/x", format="csv")) == []


def test_url_that_nobody_knows_is_an_error_with_the_next_step(spark):
    with pytest.raises(InputError, match=r"neither Spark nor this project's extras know foo:// .*spark.jars.packages"):
        stamps("lines", RawTable(path="foo://x/y"), lambda: spark)


def test_stamp_of_a_delta_table_is_its_version(tmp_path):
    deltalake = pytest.importorskip("deltalake", reason="needs deltalake: pip install 'flash-sale-recsys[delta]'")
    raw = RawTable(path=str(tmp_path), format="delta")
    deltalake.write_deltalake(str(tmp_path), pa.table({"n": [1]}))
    first = stamps("lines", raw)
    deltalake.DeltaTable(str(tmp_path)).create_checkpoint()
    (tmp_path / "left-behind.parquet").write_bytes(b"")
    assert stamps("lines", raw) == first
    deltalake.write_deltalake(str(tmp_path), pa.table({"n": [2]}), mode="append")
    assert stamps("lines", raw) != first
    assert stamps("lines", raw.model_copy(update={"version": 0})) == []


def test_stamp_of_a_table_of_sparks_catalogue_is_that_of_its_files(spark, tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("1\n")
    spark.read.csv(str(file)).createOrReplaceTempView("lines_with_a_stamp")
    raw = RawTable(table="lines_with_a_stamp")
    first = stamps("lines", raw, lambda: spark)
    assert first == stamps("lines", raw, lambda: spark) != []
    os.utime(file, ns=(0, 1))
    assert stamps("lines", raw, lambda: spark) != first
    assert stamps("lines", RawTable(table="no.such_table"), lambda: spark) == []


def test_stamp_of_an_iceberg_table_is_its_metadata(tmp_path):
    pytest.importorskip("pyiceberg", reason="needs pyiceberg: pip install 'flash-sale-recsys[iceberg]'")
    (tmp_path / "metadata").mkdir()
    for number in (1, 2):
        (tmp_path / f"metadata/v{number}.metadata.json").touch()
        (tmp_path / f"metadata/snap-{number}.avro").touch()
        found = stamps("lines", RawTable(path=str(tmp_path), format="iceberg"))
        assert found[0] == f"{tmp_path}/metadata/v{number}.metadata.json"
