"""Raw files as people have them, read by one small session; pandas and Python's csv module write them."""

import csv
import datetime as dt
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.config.pipeline import RawTable
from recsys.errors import InputError
from recsys.raw_tables.files import local_files, read_files

INSTANT = pd.Timestamp("2026-03-01 01:02:03.123456789")
ODD_NAMES = ["a b", "a#b", "a%20b", "a[b]c", "a{b,c}d", "a*b?", "a:b", "a:[b]", "é中", "a\\b", "a'b\"c", "a&b=c"]


@pytest.fixture
def read(spark):
    """Return the rows of a raw table as dictionaries, sorted by their text."""

    def rows_of(**raw: Any) -> list[dict[str, Any]]:
        rows = [row.asDict() for row in read_files(spark, "lines", RawTable.model_validate(raw)).collect()]
        return sorted(rows, key=str)

    return rows_of


def utc(*parts: int) -> dt.datetime:
    """Return an instant as PySpark does: without a zone, in that of this process."""
    return dt.datetime(*parts, tzinfo=dt.UTC).astimezone().replace(tzinfo=None)


def test_parquet_of_pandas_is_read_with_every_kind_of_column(spark, tmp_path):
    frame = pd.DataFrame(
        {
            "zoned": pd.DatetimeIndex([INSTANT, None]).tz_localize("Europe/Paris"),
            "naive": [pd.Timestamp("1969-12-31 23:59:59.999999999"), None],
            "day": [dt.date(2026, 3, 1), None],
            "category": pd.Categorical(["a", None]),
            "text": pd.array(["é", None], "string[pyarrow]"),
            "integer": pd.array([1, None], "Int64"),
            "truth": pd.array([True, None], "boolean"),
            "price": [Decimal("1.20"), None],
            "list": [[1, 2], None],
            "struct": [{"a": 1}, None],
            "nothing": [None, None],
            "clock": [dt.time(1, 2), None],  # Spark has no such type
            "half": np.array([1, 2], np.float16),
        },
        index=pd.Index(["x", "y"], name="label"),
    )
    frame.to_parquet(tmp_path / "lines.parquet")
    table = read_files(spark, "lines", RawTable(path=str(tmp_path / "lines.parquet")))
    kinds = {column.name: column.dataType.simpleString() for column in table.schema}
    assert kinds == {
        "zoned": "timestamp",
        "naive": "timestamp_ntz",
        "day": "date",
        "category": "string",
        "text": "string",
        "integer": "bigint",
        "truth": "boolean",
        "price": "decimal(3,2)",
        "list": "array<bigint>",
        "struct": "struct<a:bigint>",
        "nothing": "int",
        "label": "string",
    }
    first, second = table.orderBy("label").collect()
    assert first["zoned"] == utc(2026, 3, 1, 0, 2, 3, 123456)
    assert first["naive"] == dt.datetime(1969, 12, 31, 23, 59, 59, 999999)  # rounded down, before 1970 too
    assert (first["category"], first["text"], first["integer"]) == ("a", "é", 1)
    assert (first["price"], first["list"], first["struct"]["a"]) == (Decimal("1.20"), [1, 2], 1)
    assert [second[name] for name in kinds] == [None] * 11 + ["y"]


def day_of_events(day: int, revenue: list[Any], unit: str = "ns", **others: Any) -> pd.DataFrame:
    at = (
        pd.Series(pd.to_datetime([f"2026-03-0{day} 01:02:03"])).dt.tz_localize("UTC").astype(f"datetime64[{unit}, UTC]")
    )
    return pd.DataFrame({"at": at, "revenue": revenue, **others})


def test_files_of_a_folder_may_differ_in_units_types_and_columns_as_pandas_writes_them(read, tmp_path):
    day_of_events(1, [None], user=[7]).to_parquet(tmp_path / "1.parquet")  # no revenue: a column without a type
    day_of_events(2, [2.5], "us", user=["u8"], shop=["x"]).to_parquet(tmp_path / "2.parquet")
    day_of_events(3, [3], user=["u9"]).to_parquet(tmp_path / "3.parquet")
    assert read(path=str(tmp_path)) == [
        {"at": utc(2026, 3, 1, 1, 2, 3), "revenue": None, "user": "7", "shop": None},
        {"at": utc(2026, 3, 2, 1, 2, 3), "revenue": 2.5, "user": "u8", "shop": "x"},
        {"at": utc(2026, 3, 3, 1, 2, 3), "revenue": 3.0, "user": "u9", "shop": None},
    ]


