"""Iceberg tables that pyiceberg writes, without a connector of Spark."""

import datetime as dt
import uuid

import pyarrow as pa
import pytest

from recsys.config.pipeline import RawTable
from recsys.errors import InputError
from recsys.raw_tables.iceberg import metadata_file, read_iceberg
from tests.helpers.iceberg_deletes import delete_positions

pytest.importorskip("pyiceberg", reason="needs pyiceberg: pip install 'flash-sale-recsys[iceberg]'")
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import IntegerType, LongType, NestedField, StringType, TimestamptzType, TimeType, UUIDType

AT = dt.datetime(2026, 2, 1, 12, tzinfo=dt.UTC)


@pytest.fixture
def catalogue(tmp_path):
    """A catalogue in a file, and the properties that lead to it."""
    properties = {"type": "sql", "uri": f"sqlite:///{tmp_path}/catalogue.db", "warehouse": f"file://{tmp_path}/lake"}
    made = SqlCatalog("lake", **properties)
    made.create_namespace("shop")
    yield made
    made.engine.dispose()


@pytest.fixture
def read(spark, catalogue):
    """Return the columns and the rows of a table of the catalogue, sorted by their text."""

    def rows_of(**raw):
        frame = read_iceberg(spark, "lines", table_of(catalogue, **raw))
        return frame.columns, sorted((tuple(row) for row in frame.collect()), key=str)

    return rows_of


def table_of(catalogue, **raw):
    options = {key: catalogue.properties[key] for key in ("type", "uri", "warehouse")}
    return RawTable(table="lake.shop.lines", format="iceberg", options=options, **raw)


@pytest.fixture
def lines(catalogue):
    """A table partitioned by shop, with two rows."""
    schema = Schema(
        NestedField(1, "n", IntegerType()),
        NestedField(2, "shop", StringType()),
        NestedField(3, "at", TimestamptzType()),
    )
    spec = PartitionSpec(PartitionField(2, 1000, IdentityTransform(), "shop"))
    table = catalogue.create_table("shop.lines", schema, partition_spec=spec)
    table.append(rows(n=[1, 2], shop=["007", "é/="], at=[AT, AT + dt.timedelta(days=1)]))
    return table


def rows(n, **others):
    at = {"at": pa.array(others.pop("at"), pa.timestamp("us", "UTC"))} if "at" in others else {}
    return pa.table({"n": pa.array(n, pa.int32()), **others, **at})


def numbers(found):
    columns, values = found
    return [row[columns.index("n")] for row in values]


def test_spark_reads_the_files_of_a_plain_table_and_only_the_columns_of_a_query(spark, read, lines, catalogue, capsys):
    columns, values = read()
    assert columns == ["n", "shop", "at"]
    assert [row[:2] for row in values] == [(1, "007"), (2, "é/=")]
    read_iceberg(spark, "lines", table_of(catalogue)).select("n").explain()
    plan = capsys.readouterr().out
    assert "ReadSchema: struct<n:int>" in plan
    assert "MapInArrow" not in plan


def test_columns_keep_their_values_when_they_are_renamed_and_their_names_given_to_others(read, lines):
    with lines.update_schema() as update:
        update.rename_column("n", "number")
    with lines.update_schema() as update:
        update.add_column("n", IntegerType())  # another column: older rows have no value
    columns, values = read()
    assert columns == ["number", "shop", "at", "n"]
    assert [(row[0], row[1], row[3]) for row in values] == [(1, "007", None), (2, "é/=", None)]


def test_wider_types_and_new_columns_are_read_from_old_files(read, lines):
    with lines.update_schema() as update:
        update.update_column("n", LongType())
        update.add_column("new", StringType())
    lines.append(
        pa.table({"n": [1 << 40], "shop": ["x"], "at": pa.array([AT], pa.timestamp("us", "UTC")), "new": ["y"]})
    )
    columns, values = read()
    assert columns == ["n", "shop", "at", "new"]
    assert sorted((row[0], row[3]) for row in values if row[3]) == [(1 << 40, "y")]
    assert sorted(row[0] for row in values) == [1, 2, 1 << 40]


