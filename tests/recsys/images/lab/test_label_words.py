from datetime import timedelta

from recsys.images.lab import label_words
from recsys.images.lab.label_store import LabelStore
from tests.helpers.label_readings import MULTI
from tests.helpers.labelled_photos import NOON, taxonomy


class Saying:
    """Says words about photos whose content is that of `contents`, by URI."""

    def __init__(self, folder, rooms, **contents: str):
        self.store, self.rooms, self.contents = LabelStore(folder, "rooms"), rooms, contents

    def say(self, *words: label_words.Word) -> label_words.Said:
        seen = [{"image_uri": uri, "image_hash": content, "reason": None} for uri, content in self.contents.items()]
        seen += [{"image_uri": "bad", "image_hash": None, "reason": "missing", "detail": "gone"}]
        return label_words.say(label_words.Reading(list(words)), seen, self.rooms, self.store)

    def current(self) -> dict[str, list[str]]:
        return {row["image_hash"]: row["labels"] for row in self.store.current().to_pylist()}


def said(uri: str, *labels: str, **others) -> label_words.Word:
    return label_words.Word(uri, labels, "person", others.pop("by", "ann"), others.pop("at", NOON), "line 2", **others)


def test_two_labels_for_the_same_content_are_put_aside_of_kind_single_and_joined_of_kind_multi(tmp_path):
    single = Saying(tmp_path / "single", taxonomy(), x="1", copy="1", y="2")
    found = single.say(said("x", "pool"), said("copy", "suite"), said("y", "pool"), said("bad", "pool"))
    assert sorted(each.reason for each in found.rejected) == ["missing", "two_labels", "two_labels"]
    assert "'pool' (x) and 'suite' (copy)" in found.rejected[1].detail
    assert single.current() == {"2": ["pool"]}
    multi = Saying(tmp_path / "multi", MULTI, x="1", copy="1")
    multi.say(said("x", "pool"), said("copy", "suite"))
    assert multi.current() == {"1": ["suite", "pool"]}


def test_the_same_label_for_two_copies_is_said_once(tmp_path):
    shop = Saying(tmp_path, taxonomy(), x="1", copy="1")
    assert shop.say(said("x", "pool"), said("copy", "pool")).n_added == 1


def test_what_was_said_before_is_not_said_again_unless_it_was_taken_back(tmp_path):
    shop = Saying(tmp_path, taxonomy(), x="1")
    shop.say(said("x", "pool"))
    shop.say(said("x", "suite", by="bob"))  # a correction
    again = shop.say(said("x", "pool", at=NOON + timedelta(1)))
    assert (again.n_added, again.n_known) == (0, 1)
    assert shop.current() == {"1": ["suite"]}
    shop.store.undo_last("bob", NOON)
    shop.store.undo_last("bob", NOON)
    assert shop.say(said("x", "pool")).n_added == 1


def test_people_are_heard_in_the_order_of_time_and_an_older_word_does_not_take_back_a_later_one(tmp_path):
    shop = Saying(tmp_path, taxonomy(), x="1")
    shop.say(
        said("x", "suite", by="bob", at=NOON - timedelta(1), is_dated=True),
        said("x", "pool", at=NOON - timedelta(2), is_dated=True),
    )
    assert shop.current() == {"1": ["suite"]}
    found = shop.say(said("x", "pool", by="eve", at=NOON - timedelta(3), is_dated=True))
    assert [each.reason for each in found.rejected] == ["older_word"]
    assert shop.current() == {"1": ["suite"]}
