import hashlib
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.erasure.logs_and_tables import (
    ERASED,
    add_to_erased,
    erase_from_log,
    erase_from_shipped_log,
    erase_from_tables,
    erased_hashes,
)
from recsys.errors import BusyError
from recsys.logs.log_files import LogFile
from recsys.storage.local import held
from recsys.storage.places import sizes_below
from recsys.tables.parts import PARTS, add_to_list, last_list, parts_of, read_arrow, write_file, write_list

ANN = b'{"user_id":"ann","sale_id":"a"}\n'
BOB = b'{"user_id":"bob","sale_id":"ann"}\n'


def test_list_of_erased_users_holds_a_digest_of_each_once(tmp_path):
    assert erased_hashes(tmp_path) == []
    for user_id in ("ann", "ü b", "ann"):
        add_to_erased(tmp_path, user_id)
    assert erased_hashes(tmp_path) == [hashlib.sha256(name.encode()).hexdigest() for name in ("ann", "ü b")]
    assert "ann" not in (tmp_path / ERASED).read_text()


def test_lines_of_a_user_are_removed_from_finished_log_files(tmp_path):
    for name, lines in {"1": ANN + BOB + ANN, "2": BOB, "3": ANN, "4": BOB + ANN[:-9]}.items():
        (tmp_path / f"events-{name}.jsonl").write_bytes(lines)
    (tmp_path / "events-5.jsonl.open").write_bytes(ANN)  # of a process that was killed
    writing = LogFile(tmp_path, "events-6")
    writing.write(ANN)
    assert erase_from_log(tmp_path, "ann") == (5, [tmp_path / "events-6.jsonl.open"])
    left = {file.name: file.read_bytes() for file in tmp_path.glob("*.jsonl")}
    assert left == {"events-1.jsonl": BOB, "events-2.jsonl": BOB, "events-4.jsonl": BOB}
    writing.finish()
    assert erase_from_log(tmp_path, "ann") == (1, [])
    assert erase_from_log(tmp_path / "nowhere", "ann") == (0, [])


def test_log_that_a_job_compacts_is_left_to_it(tmp_path):
    with held(tmp_path), pytest.raises(BusyError):
        erase_from_log(tmp_path, "ann")


def test_rows_of_a_user_are_removed_from_all_tables_of_the_folder(tmp_path):
    at = datetime(2026, 3, 1, 5, 30, tzinfo=UTC)
    instants = pa.array([at] * 3, pa.timestamp("us", "UTC"))
    users = {"user_id": ["ann", "bob", None], "happened_at": instants, "sales": [[1], [], [2, 3]]}
    tables = {
        "nights/1/events/part-0.parquet": pa.table(users),
        "exposures_compacted/day=2026-03-01/part-0.parquet": pa.table(users),
        "nights/1/rejected_rows/part-0.parquet": pa.table({"row": ['{"user_id":"ann"}', '{"user_id":"anna"}', None]}),
        "nights/1/sales/part-0.parquet": pa.table({"sale_id": ["ann"]}),
        "nights/2/events/part-0.parquet": pa.table({"user_id": ["eve"]}),
        "snapshots/x/part-0.parquet": pa.table({"user_id": ["ann"]}),
    }
    for name, table in tables.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, tmp_path / name, use_deprecated_int96_timestamps=name.startswith("nights/1"))
        (tmp_path / name).with_name(".part-0.parquet.crc").write_bytes(b"checksum of Spark")
    assert erase_from_tables(tmp_path, "ann") == {
        "exposures_compacted/day=2026-03-01": 1,
        "nights/1/events": 1,
        "nights/1/rejected_rows": 1,
    }
    for name in ("nights/1/events/part-0.parquet", "exposures_compacted/day=2026-03-01/part-0.parquet"):
        left = pq.ParquetFile(tmp_path / name, coerce_int96_timestamp_unit="us")
        physical = left.schema.column(1).physical_type
        assert physical == ("INT96" if name.startswith("nights") else "INT64")
        rows = left.read().to_pydict()
        assert (rows["user_id"], rows["sales"]) == (["bob", None], [[], [2, 3]])
        assert [each.replace(tzinfo=UTC) for each in rows["happened_at"]] == [at, at]
        assert not (tmp_path / name).with_name(".part-0.parquet.crc").exists()
    assert pq.read_table(tmp_path / "nights/1/rejected_rows/part-0.parquet")["row"].to_pylist() == [
        '{"user_id":"anna"}',
        None,
    ]
    assert (tmp_path / "nights/2/events/.part-0.parquet.crc").exists()
    assert erase_from_tables(tmp_path, "ann") == {}


def test_rows_of_a_user_are_removed_from_listed_parts(tmp_path):
    table = tmp_path / "nights/1/data/step-1/rankings"
    parts = [
        write_file(table, "part-00000-a.parquet", [pa.table({"user_id": ["ann", "bob"]})]),
        write_file(table, "day=1/part-00001-b.parquet", [pa.table({"user_id": ["ann"]})]),
        write_file(table, "part-00002-c.parquet", [pa.table({"user_id": ["eve"]})]),
    ]
    write_list(table, parts)
    assert sum(erase_from_tables(tmp_path, "ann").values()) == 2
    assert sorted(read_arrow(table)["user_id"].to_pylist()) == ["bob", "eve"]
    assert parts[2] in parts_of(table)
    assert sorted(sizes_below(table)) == sorted([PARTS, *(part.name for part in parts_of(table))])
    assert erase_from_tables(tmp_path, "ann") == {}


def test_lines_of_a_user_are_removed_from_shipped_log_files(object_store):
    log = object_store("erased/exposures")
    for name, lines in {"1": ANN + BOB + ANN, "2": BOB, "3": ANN}.items():
        (log / f"pod-{name}.jsonl").write_bytes(lines)
    assert erase_from_shipped_log(log, "ann") == 3
    assert [(log / name).read_bytes() for name in sizes_below(log)] == [BOB, BOB]
    assert "pod-2.jsonl" in sizes_below(log)
    assert erase_from_shipped_log(log, "ann") == 0


def test_rows_of_a_user_are_removed_from_a_table_that_grows_and_files_that_nobody_reads_go(object_store):
    table = object_store("grown/exposures_compacted")
    ann, eve, left = (
        write_file(table, f"day=1/part-0000{number}-a.parquet", [pa.table({"user_id": users})])
        for number, users in enumerate([["ann", "bob"], ["eve"], ["ann"]])
    )
    add_to_list(table, 1, [ann, eve])
    assert erase_from_tables(table.parent, "ann") == {"exposures_compacted/day=1": 2}
    assert sorted(read_arrow(table)["user_id"].to_pylist()) == ["bob", "eve"]
    assert last_list(table)[0] == 2
    assert eve in parts_of(table)
    assert not {ann.name, left.name} & {*sizes_below(table)}
    assert erase_from_tables(table.parent, "ann") == {}
