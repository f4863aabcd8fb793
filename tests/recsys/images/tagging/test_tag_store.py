import numpy as np
import pyarrow as pa
import pytest

from recsys.images.tagging import tag_store
from recsys.images.tagging.tag_store import HASHES, OUTPUTS, TagStore
from recsys.storage.places import Place, put, remove, sizes_below
from recsys.tables.parts import write_file, write_table


@pytest.fixture
def store(folder) -> TagStore:
    return TagStore(folder / "photos", "network-1")


def write_hashes(store: TagStore, *rows: tuple[str, str | None, str | None]) -> None:
    names = ("image_uri", "stamp", "image_hash")
    with store.new_hashes() as folder:
        table = pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows], HASHES)
        write_table(table, folder)


def outputs(image_hash: str, output: int = 7, **others) -> dict:
    found = {"outputs": [output], "probabilities": [0.5], "embedding": [1.0, output]}
    return {"image_hash": image_hash, **(found if "reason" not in others else {}), **others}


def write_outputs(store: TagStore, *rows: dict) -> None:
    with store.new_outputs() as folder:
        write_table(pa.Table.from_pylist(list(rows), OUTPUTS), folder)


def by_hash(table: pa.Table) -> dict[str, dict]:
    return {row["image_hash"]: row for row in table.to_pylist()}


def parts(store: TagStore) -> list[str]:
    """Names of the folders of parts."""
    return sorted({name.partition("/")[0] for name in sizes_below(outputs_folder(store))})


def outputs_folder(store: TagStore) -> Place:
    return store.folder / "networks" / store.network_version


def test_empty_store_has_no_rows_but_all_columns(store):
    assert store.hashes().schema == HASHES
    assert store.outputs().column_names == ["image_hash", "reason", "detail", "outputs", "probabilities"]
    assert store.embeddings(pa.array(["h1"])).column_names == ["image_hash", "embedding"]
    assert (store.hashes().num_rows, store.outputs().num_rows, len(store.finished())) == (0, 0, 0)


def test_last_row_of_a_photo_is_used(store):
    write_hashes(store, ("a.jpg", "1", "h1"), ("b.jpg", "1", "h2"))
    write_hashes(store, ("a.jpg", "2", "h3"))
    assert {row["image_uri"]: row["image_hash"] for row in store.hashes().to_pylist()} == {"a.jpg": "h3", "b.jpg": "h2"}
    write_outputs(store, outputs("h1"), outputs("h2"), outputs("h1", 3))
    write_outputs(store, outputs("h2", 5))
    found = by_hash(store.outputs())
    assert store.outputs().num_rows == 2
    assert (found["h1"]["outputs"], found["h2"]["outputs"]) == ([3], [5])


def test_last_part_is_used_with_more_than_ten_parts_and_after_one_was_removed(store):
    for number in range(12):
        write_outputs(store, outputs("h1", number))
    assert by_hash(store.outputs())["h1"]["outputs"] == [11]
    remove(outputs_folder(store) / parts(store)[2])
    write_outputs(store, outputs("h1", 12))
    assert by_hash(store.outputs())["h1"]["outputs"] == [12]


def test_photo_that_disappears_has_no_hash_until_it_is_back(store):
    write_hashes(store, ("a.jpg", "1", "h1"))
    write_hashes(store, ("a.jpg", None, None))
    assert store.hashes().to_pylist()[0]["image_hash"] is None
    write_hashes(store, ("a.jpg", "1", "h1"))
    assert store.hashes().to_pylist()[0]["image_hash"] == "h1"


def test_two_photos_with_the_same_content_share_one_row_of_outputs(store):
    write_hashes(store, ("a.jpg", "1", "h1"), ("copy.jpg", "7", "h1"))
    write_outputs(store, outputs("h1"))
    assert [row["image_hash"] for row in store.hashes().to_pylist()] == ["h1", "h1"]
    assert store.outputs().num_rows == 1


def test_incomplete_part_is_never_read_and_is_removed(store, monkeypatch):
    write_outputs(store, outputs("h1"))

    def killed() -> None:
        with store.new_outputs() as folder:
            put(folder / "part-00000.parquet", b"PAR1 half")
            monkeypatch.setattr(tag_store, "remove", lambda _: None)  # what is killed removes nothing
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        killed()
    monkeypatch.undo()
    assert [name[:11] for name in parts(store)] == ["part-000000", "part-000001"]
    assert set(by_hash(store.outputs())) == {"h1"}
    write_outputs(store, outputs("h3"))
    assert [name[:11] for name in parts(store)] == ["part-000000", "part-000001"]
    assert set(by_hash(store.outputs())) == {"h1", "h3"}


def test_part_is_read_only_when_complete(store):
    with store.new_outputs() as folder:
        write_file(folder, "part-00000.parquet", [pa.Table.from_pylist([outputs("h1")], OUTPUTS)])
        assert store.outputs().num_rows == 0
        write_table(pa.Table.from_pylist([outputs("h1")], OUTPUTS), folder)
    assert store.outputs().num_rows == 1


def test_part_without_rows_is_not_stored(store):
    write_outputs(store)
    with store.new_outputs():
        pass
    assert parts(store) == []


def test_each_network_version_has_outputs_of_its_own_and_all_share_hashes(store):
    other = TagStore(store.folder, "network-2")
    write_hashes(store, ("a.jpg", "1", "h1"))
    write_outputs(store, outputs("h1"))
    write_outputs(other, outputs("h1", 3))
    assert other.hashes() == store.hashes()
    assert (by_hash(store.outputs())["h1"]["outputs"], by_hash(other.outputs())["h1"]["outputs"]) == ([7], [3])


def test_photos_with_transient_failures_are_not_finished(store):
    reasons = ("empty", "not_an_image", "truncated", "unsupported", "missing", "too_large")
    write_outputs(store, outputs("good"), *(outputs(reason, reason=reason) for reason in reasons))
    assert set(store.finished().to_pylist()) == {"good", "empty", "not_an_image", "truncated", "unsupported"}
    write_outputs(store, outputs("missing"))
    assert "missing" in store.finished().to_pylist()


def test_embeddings_are_those_of_the_given_photos_that_have_one(store):
    write_outputs(store, outputs("h1"), outputs("h2", 6), outputs("h3", reason="truncated"))
    found = by_hash(store.embeddings(pa.array(["h2", "h3", "h9"])))
    assert set(found) == {"h2"}
    np.testing.assert_array_equal(found["h2"]["embedding"], [1.0, 6.0])


def test_part_that_lost_a_file_is_not_read_and_makes_room(store):
    write_outputs(store, outputs("h1"))
    write_outputs(store, outputs("h2"))
    remove(outputs_folder(store) / parts(store)[0] / "part-00000.parquet")
    assert set(by_hash(store.outputs())) == {"h2"}  # so that h1 is tagged again
    assert store.finished().to_pylist() == ["h2"]
    write_outputs(store, outputs("h1", output=5))
    assert [name[:11] for name in parts(store)] == ["part-000001", "part-000002"]
    assert by_hash(store.outputs())["h1"]["outputs"] == [5]
