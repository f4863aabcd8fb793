import hashlib
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.errors import InputError
from recsys.storage.places import put, remove, sizes_below
from recsys.tables.parts import (
    PARTS,
    Part,
    parts_of,
    read_arrow,
    read_batches,
    whole_tables,
    write_batches,
    write_list,
    write_table,
)
from recsys.tables.spark_parts import PartTasks, _write_partition, read_spark, write_parts
from tests.helpers.object_store import REFUSED

N = 5000


@pytest.fixture(params=["disk", "s3"])
def table(request, tmp_path):
    if request.param == "disk":
        return tmp_path / "table"
    store = request.getfixturevalue("object_store")
    store.fault = lambda method, path: None
    return store(tmp_path.name) / "table"


@pytest.fixture(scope="module")
def rows(spark):
    random = np.random.default_rng(5)
    lengths = random.integers(0, 6, N)
    values = pa.array(random.integers(0, 9, lengths.sum()), pa.int32())
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    plain = pa.table(
        {
            "user_id": [f"u{number}" for number in range(N)],
            "day": random.integers(1, 4, N),
            "sales": pa.ListArray.from_arrays(offsets, values),
            "at": pa.array(random.integers(1, 10**15, N), pa.timestamp("us", "UTC")),
        }
    )
    return spark.createDataFrame(plain).repartition(5, "user_id").cache()


def as_set(frame) -> set:
    return {(row["user_id"], row["day"], tuple(row["sales"]), row["at"]) for row in frame.collect()}


def test_rows_are_read_as_they_were_written_by_spark_and_without_it(spark, rows, table):
    write_parts(rows, table)
    assert as_set(read_spark(spark, table, rows.schema)) == as_set(rows)
    found = read_arrow(table)
    assert found.num_rows == sum(part.rows for part in parts_of(table)) == N
    assert pa.Table.from_batches(read_batches(table, 700)).equals(found.combine_chunks())
    chosen = read_arrow(table, columns=["day"], filters=[("user_id", "in", ["u1", "u2"])])
    assert (chosen.num_rows, chosen.column_names) == (2, ["day"])


def test_values_of_partition_columns_name_folders(spark, rows, table):
    write_parts(rows, table, ["day"])
    assert {part.name.split("/")[0] for part in parts_of(table)} == {"day=1", "day=2", "day=3"}
    schema = rows.select("user_id", "sales", "at", "day").schema
    assert as_set(read_spark(spark, table, schema)) == as_set(rows)
    assert read_arrow(table, within="day=2").num_rows == rows.where("day = 2").count()


def test_folder_that_no_part_is_in_is_named(rows, table):
    write_parts(rows, table, ["day"])
    with pytest.raises(InputError, match=r"table .* has no day=9: run the step"):
        read_arrow(table, within="day=9")


def test_list_has_size_and_digest_of_each_part(rows, table):
    write_parts(rows, table)
    for part in parts_of(table):
        content = (table / part.name).read_bytes()
        assert (part.bytes, part.sha256) == (len(content), hashlib.sha256(content).hexdigest())


def test_each_part_is_a_task_that_reads_it_in_the_order_of_names(spark, rows, table):
    write_parts(rows, table)
    (table / "part-00002-of-a-killed-task.parquet").write_bytes(b"PAR1")

    def first_users(batches):
        users = [user for batch in batches for user in batch["user_id"].to_pylist()]
        yield pa.RecordBatch.from_pydict({"first": users[:1], "n": [len(users)]})

    found = PartTasks(spark, table).mapInArrow(first_users, "first string, n long").collect()
    expected = [
        (users[0].as_py(), part.rows)
        for part in parts_of(table)
        for users in [pq.read_table(pa.BufferReader((table / part.name).read_bytes()))["user_id"]]
    ]
    assert [tuple(row) for row in found] == expected
    assert len(found) == 5


def test_files_that_are_not_in_the_list_are_not_read(spark, rows, table):
    write_parts(rows, table)
    part = parts_of(table)[0].name
    (table / f"part-00000-of-a-killed-task-{part[-12:]}").write_bytes((table / part).read_bytes())
    assert read_arrow(table).num_rows == N
    assert read_spark(spark, table, rows.schema).count() == N


def test_rows_of_a_task_that_is_done_twice_count_once(spark, rows, table):
    """A task writes its part, and dies before it says so; its second try writes another one."""
    batches = rows.where("day = 1").toArrow().to_batches()
    for _ in range(2):
        (written,) = _write_partition(iter(batches), table, ())
    write_list(table, [Part(**part) for part in written.to_pylist()])
    assert len([name for name in sizes_below(table) if name.endswith(".parquet")]) == 2
    assert read_arrow(table).num_rows == read_spark(spark, table, rows.schema).count() == rows.where("day = 1").count()


def test_missing_or_shortened_part_is_named(spark, rows, table):
    write_parts(rows, table)
    part = parts_of(table)[0]
    (table / part.name).write_bytes(b"short")
    with pytest.raises(InputError, match=f"part {part.name} of table .* has 5 bytes, must have {part.bytes}"):
        read_arrow(table)
    (table / part.name).unlink()
    with pytest.raises(InputError, match=f"part {part.name} of table .* is missing"):
        read_spark(spark, table, rows.schema)


def test_table_without_rows_keeps_its_columns(spark, rows, table):
    write_parts(rows.where("day = 9"), table)
    assert read_arrow(table).schema.names == rows.columns
    assert read_spark(spark, table, rows.schema).count() == 0


def test_table_of_this_process_has_one_part(spark, table):
    write_table(pa.table({"x": pa.array([1, 2], pa.int64())}), table)
    assert [part.rows for part in parts_of(table)] == [2]
    assert read_spark(spark, table, spark.range(1).withColumnRenamed("id", "x").schema).count() == 2


def test_table_is_written_batch_by_batch(table):
    schema = pa.schema([("n", pa.int64())])
    batches = [pa.RecordBatch.from_pylist([{"n": number}] * 2, schema) for number in range(300)]
    write_batches(iter(batches), schema, table)
    assert read_arrow(table)["n"].to_pylist() == [number for number in range(300) for _ in range(2)]
    assert [part.rows for part in parts_of(table)] == [600]
    write_batches(iter(()), schema, table)
    assert read_arrow(table).to_pydict() == {"n": []}


def test_only_whole_tables_of_a_folder_are_listed(folder):
    rows = pa.table({"n": [1, 2]})
    for name in ("b", "a", "begun", "shortened", "robbed"):
        write_table(rows, folder / name)
    remove(folder / "begun" / PARTS)
    put(folder / "shortened" / "part-00000.parquet", b"PAR1")
    remove(folder / "robbed" / "part-00000.parquet")
    assert {name: [part.rows for part in parts] for name, parts in whole_tables(folder).items()} == {"a": [2], "b": [2]}
    assert whole_tables(folder / "nowhere") == {}


def test_part_is_written_although_a_request_is_refused(rows, object_store, tmp_path):
    table = object_store(tmp_path.name) / "table"
    object_store.fail_once(REFUSED, "PUT", PARTS)
    write_parts(rows, table)
    assert len(json.loads((table / PARTS).read_text())) == len(parts_of(table)) > 1