@pytest.mark.parametrize("units", [("ns", "ns"), ("ns", "us")], ids=str)
def test_partitioned_folder_keeps_its_partition_columns(read, tmp_path, units):
    for day, unit in zip((1, 2), units, strict=True):
        (tmp_path / f"day=2026-03-0{day}").mkdir()
        day_of_events(day, [1.0], unit).to_parquet(tmp_path / f"day=2026-03-0{day}/part.parquet")
    assert [(row["day"], row["at"].day) for row in read(path=str(tmp_path))] == [
        (dt.date(2026, 3, 1), 1),
        (dt.date(2026, 3, 2), 2),
    ]


def test_old_timestamps_of_twelve_bytes_are_read_as_they_are(read, tmp_path):
    pq.write_table(
        pa.table({"at": [dt.datetime(2026, 3, 1)]}), tmp_path / "a.parquet", use_deprecated_int96_timestamps=True
    )
    assert read(path=str(tmp_path)) == [{"at": utc(2026, 3, 1)}]


def test_nanoseconds_stay_numbers_where_the_user_set_sparks_option_for_that(spark, tmp_path):
    """A session of its own: the option is one of the session, and the reader remembers there what it has set."""
    option, ours = "spark.sql.legacy.parquet.nanosAsLong", "spark.recsys.nanosecondsConverted"
    before = spark.conf.get(ours, "false")
    day_of_events(1, [1.0]).to_parquet(tmp_path / "a.parquet")
    spark.conf.set(option, "true")
    spark.conf.unset(ours)
    try:
        table = read_files(spark, "lines", RawTable(path=str(tmp_path)))
        assert table.schema["at"].dataType.simpleString() == "bigint"
    finally:
        spark.conf.set(option, before)
        spark.conf.set(ours, before)


@pytest.mark.parametrize("content", [b"", b"not Parquet", b"PAR1"])
def test_damaged_parquet_file_is_named_with_what_to_do(read, tmp_path, content):
    day_of_events(1, [1.0]).to_parquet(tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_bytes(content)
    with pytest.raises(InputError) as error:
        read(path=str(tmp_path))
    assert f"raw table 'lines': {tmp_path}/b.parquet cannot be read as Parquet (" in str(error.value)
    assert "write it again or remove it" in str(error.value)
    assert "\n" not in str(error.value)


TITLES = ['a "big", sale', "two\nlines", "two\r\nlines", "back\\slash", 'ends in \\"', " blanks ", "5' 3\"", "é中🏖"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_csv_is_read_as_rfc_4180_says(read, tmp_path, encoding, line_end):
    with (tmp_path / "a.csv").open("w", encoding=encoding, newline="") as file:
        writer = csv.writer(file, lineterminator=line_end)
        writer.writerows([["id", "title", "empty"], *([str(n), title, ""] for n, title in enumerate(TITLES))])
    rows = read(path=str(tmp_path / "a.csv"), format="csv")
    read_titles = [title.replace("\r\n", "\n") if line_end == "\r\n" else title for title in TITLES]
    assert rows == [{"id": str(n), "title": title, "empty": None} for n, title in enumerate(read_titles)]


def test_own_options_win_over_those_of_rfc_4180(read, tmp_path):
    (tmp_path / "a.csv").write_bytes('1;"a\\"b"\n2;é\n'.encode("latin-1"))
    options = {"Header": "false", "sep": ";", "escape": "\\", "encoding": "ISO-8859-1"}
    assert read(path=str(tmp_path), format="csv", options=options) == [
        {"_c0": "1", "_c1": 'a"b'},
        {"_c0": "2", "_c1": "é"},
    ]


def test_each_csv_file_of_a_folder_is_read_by_its_own_header(read, tmp_path):
    (tmp_path / "1.csv").write_text("a,b\n1,2\n")
    (tmp_path / "2.csv").write_bytes("\ufeffb,a\r\n4,3\r\n".encode())
    (tmp_path / "3.csv").write_text("a,c\n5,6\n")
    (tmp_path / "4.csv").write_text("")
    assert read(path=str(tmp_path), format="csv") == [
        {"a": "1", "b": "2", "c": None},
        {"a": "3", "b": "4", "c": None},
        {"a": "5", "b": None, "c": "6"},
    ]


def test_json_may_begin_with_a_byte_order_mark(read, tmp_path):
    (tmp_path / "a.json").write_bytes('\ufeff{"a": "é"}\r\n{"a": "b"}\r\n'.encode())
    assert read(path=str(tmp_path), format="json") == [{"a": "b"}, {"a": "é"}]


@pytest.mark.parametrize("indent", [None, 1])
def test_json_may_be_one_document_over_several_lines(read, tmp_path, indent):
    (tmp_path / "a.json").write_text(json.dumps([{"a": "b"}, {"a": "c"}], indent=indent))
    assert read(path=str(tmp_path), format="json") == [{"a": "b"}, {"a": "c"}]


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        (
            "json",
            "a,b\n1,2\n",
            "no line of .* is a JSON record: write one record per line, or set source.raw.lines.opt",
        ),
        ("json", "", "is empty, must hold at least one record"),
        ("csv", "", "is empty, must hold the names of its columns in the first line"),
    ],
)
def test_file_without_a_column_is_an_error_with_the_next_step(read, tmp_path, kind, content, message):
    (tmp_path / "a").write_text(content)
    with pytest.raises(InputError, match=f"raw table 'lines': .*{message}"):
        read(path=str(tmp_path / "a"), format=kind)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_every_character_of_a_path_is_literal(read, tmp_path, name):
    folder = tmp_path / name / "day=1"
    folder.mkdir(parents=True)
    (folder / f"{name}.csv").write_text('a\n"1\n2"\n')
    (folder / "other.csv").write_text("a,b\n3,4\n")  # another header: files are read one by one
    (tmp_path / "ab").mkdir()  # would be found by a[b]*
    (tmp_path / "ab/x.csv").write_text("a\n9\n")
    one, both = (
        RawTable(path=str(folder / f"{name}.csv"), format="csv"),
        RawTable(path=str(tmp_path / name), format="csv"),
    )
    assert read(**one.model_dump(exclude_none=True)) == [{"a": "1\n2"}]
    found = read(**both.model_dump(exclude_none=True))
    assert [(row["a"], row["b"], row["day"]) for row in found] == [("1\n2", None, 1), ("3", "4", 1)]
    assert [len(local_files(each)) for each in (one, both)] == [1, 2]  # what a fingerprint is made of


