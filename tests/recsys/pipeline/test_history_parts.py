import numpy as np
import pyarrow as pa
import pytest

from recsys.instants import DAY
from recsys.pipeline import history_parts
from recsys.pipeline.event_days import day_number
from recsys.pipeline.histories import user_histories
from recsys.pipeline.history_parts import EarlierHistories, write_histories
from recsys.shop.catalogue import Catalogue
from recsys.tables.parts import parts_of, read_arrow
from recsys.testing.shops import random_shop

PARTS = 3


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(history_parts, "_BATCH_USERS", 7)


def rows(table) -> dict[str, dict]:
    return {row["user_id"]: row for row in read_arrow(table).to_pylist()}


def digests(table) -> list[tuple[int, str]]:
    return [(part.rows, part.sha256) for part in parts_of(table)]


def days_of(events: pa.Table) -> np.ndarray:
    return events["occurred_at"].cast(pa.int64()).to_numpy() // DAY


def test_parts_hold_what_plain_spark_gathers(spark, tmp_path):
    data = random_shop(5)
    events = spark.createDataFrame(data.events)
    write_histories(events, data.catalogue, tmp_path / "user_histories", PARTS)
    assert len(parts_of(tmp_path / "user_histories")) == PARTS
    expected = user_histories(events, data.catalogue).collect()
    assert rows(tmp_path / "user_histories") == {row["user_id"]: row.asDict() for row in expected}


@pytest.mark.parametrize("seed", range(4))
def test_events_of_some_days_put_into_earlier_histories_give_the_bytes_of_all_events(spark, tmp_path, seed):
    rng = np.random.default_rng(seed)
    data = random_shop(seed)
    day = days_of(data.events)
    days = sorted(set(day.tolist()))
    anew = set(rng.choice(days, rng.integers(1, len(days)), replace=False).tolist())
    is_anew = np.isin(day, sorted(anew))
    # Before, fewer events were known of those days.
    earlier_events = data.events.filter(pa.array(~is_anew | (rng.random(len(day)) < 0.5)))
    gone = data.catalogue.sale_ids[0]
    kept = [number for number, sale_id in enumerate(data.catalogue.sale_ids) if sale_id != gone]
    catalogue = _catalogue_of(data.catalogue, kept)
    write_histories(spark.createDataFrame(earlier_events), data.catalogue, tmp_path / "earlier", PARTS)
    names = tuple(part.name for part in parts_of(tmp_path / "earlier"))
    positions = tuple(catalogue.position.get(sale_id, -1) for sale_id in data.catalogue.sale_ids)
    earlier = EarlierHistories(tmp_path / "earlier", names, tuple(sorted(anew)), positions)
    some = spark.createDataFrame(data.events.filter(pa.array(is_anew)))
    write_histories(some, catalogue, tmp_path / "carried", PARTS, earlier)
    write_histories(spark.createDataFrame(data.events), catalogue, tmp_path / "anew", PARTS)
    assert rows(tmp_path / "carried") == rows(tmp_path / "anew")
    assert digests(tmp_path / "carried") == digests(tmp_path / "anew")


def _catalogue_of(catalogue: Catalogue, kept: list[int]) -> Catalogue:
    chosen = [catalogue.sale_ids[number] for number in kept]
    return Catalogue(
        chosen,
        catalogue.opens_at[kept],
        catalogue.closes_at[kept],
        catalogue.prices[kept],
        [catalogue.texts[number] for number in kept],
        [catalogue.titles[number] for number in kept],
        [catalogue.attributes[number] for number in kept],
    )


def test_users_of_the_same_hash_stay_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(history_parts.zlib, "crc32", lambda _: 1)
    before = history_parts._Buffer(iter([_histories(["a", "c"], 1), _histories(["d"], 1)]))
    after = history_parts._Buffer(iter([_histories(["b", "c"], 2)]))
    merged = [
        row for batch in history_parts._as_batches(history_parts._merged(before, after)) for row in batch.to_pylist()
    ]
    assert {row["user_id"]: row["occurred_at"] for row in merged} == {"a": [1], "b": [2], "c": [1, 2], "d": [1]}


def _histories(users: list[str], instant: int) -> history_parts._Rows:
    events = pa.RecordBatch.from_pydict(
        {
            "user_id": users,
            "position": pa.array([0] * len(users), pa.int32()),
            "purchase": [False] * len(users),
            "occurred_at": [instant] * len(users),
            "recorded_at": [instant] * len(users),
        }
    )
    (histories,) = history_parts._gathered(iter([events]))
    return histories


def test_shop_without_events_has_empty_parts(spark, tmp_path):
    data = random_shop(1)
    events = spark.createDataFrame(data.events).limit(0)
    write_histories(events, data.catalogue, tmp_path / "user_histories", PARTS)
    assert [part.rows for part in parts_of(tmp_path / "user_histories")] == [0] * PARTS


def test_earlier_histories_stay_where_no_day_differs(spark, tmp_path):
    data = random_shop(1)
    events = spark.createDataFrame(data.events)
    write_histories(events, data.catalogue, tmp_path / "earlier", PARTS)
    names = tuple(part.name for part in parts_of(tmp_path / "earlier"))
    earlier = EarlierHistories(tmp_path / "earlier", names, (), tuple(range(len(data.catalogue))))
    write_histories(events.limit(0), data.catalogue, tmp_path / "carried", PARTS, earlier)
    assert digests(tmp_path / "carried") == digests(tmp_path / "earlier")


def test_number_of_a_day_is_that_of_its_name():
    assert day_number("19700102") == 1


def _events(*rows: tuple[str, int, bool, int, int]) -> pa.RecordBatch:
    names = ["user_id", "position", "purchase", "occurred_at", "recorded_at"]
    kinds = [pa.string(), pa.int32(), pa.bool_(), pa.int64(), pa.int64()]
    columns = zip(*rows, strict=True)
    return pa.RecordBatch.from_arrays([pa.array(each, kind) for each, kind in zip(columns, kinds, strict=True)], names)


def test_events_of_users_of_one_hash_are_gathered_across_batches(monkeypatch):
    monkeypatch.setattr(history_parts.zlib, "crc32", lambda text: 1 if text in (b"a", b"b") else 2)
    batches = [
        _events(("b", 0, False, 5, 5), ("a", 0, False, 4, 4)),
        _events(("b", 0, False, 1, 1), ("c", 0, True, 9, 9)),
    ]
    found = [
        row for batch in history_parts._as_batches(history_parts._gathered(iter(batches))) for row in batch.to_pylist()
    ]
    assert [(row["user_id"], row["occurred_at"]) for row in found] == [("a", [4]), ("b", [1, 5]), ("c", [9])]


def test_events_of_one_instant_are_in_order_of_sale_kind_and_record():
    rows = [
        ("u", 2, False, 7, 8),
        ("u", 1, True, 7, 8),
        ("u", 1, False, 7, 9),
        ("u", 1, False, 7, 8),
        ("u", 3, False, 6, 6),
    ]
    (found,) = history_parts._gathered(iter([_events(*rows)]))
    assert {name: values.tolist() for name, values in found.lists.items()} == {
        "sales": [3, 1, 1, 1, 2],
        "purchases": [False, False, False, True, False],
        "occurred_at": [6, 7, 7, 7, 7],
        "recorded_at": [6, 8, 9, 8, 8],
    }
