"""What workers read from an object store is what Spark makes of the same files on a disk."""

import datetime as dt
import gzip
import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.config.pipeline import RawTable
from recsys.errors import InputError
from recsys.raw_tables.opening import open_raw_table

CSV = '\ufeffid,title,,id\r\n1,"a ""b"", c",x,2\r\n\r\n2,"line\nbreak",,\r\n3,short\r\n4,é,x,5,too long\r\n'


@pytest.fixture
def both(spark, object_store, tmp_path):
    """Return columns with types, and rows, of files as workers read them and as Spark does."""

    def read(files, **raw):
        store = object_store(tmp_path.name)
        for name, content in files.items():
            (tmp_path / "disk" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "disk" / name).write_bytes(content)
            (store / name).write_bytes(content)
        key = "pattern" if "pattern" in raw else "path"
        below = raw.pop(key, "")
        frames = [
            open_raw_table(spark, "lines", RawTable.model_validate({key: f"{root}/{below}".rstrip("/"), **raw}))
            for root in (store, tmp_path / "disk")
        ]
        return [
            (dict(frame.dtypes), sorted((row.asDict(True) for row in frame.collect()), key=_by_values))
            for frame in frames
        ]

    return read


def _by_values(row):
    return sorted(map(str, row.items()))  # Spark puts the columns of JSON in another order


def parquet(**columns):
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue().to_pybytes()


def test_parquet_files_with_other_columns_and_wider_types_are_the_same(both):
    at = pa.array([1_767_225_600_000_000_001, -1], pa.timestamp("ns", "UTC"))
    files = {
        "dt=2026-02-01/a.parquet": parquet(
            n=pa.array([1], pa.int32()), x=pa.array([1.5], pa.float32()), day=[dt.date(2026, 2, 1)]
        ),
        "dt=2026-02-02/b.parquet": parquet(x=[2.5], n=pa.array([1 << 40], pa.int64()), new=["é"]),
        "dt=2026-02-02/c.parquet": parquet(at=at, n=pa.array([None, None], pa.null())),
        "_SUCCESS": b"",
    }
    by_workers, by_spark = both(files)
    assert by_workers == by_spark
    kinds, rows = by_workers
    assert kinds == {"n": "bigint", "x": "double", "day": "date", "new": "string", "at": "timestamp", "dt": "date"}
    assert {"n": 1, "x": 1.5, "day": dt.date(2026, 2, 1), "new": None, "at": None, "dt": dt.date(2026, 2, 1)} in rows


def test_parquet_of_pandas_is_the_same(both, tmp_path):
    frame = pd.DataFrame(
        {
            "category": pd.Categorical(["a", None]),
            "text": pd.array(["é", None], "string[pyarrow]"),
            "list": [[1, 2], None],
            "struct": [{"a": 1}, None],
            "nothing": [None, None],
            "clock": [dt.time(1, 2), None],
            "naive": [pd.Timestamp("1969-12-31 23:59:59.999999999"), None],
        }
    )
    frame.to_parquet(tmp_path / "lines.parquet")
    by_workers, by_spark = both({"lines.parquet": (tmp_path / "lines.parquet").read_bytes()})
    assert by_workers[1] == by_spark[1]
    assert "clock" not in by_workers[0]


def test_csv_files_are_the_same_whatever_their_lines(both):
    files = {"a.csv": CSV.encode(), "b.csv.gz": gzip.compress(b"id,title,new\n9,nine,n\n"), "c.csv": b""}
    by_workers, by_spark = both(files, format="csv")
    assert by_workers == by_spark
    assert by_workers[0] == {
        "id0": "string",
        "title": "string",
        "_c2": "string",
        "id3": "string",
        "id": "string",
        "new": "string",
    }


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ('id;title\n1;"a;""b"\n2;5" disk\n', {"sep": ";"}),
        ('1|"2\n', {"sep": "|", "header": "false", "quote": ""}),
        ("id\ttitle\n1\té\n", {"sep": "\t", "encoding": "ISO-8859-1"}),
    ],
)
def test_csv_options_mean_the_same(both, text, options):
    by_workers, by_spark = both({"a.csv": text.encode(options.get("encoding", "utf-8"))}, format="csv", options=options)
    assert by_workers == by_spark


