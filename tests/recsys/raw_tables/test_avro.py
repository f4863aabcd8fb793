"""Avro files that fastavro writes, without Spark's module for them."""

import datetime as dt
import uuid
from decimal import Decimal

import pytest

from recsys.config.pipeline import RawTable
from recsys.errors import InputError
from recsys.raw_tables.opening import open_raw_table

fastavro = pytest.importorskip("fastavro", reason="needs fastavro: pip install 'flash-sale-recsys[avro]'")
AT = dt.datetime(2026, 2, 1, 12, 0, 0, 1, tzinfo=dt.UTC)


def write(path, fields, records):
    path.parent.mkdir(parents=True, exist_ok=True)
    schema = fastavro.parse_schema({"type": "record", "name": "line", "fields": fields})
    with path.open("wb") as file:
        fastavro.writer(file, schema, records, codec="deflate")


def field(name, kind):
    return {"name": name, "type": kind}


@pytest.fixture
def read(spark):
    def rows_of(path, **raw):
        frame = open_raw_table(spark, "lines", RawTable(path=str(path), format="avro", **raw))
        return dict(frame.dtypes), sorted((row.asDict(True) for row in frame.collect()), key=str)

    return rows_of


def test_every_kind_of_column_has_its_type(read, tmp_path):
    color = {"type": "enum", "name": "color", "symbols": ["red"]}
    fields = [
        field("id", "string"),
        field("n", ["null", "int"]),
        field("at", {"type": "long", "logicalType": "timestamp-micros"}),
        field("local", {"type": "long", "logicalType": "local-timestamp-millis"}),
        field("day", ["null", {"type": "int", "logicalType": "date"}]),
        field("price", {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}),
        field("key", {"type": "string", "logicalType": "uuid"}),
        field("color", color),
        field("again", "color"),
        field("tags", {"type": "array", "items": "string"}),
        field("attributes", {"type": "map", "values": ["null", "string"]}),
        field("inner", {"type": "record", "name": "inner", "fields": [field("truth", "boolean")]}),
        field("either", ["int", "string"]),  # Spark would make a structure of it: left out
        field("clock", {"type": "int", "logicalType": "time-millis"}),
    ]
    key = uuid.uuid5(uuid.NAMESPACE_URL, "one")
    record = {
        "id": "é",
        "n": None,
        "at": AT,
        "local": dt.datetime(2026, 2, 1),
        "day": dt.date(2026, 2, 1),
        "price": Decimal("1.20"),
        "key": key,
        "color": "red",
        "again": "red",
        "tags": ["a"],
        "attributes": {"a": None, "b": "c"},
        "inner": {"truth": True},
        "either": 1,
        "clock": dt.time(1),
    }
    write(tmp_path / "a.avro", fields, [record])
    kinds, (row,) = read(tmp_path)
    assert kinds == {
        "id": "string",
        "n": "int",
        "at": "timestamp",
        "local": "timestamp_ntz",
        "day": "date",
        "price": "decimal(9,2)",
        "key": "string",
        "color": "string",
        "again": "string",
        "tags": "array<string>",
        "attributes": "map<string,string>",
        "inner": "struct<truth:boolean>",
    }
    same = {name: record[name] for name in ("id", "n", "local", "day", "price", "color", "tags", "attributes", "inner")}
    assert {name: row[name] for name in same} == same
    assert (row["key"], row["at"]) == (str(key), AT.astimezone().replace(tzinfo=None))


def test_files_of_folders_named_column_and_value_may_have_other_columns_and_wider_types(read, tmp_path):
    write(tmp_path / "shop=007/a.avro", [field("n", "int")], [{"n": 1}])
    write(tmp_path / "shop=x/b.avro", [field("new", "string"), field("n", "long")], [{"new": "y", "n": 1 << 40}])
    kinds, rows = read(tmp_path)
    assert kinds == {"n": "bigint", "new": "string", "shop": "string"}
    assert rows == [{"n": 1, "new": None, "shop": "007"}, {"n": 1 << 40, "new": "y", "shop": "x"}]


def test_file_of_another_format_is_named(read, tmp_path):
    (tmp_path / "a.avro").write_text("text")
    with pytest.raises(InputError, match=r"a.avro cannot be read as AVRO \("):
        read(tmp_path)
