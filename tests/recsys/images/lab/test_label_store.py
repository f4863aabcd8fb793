from datetime import timedelta

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