def test_json_records_are_the_same_whatever_their_types(both):
    records = [
        {"id": 1, "x": 1, "nested": {"a": 1}, "list": [1, 2.5], "mixed": 1, "nothing": None, "empty": []},
        {"id": 2, "x": 2.5, "nested": {"b": "é"}, "list": [], "mixed": "text", "big": 1 << 40, "empty": None},
        {"id": "03", "truth": True, "mixed": {"a": 1}},
    ]
    lines = "\n".join(json.dumps(each, ensure_ascii=False, separators=(",", ":")) for each in records)
    files = {"dt=1/a.json": b"\xef\xbb\xbf" + lines.encode() + b"\n\n", "dt=2/b.json": b'{"id": 4}\n'}
    by_workers, by_spark = both(files, format="json")
    assert by_workers == by_spark
    assert len(by_workers[1]) == 4


def test_json_documents_are_the_same(both):
    text = json.dumps([{"id": 1, "at": "2026-02-01T00:00:00Z"}, {"id": 2}], indent=1)
    by_workers, by_spark = both({"a.json": text.encode()}, format="json")
    assert by_workers == by_spark


def test_types_of_folders_are_those_of_the_configuration_otherwise_what_all_values_are(both):
    files = {f"shop={shop}/n={n}/a.csv": b"id\n1\n" for shop, n in [("007", "1"), ("12", "3000000000")]}
    files["shop=__HIVE_DEFAULT_PARTITION__/n=2/a.csv"] = b"id\n2\n"
    by_workers, by_spark = both(files, format="csv", types={"shop": "string"})
    assert by_workers == by_spark
    kinds, rows = by_workers
    assert kinds == {"id": "string", "shop": "string", "n": "bigint"}
    assert sorted(str(row["shop"]) for row in rows) == ["007", "12", "None"]


def test_pattern_means_the_same(both):
    files = {f"2026-0{month}/{name}.csv": f"id\n{month}\n".encode() for month in (1, 2) for name in ("a", "b")}
    by_workers, by_spark = both(files, pattern="2026-*/a.csv", format="csv")
    assert by_workers == by_spark
    assert len(by_workers[1]) == 2


@pytest.mark.parametrize(
    ("content", "raw", "message"),
    [
        (None, {}, r"holds no file with content: correct source.raw.lines.path"),
        (b"text", {}, r"cannot be read as PARQUET \(.*write it again or remove it"),
        (
            b"a\n",
            {"format": "csv", "options": {"mode": "FAILFAST"}},
            r"options mode are known to Spark alone.*Leave them out",
        ),
        (b"ORC", {"format": "orc"}, r"ORC at .* is read by Spark alone, which has no file system for this URL"),
        (b"no json\n", {"format": "json"}, r"is a JSON record: write one record per line"),
    ],
)
def test_what_cannot_be_read_is_named_with_the_next_step(spark, object_store, tmp_path, content, raw, message):
    folder = object_store(f"{tmp_path.name}/odd")
    if content:
        (folder / "a").write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        open_raw_table(spark, "lines", RawTable(path=str(folder), **raw))
    assert "S3AFileSystem" not in str(error.value)


def test_s3a_is_the_same_place_as_s3(spark, object_store, tmp_path):
    (object_store(tmp_path.name) / "a.csv").write_bytes(b"id\n1\n")
    raw = RawTable(path=f"s3a://shop/{tmp_path.name}/a.csv", format="csv")
    assert [row["id"] for row in open_raw_table(spark, "lines", raw).collect()] == ["1"]
