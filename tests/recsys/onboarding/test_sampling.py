import bz2
import gzip
import json

import pandas as pd
import pytest

from recsys.errors import InputError
from recsys.onboarding import sampling
from recsys.onboarding.sampling import Sample, read_sample

HEADER_AND_ROWS = [["id", "title"], ["1", "one"], ["2", "two"]]


def sampled(tmp_path, name: str, content: bytes) -> Sample:
    (tmp_path / name).write_bytes(content)
    return read_sample(str(tmp_path / name))


def table(sample: Sample) -> list[list[object]]:
    """The names of the columns, and the rows."""
    return [
        [each.name for each in sample.columns],
        *map(list, zip(*(each.rows for each in sample.columns), strict=True)),
    ]


@pytest.mark.parametrize(
    ("content", "options"),
    [
        (b"id,title\n1,one\n2,two\n", {}),
        (b"\xef\xbb\xbfid,title\r\n1,one\r\n2,two\r\n", {}),  # byte-order mark, line ends of Windows
        (b"id\ttitle\n1\tone\n2\ttwo\n", {"sep": "\t"}),
        (b"id|title\n1|one\n2|two", {"sep": "|"}),
        ("id,title\n1,one\n2,two\n".encode("utf-16"), {"encoding": "UTF-16"}),
    ],
)
def test_separator_and_encoding_are_found(tmp_path, content, options):
    sample = sampled(tmp_path, "a.csv", content)
    assert (sample.raw.format, sample.raw.options) == ("csv", options)
    assert table(sample) == HEADER_AND_ROWS


def test_csv_of_an_office_program_is_read(tmp_path):
    text = 'Artikel;Preis;Titel\n1;12,50;"Caf\u00e9; \u00e0 la\ncr\u00e8me"\n2;1.234,00;"ein ""Wort"""\n'
    sample = sampled(tmp_path, "a.csv", text.encode("latin-1"))
    assert sample.raw.options == {"sep": ";", "encoding": "ISO-8859-1"}
    assert table(sample) == [
        ["Artikel", "Preis", "Titel"],
        ["1", "12,50", "Caf\u00e9; \u00e0 la\ncr\u00e8me"],
        ["2", "1.234,00", 'ein "Wort"'],
    ]
    assert "line breaks in values" in sample.notes


def test_euro_sign_of_windows_is_no_control_character(tmp_path):
    sample = sampled(tmp_path, "a.csv", "id,title\n1,\u20ac 5 d\u00e9j\u00e0 vu\n".encode("cp1252"))
    assert sample.raw.options == {"encoding": "windows-1252"}
    assert sample.columns[1].rows == ["\u20ac 5 d\u00e9j\u00e0 vu"]


@pytest.mark.parametrize(
    ("content", "options", "titles"),
    [
        (b'id,title\n1,"a \\"b\\", c"\n2,"d"\n3,e\n', {"escape": "\\"}, ['a "b", c', "d", "e"]),
        (b'id\ttitle\n1\t"5 inch\n2\tb\n3\tc\n', {"sep": "\t", "quote": ""}, ['"5 inch', "b", "c"]),
        (b'id,title\n1,"a ""b"", c"\n2,d\n', {}, ['a "b", c', "d"]),
    ],
)
def test_quotes_are_doubled_escaped_or_none(tmp_path, content, options, titles):
    sample = sampled(tmp_path, "a.csv", content)
    assert sample.raw.options == options
    assert sample.columns[1].rows == titles


def test_file_without_header_has_columns_with_numbers(tmp_path):
    sample = sampled(tmp_path, "a.csv", b"u1,17,2026-03-01\nu2,18,2026-03-02\n")
    assert sample.raw.options == {"header": "false"}
    assert table(sample) == [["_c0", "_c1", "_c2"], ["u1", "17", "2026-03-01"], ["u2", "18", "2026-03-02"]]


def test_names_that_are_empty_or_there_twice_are_those_of_spark(tmp_path):
    sample = sampled(tmp_path, "a.csv", b"id,ID,,x\na,b,c,d\n")
    assert table(sample)[0] == ["id0", "ID1", "_c2", "x"]


@pytest.mark.parametrize(("pack", "name"), [(gzip.compress, "a.csv.gz"), (bz2.compress, "a.csv.bz2")])
def test_packed_file_is_unpacked(tmp_path, pack, name):
    assert table(sampled(tmp_path, name, pack(b"id,title\n1,one\n2,two\n"))) == HEADER_AND_ROWS


def test_json_lines_and_documents_are_records_with_a_column_per_field(tmp_path):
    records = [{"user": {"id": 7, "a b": 1}, "tags": ["x"]}, {"user": {"id": 8}, "price": 2.5}]
    for content in ("\n".join(map(json.dumps, records)), json.dumps(records), json.dumps(records, indent=1)):
        sample = sampled(tmp_path, "a.json", content.encode())
        assert sample.raw.format == "json"
        assert {each.name: each.rows for each in sample.columns} == {
            "user.id": [7, 8],
            "user.a b": [1, None],
            "tags": [["x"], None],
            "price": [None, 2.5],
        }
        assert [each.sql for each in sample.columns][:2] == ["`user`.id", "`user`.`a b`"]


