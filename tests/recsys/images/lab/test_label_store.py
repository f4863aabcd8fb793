"""The store of labels: what counts, and in how many files."""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from recsys.images.lab import label_store
from recsys.images.lab.label_store import LABELS, LabelStore

AT = datetime(2026, 11, 1, tzinfo=UTC)


def word(photo: str, labels: list[str] | None, by: str = "ann") -> dict[str, object]:
    told = {"taxonomy": "rooms", "source": "person", "by": by, "at": AT}
    return {"image_hash": photo, "image_uri": f"{photo}.jpg", "labels": labels, **told}


def add(store: LabelStore, *words: dict[str, object]) -> None:
    store.add(pa.Table.from_pylist(list(words), LABELS))


def test_taking_back_takes_back_the_last_word_of_the_same_person(tmp_path):
    store = LabelStore(tmp_path, "rooms")
    add(store, word("a", ["pool"]), word("a", ["suite"], "bob"), word("a", None))  # bob's word stays
    add(store, word("b", ["pool"]), word("b", ["suite"]), word("b", None))
    add(store, word("c", None), word("c", ["pool"]), word("d", ["pool"]), word("d", None))
    current = store.current()
    assert dict(zip(current["image_hash"].to_pylist(), current["labels"].to_pylist(), strict=True)) == {
        "a": ["suite"],
        "b": ["pool"],
        "c": ["pool"],
    }


def test_words_said_one_by_one_share_a_file_until_it_is_full(tmp_path, monkeypatch):
    monkeypatch.setattr(label_store, "_PART_ROWS", 3)
    store = LabelStore(tmp_path, "rooms")
    for number in range(8):
        add(store, word(str(number), ["pool"]))
    assert [path.name for path in sorted(Path(tmp_path / "rooms").glob("*.parquet"))] == [
        f"part-{number:06d}.parquet" for number in range(3)
    ]
    assert store.history()["image_hash"].to_pylist() == [str(number) for number in range(8)]