def test_pattern_expands_wildcards_below_a_literal_folder(read, tmp_path):
    for folder, value in (("2026-01", 1), ("2026-02/deep", 2), ("2025-12", 3)):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "x [a].csv").write_text(f"a\n{value}\n")
    for pattern, values in {
        "2026-*/*.csv": ["1"],
        "2026-*": ["1", "2"],
        "**/*.csv": ["1", "2", "3"],
        "202[56]-1?/x*": ["3"],
    }.items():
        raw = {"pattern": f"{tmp_path}/{pattern}", "format": "csv"}
        assert [row["a"] for row in read(**raw)] == values, pattern
        assert len(local_files(RawTable.model_validate(raw))) == len(values)


def test_folders_of_any_name_are_read_at_every_depth(read, tmp_path):
    for folder in ("2026-01", "2026-02"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.csv").write_text(f"a\n{folder}\n")
    (tmp_path / "linked").symlink_to(tmp_path / "2026-01")
    (tmp_path / "_old").mkdir()
    (tmp_path / "_old/x.csv").write_text("a\nhidden\n")
    assert [row["a"] for row in read(path=str(tmp_path), format="csv")] == ["2026-01", "2026-01", "2026-02"]


def test_link_to_a_folder_above_is_not_followed_without_end(read, tmp_path):
    (tmp_path / "x.csv").write_text("a\n1\n")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert read(path=str(tmp_path), format="csv") == [{"a": "1"}]
    assert len(local_files(RawTable(pattern=f"{tmp_path}/*"))) == 2  # x.csv, and loop/x.csv that the pattern names


def test_working_directory_is_no_part_of_a_pattern(tmp_path, monkeypatch):
    (tmp_path / "[ab]").mkdir()
    monkeypatch.chdir(tmp_path / "[ab]")
    file = Path("x.csv").absolute()
    file.write_text("a\n1\n")
    assert local_files(RawTable(pattern="*.csv", format="csv")) == [file]


def test_pattern_may_name_one_file(tmp_path):
    file = tmp_path / "x.csv"
    file.write_text("a\n1\n")
    assert local_files(RawTable(pattern=str(file), format="csv")) == [file]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"path": "{}/a.csv"}, "does not exist: correct source.raw.lines.path"),
        (
            {"path": "{}/2026-*"},
            "does not exist: correct .*; a pattern of names is written as source.raw.lines.pattern",
        ),
        ({"pattern": "{}/2026-*"}, "no file matches .*2026-.*: correct source.raw.lines.pattern, in which"),
        ({"path": "{}/_hidden.csv"}, "holds no file whose name starts with neither '_' nor '.'"),
        ({"path": "{}"}, "holds no file whose name starts with neither"),
    ],
)
def test_absent_files_are_an_error_that_names_key_and_rule(read, tmp_path, raw, message):
    (tmp_path / "_hidden.csv").write_text("a\n1\n")
    with pytest.raises(InputError, match=f"raw table 'lines': .*{message}"):
        read(format="csv", **{key: value.format(tmp_path) for key, value in raw.items()})


def test_path_may_be_a_file_url(read, tmp_path):
    (tmp_path / "a b.csv").write_text("a\n1\n")
    assert read(path=f"file://{tmp_path}/a b.csv", format="csv") == [{"a": "1"}]
    assert local_files(RawTable(path=f"file://{tmp_path}")) == [Path(f"{tmp_path}/a b.csv")]
