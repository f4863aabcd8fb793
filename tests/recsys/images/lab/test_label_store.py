from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.images.lab import label_store
from recsys.images.lab.label_store import ERASED, LABELS, LabelStore, said_last
from tests.helpers.labelled_photos import NOON, word


@pytest.fixture
def store(tmp_path) -> LabelStore:
    return LabelStore(tmp_path, "rooms")


def add(store: LabelStore, *words: dict) -> None:
    store.add(pa.Table.from_pylist(list(words), LABELS))


def current(store: LabelStore) -> dict[str, list[str]]:
    return {row["image_hash"]: row["labels"] for row in store.current().to_pylist()}


def test_the_last_word_counts_and_taking_it_back_brings_the_one_before(store):
    add(store, word("a", "pool"))
    add(store, word("a", "suite"), word("b"))
    assert current(store) == {"a": ["suite"], "b": []}
    assert store.undo(["a", "unknown"], "bob", NOON) == 1
    assert current(store) == {"a": ["pool"], "b": []}
    store.undo(["a", "b"], "bob", NOON)
    assert current(store) == {}
    assert store.undo(["a"], "bob", NOON) == 0
    assert store.history().num_rows == 6  # nothing is removed: 3 words, 3 taken back


def test_undo_last_takes_back_whole_imports_one_after_the_other(store):
    add(store, word("a", "pool"), word("b", "pool"))
    add(store, word("a", "suite"), word("c", "suite"), word("a", "pool"))
    assert store.undo_last("bob", NOON) == 3
    assert current(store) == {"a": ["pool"], "b": ["pool"]}
    assert store.undo_last("bob", NOON) == 2
    assert store.undo_last("bob", NOON) == 0
    assert current(store) == {}


def test_undo_last_leaves_out_what_was_taken_back_alone(store):
    add(store, word("a", "pool"))
    add(store, word("a", "suite"), word("b", "suite"))
    store.undo(["a"], "bob", NOON)
    assert store.undo_last("bob", NOON) == 1  # the suite of b
    assert current(store) == {"a": ["pool"]}


ACTIONS = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([("x",), ("y",), (), None])), max_size=12)


@given(ACTIONS)
def test_said_last_is_that_of_a_stack_per_photo(actions):
    stacks: dict[str, list] = {"a": [], "b": []}
    for photo, labels in actions:
        if labels is not None:
            stacks[photo].append(list(labels))
        elif stacks[photo]:
            stacks[photo].pop()
    rows = [word(photo) | {"labels": labels and list(labels), "at": NOON} for photo, labels in actions]
    rows = [
        row | {"labels": None if said is None else list(said)} for row, (_, said) in zip(rows, actions, strict=True)
    ]
    found = said_last(pa.Table.from_pylist(rows, LABELS)).to_pylist()
    assert {row["image_hash"]: row["labels"] for row in found} == {
        photo: stack[-1] for photo, stack in stacks.items() if stack
    }


def test_an_erased_photo_leaves_no_row_and_later_words_are_added_as_before(store):
    add(store, word("a", "pool"), word("b", "pool"))
    add(store, word("a", "suite"))
    assert store.erase_photo("a") == 2
    assert "a" not in store.history()["image_hash"].to_pylist()
    assert current(store) == {"b": ["pool"]}
    add(store, word("c", "suite"))
    assert current(store) == {"b": ["pool"], "c": ["suite"]}


def test_an_erased_name_is_replaced_everywhere_and_the_labels_stay(store):
    add(store, word("a", "pool"), word("b", "pool", by="bob"))
    store.undo(["b"], "ann", NOON + timedelta(days=1))
    assert store.erase_name("ann") == 2
    assert store.history()["by"].to_pylist() == [ERASED, "bob", ERASED]
    assert current(store) == {"a": ["pool"]}
    assert store.erase_name("ann") == 0


# Many parts are merged into one.


class Killed(BaseException):
    pass


@pytest.fixture
def merge_at_4(monkeypatch) -> None:
    monkeypatch.setattr(label_store, "_MOST_PARTS", 4)


