"""How raw tables become frames: types that the configuration gives, connectors that the session has."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql.datasource import DataSource, DataSourceReader

from recsys.config.pipeline import RawTable
from recsys.errors import InputError
from recsys.raw_tables import opening
from recsys.raw_tables.opening import open_raw_table
from recsys.spark_errors import SPARK_ERRORS


@pytest.fixture
def hive(tmp_path):
    """A nested folder of partitions."""
    for day, shop, n in [("2026-02-01", "007", 1), ("2026-02-02", "12", 2)]:
        (tmp_path / f"dt={day}/shop={shop}").mkdir(parents=True)
        pq.write_table(pa.table({"n": pa.array([n], pa.int32())}), tmp_path / f"dt={day}/shop={shop}/a.parquet")
    return tmp_path


def test_columns_in_names_of_folders_have_the_types_of_the_configuration(spark, hive):
    plain = open_raw_table(spark, "lines", RawTable(path=str(hive)))
    assert dict(plain.dtypes) == {"n": "int", "dt": "date", "shop": "int"}
    typed = open_raw_table(spark, "lines", RawTable(path=str(hive), types={"shop": "string", "n": "bigint"}))
    assert dict(typed.dtypes) == {"n": "bigint", "dt": "date", "shop": "string"}
    assert sorted((row["n"], row["shop"]) for row in typed.collect()) == [(1, "007"), (2, "12")]


def test_folders_that_a_query_does_not_need_are_not_read(spark, hive):
    frame = open_raw_table(spark, "lines", RawTable(path=str(hive), types={"shop": "string"}))
    (hive / "dt=2026-02-01/shop=007/a.parquet").write_bytes(b"damaged")
    assert [row["n"] for row in frame.where("dt >= '2026-02-02'").collect()] == [2]
    assert [row["n"] for row in frame.where("shop = '12'").collect()] == [2]


@pytest.mark.parametrize(
    ("types", "message"),
    [({"no": "string"}, r"source.raw.lines.types names no, must name columns"), ({"n": "txet"}, r"types.n == 'txet'")],
)
def test_types_that_mean_nothing_are_refused(spark, hive, types, message):
    with pytest.raises(InputError, match=message):
        open_raw_table(spark, "lines", RawTable(path=str(hive), types=types))


@pytest.fixture
def as_if_behind_a_url(monkeypatch):
    """Spark reads local files as those behind a URL: by their folder alone."""
    monkeypatch.setattr(opening, "is_url", lambda _: True)


@pytest.mark.usefixtures("as_if_behind_a_url")
def test_parquet_files_that_spark_reads_behind_a_url_may_have_new_columns_and_wider_types(spark, tmp_path):
    pq.write_table(pa.table({"n": pa.array([1], pa.int32())}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"n": pa.array([2], pa.int32()), "new": ["x"]}), tmp_path / "2.parquet")
    frame = open_raw_table(spark, "lines", RawTable(path=str(tmp_path)))
    assert sorted(tuple(row) for row in frame.collect()) == [(1, None), (2, "x")]
    pq.write_table(pa.table({"n": pa.array([1 << 40], pa.int64())}), tmp_path / "3.parquet")
    frame = open_raw_table(spark, "lines", RawTable(path=str(tmp_path)))
    assert sorted(row["n"] for row in frame.collect()) == [1, 2, 1 << 40]


@pytest.mark.usefixtures("as_if_behind_a_url")
def test_csv_files_that_spark_reads_behind_a_url_are_never_mixed_up(spark, tmp_path):
    (tmp_path / "1.csv").write_text("a,b\n1,2\n3,4\n")
    (tmp_path / "2.csv").write_text("b,a\n2,1\n")
    frame = open_raw_table(spark, "lines", RawTable(path=str(tmp_path), format="csv"))
    with pytest.raises(SPARK_ERRORS, match="CSV header"):
        frame.collect()


class Delta(DataSource):
    """Stands for Spark's connector for Delta."""

    @classmethod
    def name(cls) -> str:
        return "delta"

    def schema(self) -> str:
        return "path string, version string"

    def reader(self, schema):  # noqa: ARG002
        return DeltaReader(self.options)


class DeltaReader(DataSourceReader):
    def __init__(self, options) -> None:
        self.options = options

    def read(self, partition):  # noqa: ARG002
        yield self.options.get("path"), self.options.get("versionasof")


def test_connector_that_the_session_has_reads_the_table_as_of_the_version(spark):
    session = spark.newSession()
    session.dataSource.register(Delta)
    raw = RawTable(path="/lake/lines", format="delta", version=3)
    assert [tuple(row) for row in open_raw_table(session, "lines", raw).collect()] == [("/lake/lines", "3")]


def test_version_of_a_format_without_versions_is_refused():
    with pytest.raises(ValueError, match="version == 3, but format is 'csv', must be 'delta' or 'iceberg'"):
        RawTable(path="x", format="csv", version=3)
