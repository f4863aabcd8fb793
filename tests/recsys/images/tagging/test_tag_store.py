from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.images.tagging.tag_store import HASHES, TAGGED, TagStore


@pytest.fixture
def store(tmp_path) -> TagStore:
    return TagStore(tmp_path / "photos", "tagger-1")


def write_hashes(store: TagStore, *rows: tuple[str, str | None, str | None]) -> None:
    names = ("image_uri", "stamp", "image_hash")
    with store.new_hashes() as folder:
        table = pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows], HASHES)
        pq.write_table(table, folder / "part.parquet")


def tags(image_hash: str, tag: str = "beach", **others) -> dict:
    found = {"tags": [tag], "probabilities": [0.5], "embedding": [1.0, len(tag)]}
    return {"image_hash": image_hash, **(found if "reason" not in others else {}), **others}


def write_tags(store: TagStore, *rows: dict) -> None:
    with store.new_tags() as folder:
        pq.write_table(pa.Table.from_pylist(list(rows), TAGGED), folder / "part.parquet")


def by_hash(table: pa.Table) -> dict[str, dict]:
    return {row["image_hash"]: row for row in table.to_pylist()}


def parts(store: TagStore) -> list[Path]:
    return sorted((store.folder / "tags" / store.tagger_version).iterdir())


def test_empty_store_has_no_rows_but_all_columns(store):
    assert store.hashes().schema == HASHES
    assert store.tagged().column_names == ["image_hash", "reason", "detail", "tags", "probabilities"]
    assert store.embeddings(pa.array(["h1"])).column_names == ["image_hash", "embedding"]
    assert (store.hashes().num_rows, store.tagged().num_rows, len(store.finished())) == (0, 0, 0)


def test_last_row_of_a_photo_is_used(store):
    write_hashes(store, ("a.jpg", "1", "h1"), ("b.jpg", "1", "h2"))
    write_hashes(store, ("a.jpg", "2", "h3"))
    assert {row["image_uri"]: row["image_hash"] for row in store.hashes().to_pylist()} == {"a.jpg": "h3", "b.jpg": "h2"}
    write_tags(store, tags("h1"), tags("h2"), tags("h1", "desert"))
    write_tags(store, tags("h2", "kitchen"))
    found = by_hash(store.tagged())
    assert store.tagged().num_rows == 2
    assert (found["h1"]["tags"], found["h2"]["tags"]) == (["desert"], ["kitchen"])


def test_last_part_is_used_with_more_than_ten_parts_and_after_one_was_removed(store):
    for number in range(12):
        write_tags(store, tags("h1", f"tag {number}"))
    assert by_hash(store.tagged())["h1"]["tags"] == ["tag 11"]
    for path in parts(store)[2].iterdir():
        path.unlink()
    parts(store)[2].rmdir()
    write_tags(store, tags("h1", "tag 12"))
    assert by_hash(store.tagged())["h1"]["tags"] == ["tag 12"]


def test_photo_that_disappears_has_no_hash_until_it_is_back(store):
    write_hashes(store, ("a.jpg", "1", "h1"))
    write_hashes(store, ("a.jpg", None, None))
    assert store.hashes().to_pylist()[0]["image_hash"] is None
    write_hashes(store, ("a.jpg", "1", "h1"))
    assert store.hashes().to_pylist()[0]["image_hash"] == "h1"


def test_two_photos_with_the_same_content_share_one_row_of_tags(store):
    write_hashes(store, ("a.jpg", "1", "h1"), ("copy.jpg", "7", "h1"))
    write_tags(store, tags("h1"))
    assert [row["image_hash"] for row in store.hashes().to_pylist()] == ["h1", "h1"]
    assert store.tagged().num_rows == 1


def test_incomplete_part_is_never_read_and_is_removed(store):
    write_tags(store, tags("h1"))

    def killed() -> None:
        with store.new_tags() as folder:
            pq.write_table(pa.Table.from_pylist([tags("h2")], TAGGED), folder / "whole.parquet")
            (folder / "half.parquet").write_bytes(b"PAR1 half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        killed()
    assert [path.name[:11] for path in parts(store)] == ["part-000000"]
    assert set(by_hash(store.tagged())) == {"h1"}
    write_tags(store, tags("h3"))
    assert [path.name[:11] for path in parts(store)] == ["part-000000", "part-000001"]
    assert set(by_hash(store.tagged())) == {"h1", "h3"}


def test_part_is_read_only_when_complete(store):
    with store.new_tags() as folder:
        pq.write_table(pa.Table.from_pylist([tags("h1")], TAGGED), folder / "part.parquet")
        assert store.tagged().num_rows == 0
    assert store.tagged().num_rows == 1


def test_part_without_rows_is_not_stored(store):
    write_tags(store)
    with store.new_tags():
        pass
    assert parts(store) == []


def test_each_tagger_version_has_tags_of_its_own_and_all_share_hashes(store):
    other = TagStore(store.folder, "tagger-2")
    write_hashes(store, ("a.jpg", "1", "h1"))
    write_tags(store, tags("h1"))
    write_tags(other, tags("h1", "desert"))
    assert other.hashes() == store.hashes()
    assert (by_hash(store.tagged())["h1"]["tags"], by_hash(other.tagged())["h1"]["tags"]) == (["beach"], ["desert"])


def test_photos_with_transient_failures_are_not_finished(store):
    reasons = ("empty", "not_an_image", "truncated", "unsupported", "missing", "too_large")
    write_tags(store, tags("good"), *(tags(reason, reason=reason) for reason in reasons))
    assert set(store.finished().to_pylist()) == {"good", "empty", "not_an_image", "truncated", "unsupported"}
    write_tags(store, tags("missing"))
    assert "missing" in store.finished().to_pylist()


def test_embeddings_are_those_of_the_given_photos_that_have_one(store):
    write_tags(store, tags("h1"), tags("h2", "desert"), tags("h3", reason="truncated"))
    found = by_hash(store.embeddings(pa.array(["h2", "h3", "h9"])))
    assert set(found) == {"h2"}
    np.testing.assert_array_equal(found["h2"]["embedding"], [1.0, 6.0])