def names(store: LabelStore) -> list[str]:
    return sorted(path.name for path in (store.folder / "rooms").glob("part-*"))


def test_many_parts_are_merged_with_the_same_history(store, merge_at_4):
    for number in range(9):
        add(store, word("a", "pool", by=str(number)), word(f"photo {number}"))
    assert store.history()["by"].to_pylist()[::2] == list("012345678")
    assert names(store) == ["part-000000-000006.parquet", "part-000007.parquet", "part-000008.parquet"]


def test_undo_last_takes_back_one_addition_of_a_merged_part(store, merge_at_4):
    for number in range(4):
        add(store, word("a", str(number)), word(f"photo {number}"))
    assert names(store) == ["part-000000-000003.parquet"]
    assert store.undo_last("bob", NOON) == 2
    assert current(store) == {"a": ["2"], "photo 0": [], "photo 1": [], "photo 2": []}
    assert store.undo_last("bob", NOON) == 2
    assert current(store) == {"a": ["1"], "photo 0": [], "photo 1": []}


def kill_at_change(number: int, monkeypatch) -> None:
    """Kill before the change with this number, from 0: a part gets its name, or one is removed."""
    n_changes, put_in_place, unlink = 0, label_store.put_in_place, Path.unlink

    def count() -> None:
        nonlocal n_changes
        n_changes += 1
        if n_changes > number:
            raise Killed

    def counted_put(source, target):
        count()
        put_in_place(source, target)

    def counted_unlink(path, **options):
        if path.name.startswith("part-"):  # not the locks of scratch folders
            count()
        unlink(path, **options)

    monkeypatch.setattr(label_store, "put_in_place", counted_put)
    monkeypatch.setattr(Path, "unlink", counted_unlink)


@pytest.mark.parametrize("n_changes", range(6))
def test_a_merge_that_is_killed_loses_no_word_and_repeats_none(store, merge_at_4, n_changes, monkeypatch):
    for number in range(3):
        add(store, word("a", str(number)))
    with monkeypatch.context() as patched:
        kill_at_change(n_changes, patched)
        with pytest.raises(Killed):
            add(store, word("a", "3"))
    expected = [["0"], ["1"], ["2"]] + ([["3"]] if n_changes else [])
    assert store.history()["labels"].to_pylist() == expected
    add(store, word("a", "4"))
    assert store.history()["labels"].to_pylist() == [*expected, ["4"]]
    assert len(names(store)) <= 2


def test_an_erased_photo_is_gone_from_the_parts_that_a_killed_merge_left(store, merge_at_4, monkeypatch):
    for number in range(3):
        add(store, word("a", str(number)))
    with monkeypatch.context() as patched:
        kill_at_change(2, patched)
        with pytest.raises(Killed):
            add(store, word("b", "3"))
    assert len(names(store)) == 5
    assert store.erase_photo("a") == 3
    parts = [pq.read_table(path) for path in store.folder.rglob("*.parquet")]
    assert [part["image_hash"].to_pylist() for part in parts] == [["b"]]


def test_a_reader_who_comes_while_parts_are_merged_reads_again(store, monkeypatch):
    add(store, word("a", "pool"))
    add(store, word("a", "suite"))
    read = label_store._Part.read

    def merge_first(part):
        monkeypatch.setattr(label_store, "_MOST_PARTS", 3)
        monkeypatch.setattr(label_store._Part, "read", read)
        add(store, word("b"))
        return read(part)

    monkeypatch.setattr(label_store._Part, "read", merge_first)
    assert store.history()["labels"].to_pylist() == [["pool"], ["suite"], []]


def test_parts_without_the_number_of_their_addition_are_one_addition_each(store):
    for number in range(2):
        path = store.folder / "rooms" / f"part-{number:06d}.parquet"
        path.parent.mkdir(exist_ok=True)
        pq.write_table(pa.Table.from_pylist([word("a", str(number)), word(str(number))], LABELS), path)
    assert store.undo_last("bob", NOON) == 2
    assert current(store) == {"a": ["0"], "0": []}