def test_rows_that_were_deleted_by_position_stay_deleted(read, lines):
    lines.append(rows(n=[3, 4, 5], shop=["b"] * 3, at=[AT] * 3))
    file = next(task.file for task in lines.scan(row_filter="shop = 'b'").plan_files())
    delete_positions(lines, file, [0, 2])
    assert numbers(read()) == [1, 2, 4]


def test_rows_that_were_deleted_by_their_values_are_refused_since_they_would_come_back(read, lines):
    file = next(task.file for task in lines.scan().plan_files())
    delete_positions(lines, file, [0], by_equality=True)
    with pytest.raises(
        InputError, match=r"lake.shop.lines cannot be read without Spark's connector \(.*quality delete"
    ):
        read()


def test_version_is_a_snapshot(read, lines):
    first = lines.current_snapshot().snapshot_id
    lines.append(rows(n=[3], shop=["b"], at=[AT]))
    assert numbers(read()) == [1, 2, 3]
    assert numbers(read(version=first)) == [1, 2]
    with pytest.raises(InputError, match="'version' must be one of its snapshots"):
        read(version=7)


def test_uuids_are_texts_and_columns_without_a_type_in_spark_are_left_out(spark, catalogue):
    schema = Schema(
        NestedField(1, "id", UUIDType()), NestedField(2, "clock", TimeType()), NestedField(3, "n", LongType())
    )
    table = catalogue.create_table("shop.lines", schema)
    one = uuid.uuid5(uuid.NAMESPACE_URL, "one")
    arrow = table.schema().as_arrow()
    table.append(
        pa.table(
            [pa.array([one.bytes], pa.binary(16)).cast(arrow.field("id").type), pa.array([dt.time(1)]), [7]],
            schema=pa.schema([("id", arrow.field("id").type), ("clock", pa.time64("us")), ("n", pa.int64())]),
        )
    )
    frame = read_iceberg(spark, "lines", table_of(catalogue))
    assert [row.asDict() for row in frame.collect()] == [{"id": str(one), "n": 7}]


def test_path_may_be_a_file_of_metadata_or_a_folder_that_says_which_is_the_current_one(spark, lines, tmp_path):
    file = lines.metadata_location.removeprefix("file://")
    folder = file.rpartition("/metadata/")[0]

    def read(path):
        return read_iceberg(spark, "lines", RawTable(path=path, format="iceberg")).count()

    assert read(file) == 2
    with pytest.raises(InputError, match=r"only the table's catalogue knows.*table: CATALOGUE.SCHEMA.TABLE"):
        read(folder)
    (tmp_path / f"{folder}/metadata/version-hint.text").write_text(
        file.rpartition("/")[2].removesuffix(".metadata.json")
    )
    assert read(folder) == 2


def test_highest_of_hadoops_numbers_is_the_current_one(tmp_path):
    (tmp_path / "metadata").mkdir()
    for number in (1, 2, 10):
        (tmp_path / f"metadata/v{number}.metadata.json").touch()
    raw = RawTable(path=str(tmp_path), format="iceberg")
    assert metadata_file("lines", raw) == str(tmp_path / "metadata/v10.metadata.json")


def test_absent_tables_are_named_with_their_key(spark, catalogue, tmp_path):
    with pytest.raises(InputError, match=r"lake.shop.lines cannot be opened \(NoSuchTableError"):
        read_iceberg(spark, "lines", table_of(catalogue))
    with pytest.raises(InputError, match=r"has no folder metadata .*source.raw.lines.path"):
        read_iceberg(spark, "lines", RawTable(path=str(tmp_path), format="iceberg"))


def test_table_in_an_object_store_is_read_by_workers(spark, object_store, tmp_path):
    properties = {
        "type": "sql",
        "uri": f"sqlite:///{tmp_path}/catalogue.db",
        "warehouse": f"{object_store('lake')}",
        "py-io-impl": "pyiceberg.io.fsspec.FsspecFileIO",
    }
    catalogue = SqlCatalog("lake", **properties)
    catalogue.create_namespace("shop")
    table = catalogue.create_table("shop.lines", Schema(NestedField(1, "n", LongType())))
    table.append(pa.table({"n": [1, 2]}))
    frame = read_iceberg(spark, "lines", RawTable(path=table.metadata_location, format="iceberg"))
    assert sorted(row["n"] for row in frame.collect()) == [1, 2]
    catalogue.engine.dispose()