def test_parquet_keeps_types_and_zones(tmp_path):
    frame = pd.DataFrame(
        {
            "id": pd.array([1, None], "Int64"),
            "local": pd.to_datetime(["2026-03-01 10:00:00.000000001", "2026-03-02 00:00:00.0"]),  # nanoseconds
            "zoned": pd.to_datetime(["2026-03-01", "2026-03-02"]).tz_localize("Europe/Paris"),
        }
    )
    frame.to_parquet(tmp_path / "a.parquet")
    ids, local, zoned = read_sample(str(tmp_path / "a.parquet")).columns
    assert ids.rows == [1, None]
    assert [each.tzinfo is None for each in (local.rows[0], zoned.rows[0])] == [True, False]
    frame.to_parquet(tmp_path / "b.parquet", use_deprecated_int96_timestamps=True)
    assert read_sample(str(tmp_path / "b.parquet")).columns[1].rows[0].tzinfo is not None  # Spark reads them as UTC


def test_folders_named_by_values_are_columns(tmp_path):
    for day in ("2026-03-01", "2026-03-02"):
        folder = tmp_path / "events" / "shop=07" / f"day={day}"
        folder.mkdir(parents=True)
        (folder / "part-0.csv").write_text(f"user,item\nu{day[-1]},i1\n")
        (folder / "_SUCCESS").touch()
    sample = read_sample(str(tmp_path / "events"))
    assert table(sample) == [
        ["shop", "day", "user", "item"],
        [7, "2026-03-01", "u1", "i1"],
        [7, "2026-03-02", "u2", "i1"],
    ]
    assert (sample.raw.path, sample.raw.pattern) == (str(tmp_path / "events"), None)
    assert table(read_sample(f"{tmp_path}/events/shop=*/*/*.csv")) == table(sample)


def test_pattern_is_sampled_from_its_first_middle_and_last_file(tmp_path):
    for number in range(5):
        (tmp_path / f"{number}.csv").write_text(f"id,title\n{number},t\n")
    sample = read_sample(f"{tmp_path}/*.csv")
    assert sample.columns[0].rows == ["0", "2", "4"]
    assert (sample.raw.path, sample.raw.pattern) == (None, f"{tmp_path}/*.csv")


def test_large_file_is_read_in_parts_at_its_start_middle_and_end(tmp_path, monkeypatch):
    monkeypatch.setattr(sampling, "ROWS", 100)
    lines = b"id,title\n" + b"".join(b"%d,title %d\n" % (number, number) for number in range(1000))
    monkeypatch.setattr(sampling, "_BYTES", 1 << 20)
    assert [row[0] for row in table(sampled(tmp_path, "a.csv", lines))[1:]] == [str(n) for n in range(100)]
    monkeypatch.setattr(sampling, "_BYTES", 540)
    # 13,789 bytes, 14 a line from line 100 on: the start has 45 lines, parts of 135 bytes begin in lines 502 and 990
    expected = [str(n) for n in (*range(45), *range(503, 512), *range(991, 1000))]
    assert [row[0] for row in table(sampled(tmp_path, "a.csv", lines))[1:]] == expected
    packed = table(sampled(tmp_path, "a.csv.gz", gzip.compress(lines)))  # its middle cannot be read by itself
    assert [row[0] for row in packed[1:]] == [str(n) for n in range(45)]


def test_large_file_with_line_breaks_in_values_is_read_from_its_start(tmp_path, monkeypatch):
    monkeypatch.setattr(sampling, "_BYTES", 500)
    lines = b"id,title\n" + b"".join(b'%d,"title\n%d"\n' % (number, number) for number in range(1000))
    assert table(sampled(tmp_path, "a.csv", lines))[-1][0] == "35"  # 9 + 10 * 12 + 26 * 14 bytes


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.xlsx", b"PK\x03\x04...", "is an Excel workbook or a zip file, must be CSV, JSON or Parquet"),
        ("a.bin", b"a,b\n\0\0", "is no text"),
        ("a.csv", b"title\none\ntwo\n", "has one column only"),
        ("a.csv", b"", "is empty"),
        ("a.csv", b"id,title\n", "has no row"),
        ("a.json", b"[1, 2]", "holds other JSON than records"),
        ("a.json", b'{"a": 1}\n{"a": \n', "is not readable as JSON"),
        ("a.parquet", b"PAR1 and nothing else", "cannot be read as Parquet"),
        ("a.zip", b"PK", "is packed as .zip, which Spark does not read: unpack it"),
    ],
)
def test_other_files_are_refused_with_advice(tmp_path, name, content, said):
    with pytest.raises(InputError, match=said):
        sampled(tmp_path, name, content)


def test_location_without_a_file_or_behind_a_url_is_refused(tmp_path):
    for location, said in (
        (f"{tmp_path}/none.csv", "does not exist"),
        (f"{tmp_path}/*.csv", "matches no file"),
        ("s3://bucket/a.csv", "is a URL"),
    ):
        with pytest.raises(InputError, match=said):
            read_sample(location)
