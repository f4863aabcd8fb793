import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.raw_tables.workers import ParquetFile, aligned, read_parquet


def test_rows_beyond_the_bits_of_those_that_count_do_count(tmp_path):
    pq.write_table(pa.table({"n": list(range(12)), "other": [0] * 12}), tmp_path / "a.parquet")
    keeps = zlib.compress(np.packbits([False, True, True, False, True, True, True, True]).tobytes())
    file = ParquetFile(str(tmp_path / "a.parquet"), {"shop": "007"}, keeps)
    rows = pa.concat_tables(read_parquet(file, ["n", "absent"], pa.schema([("shop", pa.string())])))
    assert rows.column_names == ["n", "shop"]
    assert rows["n"].to_pylist() == [1, 2, 4, 5, 6, 7, 8, 9, 10, 11]
    assert set(rows["shop"].to_pylist()) == {"007"}


def test_instants_in_nanoseconds_are_rounded_down_and_missing_columns_are_null():
    wanted = pa.schema([("new", pa.string()), ("at", pa.timestamp("us", "UTC")), ("n", pa.int64())])
    rows = pa.table({"n": pa.array([1], pa.int32()), "at": pa.array([-1], pa.timestamp("ns", "UTC"))})
    assert aligned(rows, wanted)["at"].cast("int64").to_pylist() == [-1]
    assert aligned(rows, wanted).drop_columns("at").to_pylist() == [{"new": None, "n": 1}]
