"""Delta tables that deltalake writes, and logs as other engines write them, without a connector of Spark."""

import datetime as dt

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.config.pipeline import RawTable
from recsys.errors import InputError
from recsys.raw_tables.delta import read_delta
from tests.helpers import delta_log

deltalake = pytest.importorskip("deltalake", reason="needs deltalake: pip install 'flash-sale-recsys[delta]'")
DAYS = [dt.date(2026, 2, 1), dt.date(2026, 2, 2)]


@pytest.fixture
def read(spark):
    """Return the rows of a Delta table, sorted by their text."""

    def rows_of(path, version=None):
        frame = read_delta(spark, "lines", RawTable(path=str(path), format="delta", version=version))
        return sorted((tuple(row) for row in frame.collect()), key=str)

    return rows_of


def write(path, mode="append", **columns):
    deltalake.write_deltalake(str(path), pa.table(columns), mode=mode, partition_by=["shop", "day"])


def test_partition_values_of_any_kind_are_columns_with_the_types_of_the_table(read, tmp_path):
    # Spark itself cannot decode the folder of 'é/=%'; zeros and nulls must stay what they are.
    rows = [(1, "007", DAYS[0]), (2, "x y", DAYS[0]), (3, "é/=%", DAYS[1]), (4, None, DAYS[1])]
    number, shop, day = zip(*rows, strict=True)
    write(tmp_path / "t", number=list(number), shop=pa.array(shop, pa.string()), day=list(day))
    assert read(tmp_path / "t") == sorted(rows, key=str)


def test_partitions_that_a_query_does_not_name_are_not_read(spark, tmp_path):
    write(tmp_path, number=[1, 2], shop=["a", "b"], day=DAYS)
    frame = read_delta(spark, "lines", RawTable(path=str(tmp_path), format="delta")).where("day = '2026-02-02'")
    (file,) = [each for each in tmp_path.rglob("*.parquet") if "2026-02-01" in str(each)]
    file.write_bytes(b"damaged")
    assert [row["number"] for row in frame.collect()] == [2]


def test_version_pins_the_rows_and_the_newest_one_is_the_default(read, tmp_path):
    write(tmp_path, number=[1], shop=["a"], day=DAYS[:1])
    write(tmp_path, number=[2], shop=["a"], day=DAYS[:1])
    deltalake.DeltaTable(str(tmp_path)).delete("number = 1")
    assert [row[0] for row in read(tmp_path)] == [2]
    assert [row[0] for row in read(tmp_path, version=1)] == [1, 2]
    assert [row[0] for row in read(tmp_path, version=0)] == [1]


def test_columns_that_older_files_lack_are_null_and_narrower_ones_are_widened(read, tmp_path):
    deltalake.write_deltalake(str(tmp_path), pa.table({"n": pa.array([1], pa.int32())}))
    (old,) = tmp_path.glob("*.parquet")
    fields = [
        {"name": name, "type": kind, "nullable": True, "metadata": {}}
        for name, kind in [("new", "string"), ("n", "long")]
    ]
    pq.write_table(pa.table({"new": ["x"], "n": pa.array([1 << 40], pa.int64())}), tmp_path / "second.parquet")
    delta_log.write_log(
        tmp_path,
        1,
        delta_log.protocol("typeWidening"),
        delta_log.metadata(fields, [], "none"),
        delta_log.added(tmp_path, "second.parquet", {}),
    )
    assert old.exists()
    assert read(tmp_path) == [("x", 1 << 40), (None, 1)]


@pytest.fixture
def mapped(tmp_path):
    """A table whose names differ from those in its files, with a partition, a structure, and deleted rows."""
    inner = pa.struct([("col-4", pa.int32())])
    for number, name in enumerate(["x-1", "x-2"]):
        values = pa.array([{"col-4": 10 * number + each} for each in range(4)], inner)
        pq.write_table(
            pa.table({"col-1": [10 * number + each for each in range(4)], "col-3": values}),
            tmp_path / f"{name}.parquet",
        )
    structure = {"type": "struct", "fields": [delta_log.field("inner", "integer", 4)]}
    fields = [delta_log.field("a", "long", 1), delta_log.field("day", "date", 2), delta_log.field("s", structure, 3)]
    delta_log.write_log(
        tmp_path,
        0,
        delta_log.protocol("columnMapping", "deletionVectors"),
        delta_log.metadata(fields, ["day"]),
        delta_log.added(tmp_path, "x-1.parquet", {"col-2": "2026-02-01"}, deleted=[0, 2]),
        delta_log.added(tmp_path, "x-2.parquet", {"col-2": None}),
    )
    return tmp_path


def test_deleted_rows_are_found_in_folders_whose_names_are_encoded(read, tmp_path):
    (tmp_path / "shop=x%20y").mkdir()
    pq.write_table(pa.table({"col-1": [1, 2, 3]}), tmp_path / "shop=x%20y/x.parquet")
    file = delta_log.added(tmp_path, "shop=x%20y/x.parquet", {"col-2": "x y"}, deleted=[1])
    file["add"]["path"] = "shop=x%2520y/x.parquet"
    delta_log.write_log(
        tmp_path,
        0,
        delta_log.protocol("columnMapping", "deletionVectors"),
        delta_log.metadata([delta_log.field("a", "long", 1), delta_log.field("shop", "string", 2)], ["shop"]),
        file,
    )
    assert read(tmp_path) == [(1, "x y"), (3, "x y")]


def test_renamed_columns_are_found_and_deleted_rows_stay_deleted(read, mapped):
    assert read(mapped) == [
        (1, DAYS[0], (1,)),
        (10, None, (10,)),
        (11, None, (11,)),
        (12, None, (12,)),
        (13, None, (13,)),
        (3, DAYS[0], (3,)),
    ]


@pytest.mark.parametrize(
    ("features", "mode", "named"),
    [(["columnMapping"], "id", "columnMapping by id"), (["somethingNew"], "none", "somethingNew")],
)
def test_table_that_needs_more_than_is_known_is_refused(read, tmp_path, features, mode, named):
    pq.write_table(pa.table({"col-1": [1]}), tmp_path / "x.parquet")
    delta_log.write_log(
        tmp_path,
        0,
        delta_log.protocol(*features),
        delta_log.metadata([delta_log.field("a", "long", 1)], [], mode),
        delta_log.added(tmp_path, "x.parquet", {}),
    )
    with pytest.raises(InputError, match=named):
        read(tmp_path)


@pytest.mark.parametrize("version", [None, 7])
def test_absent_table_or_version_is_named(read, tmp_path, version):
    if version is not None:
        write(tmp_path, number=[1], shop=["a"], day=DAYS[:1])
    with pytest.raises(InputError, match=r"raw table 'lines':.* Delta table .* cannot be opened .*source.raw.lines"):
        read(tmp_path, version)


def test_table_in_an_object_store_is_read_by_workers(read, object_store):
    location = f"{object_store('delta')}"
    options = {"allow_http": "true"}
    rows = pa.table({"number": [1, 2], "shop": ["007", None], "day": DAYS})
    deltalake.write_deltalake(location, rows, partition_by=["shop", "day"], storage_options=options)
    assert read(location) == [(1, "007", DAYS[0]), (2, None, DAYS[1])]
