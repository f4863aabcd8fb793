"""The review of unsure photos: which, in which order, to whom, and what is kept."""

from datetime import timedelta

import numpy as np
import pytest

from recsys.errors import ConfigurationError, InputError
from recsys.images.lab.active_learning import next_batch
from recsys.images.lab.dataset import Dataset
from recsys.images.lab.label_store import LabelStore
from recsys.images.lab.review import Review, by_usefulness, unsure, words_by_person
from tests.helpers.reviewed_photos import AT, LABELS, Photos, photos, review, tagger


def hashes(review: Review, by: str = "ann", n: int = 100, after: float = 0) -> list[str]:
    return [each.image_hash for each in review.hand(by, n, AT + timedelta(minutes=after)).photos]


def test_photos_below_the_sure_margin_are_reviewed_the_least_sure_first():
    margins = np.array([0.5, 0.9, 0.1, 0.89, 0.95], np.float32)
    assert unsure(margins, 0.9).tolist() == [2, 0, 3]


def test_share_reviews_so_many_of_the_least_sure():
    margins = np.array([0.5, 0.9, 0.1, 0.89], np.float32)
    assert unsure(margins, 0.0, share=0.5).tolist() == [2, 0]
    assert unsure(margins, 1.0, share=0).tolist() == []
    with pytest.raises(ConfigurationError, match=r"share == 2, must be in 0\.\.1"):
        unsure(margins, 0.9, share=2)


def test_sure_photos_are_not_shown_and_are_counted_by_label(tmp_path):
    shop = review(tmp_path)
    assert hashes(shop) == ["p6", "p5", "p4", "p3", "p2", "p1"]
    assert shop.sure_labels() == {"suite": 1}
    assert shop.hand("ann", 2, AT).left == shop.open_photos == 6
    shop.decide("ann", {"p6": ["suite"]}, AT)
    assert shop.hand("ann", 2, AT).left == shop.open_photos == 5


def test_order_comes_first_and_what_it_leaves_out_follows(tmp_path):
    seen = []

    def order(positions):
        seen.append(positions.tolist())
        return np.array([2, 5])

    assert hashes(review(tmp_path, order=order)) == ["p2", "p5", "p6", "p4", "p3", "p1"]
    assert seen == [[6, 5, 4, 3, 2, 1]]


def test_order_by_usefulness_is_that_of_active_learning_among_the_unsure_photos():
    shop = photos([f"p{number}" for number in range(9)])
    labelled = Dataset(
        LABELS,
        "single",
        shop.image_hashes[:3],
        shop.image_uris[:3],
        shop.embeddings[:3],
        np.eye(3, dtype=bool),
        np.arange(3),
        np.full(3, "train"),
    )
    positions = np.array([8, 6, 5, 1])  # of which 1 is labelled
    chosen = by_usefulness(shop, labelled)(positions).tolist()
    assert chosen == next_batch(shop.embeddings, np.array([8, 6, 5]), labelled, 9).photos.tolist()
    assert 0 < len(chosen) <= 3
    assert set(chosen) <= {8, 6, 5}


def test_photo_is_shown_with_suggestion_margin_choices_and_the_most_similar_labelled_photos(tmp_path):
    shop = review(tmp_path)
    shop.decide("bob", {"p3": ["suite"], "p1": ["pool"], "p2": []}, AT)
    photo = next(each for each in shop.hand("ann", 9, AT).photos if each.image_hash == "p4")
    assert photo.suggestion == ["pool"]
    assert 0 < photo.margin < 0.9
    assert photo.choices == LABELS
    # p4 and p1 lie between label 1 and 2; p2 between 2 and 0, p3 between 0 and 1, nearer to 0
    assert [(each.image_hash, each.labels) for each in photo.neighbours] == [
        ("p1", ["pool"]),
        ("p2", []),
        ("p3", ["suite"]),
    ]


def test_of_many_labels_keys_choose_the_most_probable_of_the_photo(tmp_path):
    labels = [f"l{number}" for number in range(12)]
    shown = np.zeros((1, 13), np.float32)
    shown[0, [10, 4]] = 0.8, 0.6
    one = Photos(np.array(["p"]), np.array(["p.bmp"]), shown)
    shop = Review(one, tagger(labels=labels, sure=2.0), LabelStore(tmp_path, "rooms"))
    choices = shop.hand("ann", 1, AT).photos[0].choices
    assert (len(choices), choices[:2]) == (9, ["l10", "l4"])


def test_decisions_are_in_the_store_at_once_and_survive_the_process(tmp_path):
    shop = review(tmp_path)
    shop.decide("ann", {"p6": ["pool"], "p5": []}, AT)
    rows = LabelStore(tmp_path, "rooms").current().to_pylist()
    told = {"taxonomy": "rooms", "source": "person", "by": "ann", "at": AT}
    assert rows == [
        {"image_hash": "p5", "image_uri": "p5.bmp", "labels": [], **told},
        {"image_hash": "p6", "image_uri": "p6.bmp", "labels": ["pool"], **told},
    ]
    assert hashes(shop) == hashes(review(tmp_path)) == ["p4", "p3", "p2", "p1"]
    assert shop.decided("ann") == 2


def test_undo_takes_back_one_step_after_the_other(tmp_path):
    shop = review(tmp_path)
    shop.decide("ann", {"p6": ["pool"]}, AT)
    shop.decide("ann", {"p5": ["pool"], "p4": ["suite"]}, AT)
    shop.decide("ann", {"p3": None}, AT)
    shop.decide("ann", {"p5": ["suite"]}, AT)  # a correction
    assert shop.undo("ann", AT) == ["p5"]
    assert shop.words["p5"] == {"ann": ["pool"]}
    assert shop.undo("ann", AT) == ["p3"]
    assert shop.undo("ann", AT) == ["p5", "p4"]
    assert hashes(shop) == hashes(review(tmp_path)) == ["p5", "p4", "p3", "p2", "p1"]
    assert [shop.undo("ann", AT), shop.undo("ann", AT)] == [["p6"], []]
    assert LabelStore(tmp_path, "rooms").current().num_rows == 0


def test_skipped_photo_comes_last(tmp_path):
    shop = review(tmp_path)
    shop.decide("ann", {"p6": None}, AT)
    assert hashes(shop) == ["p5", "p4", "p3", "p2", "p1", "p6"]
    assert shop.decided("ann") == 0
    assert hashes(shop, "bob") == []  # ann holds all
    assert LabelStore(tmp_path, "rooms").history().num_rows == 0


def test_two_people_see_different_photos_until_one_of_them_has_left(tmp_path):
    shop = review(tmp_path)
    assert hashes(shop, "ann", 2) == ["p6", "p5"]
    assert hashes(shop, "bob", 2) == ["p4", "p3"]
    with pytest.raises(InputError, match="labelled by somebody else now"):
        shop.decide("bob", {"p4": ["pool"], "p6": ["pool"]}, AT)
    assert LabelStore(tmp_path, "rooms").current().num_rows == 0  # all or none
    assert hashes(shop, "bob", 3, after=14) == ["p4", "p3", "p2"]
    assert hashes(shop, "bob", 3, after=15) == ["p6", "p5", "p4"]


def test_double_labelling_shows_each_photo_to_two_people_and_starts_with_what_the_other_labelled(tmp_path):
    shop = review(tmp_path, double=True)
    shop.decide("ann", {"p2": ["pool"], "p3": ["pool"]}, AT)
    assert hashes(shop, "ann") == ["p6", "p5", "p4", "p1"]
    assert hashes(shop, "bob") == ["p3", "p2", "p6", "p5", "p4", "p1"]
    shop.decide("bob", {"p2": ["suite"]}, AT)
    assert hashes(shop, "carl", after=60) == ["p3", "p6", "p5", "p4", "p1"]
    shop.undo("ann", AT)  # takes back ann's word, not bob's, which was later
    assert shop.words["p2"] == {"bob": ["suite"]}


def test_wrong_decisions_say_the_rule(tmp_path):
    shop = review(tmp_path)
    for labels, rule in ((["poool"], "did you mean 'pool'"), (["pool", "suite"], "must be one")):
        with pytest.raises(ConfigurationError, match=rule):
            shop.decide("ann", {"p6": labels}, AT)
    with pytest.raises(InputError, match="not in the review"):
        shop.decide("ann", {"nowhere": ["pool"]}, AT)
    strict = Review(photos(["p0", "p1"]), tagger(other=False), LabelStore(tmp_path, "rooms"))
    with pytest.raises(ConfigurationError, match="skip the photo"):
        strict.decide("ann", {"p1": []}, AT)
    none = Photos(np.array([], str), np.array([], str), np.zeros((0, 4), np.float32))
    with pytest.raises(InputError, match="0 photos"):
        Review(none, tagger(), LabelStore(tmp_path, "rooms"))


def test_of_kind_multi_the_margin_is_the_distance_from_a_threshold_and_any_labels_may_be_said(tmp_path):
    multi = Review(photos(["p0", "p1", "p2"]), tagger("multi", other=False, sure=0.49), LabelStore(tmp_path, "rooms"))
    shown = {each.image_hash: each for each in multi.hand("ann", 3, AT).photos}
    assert shown["p0"].suggestion == ["suite"]
    assert shown["p1"].suggestion == ["pool", "bathroom"]
    multi.decide("ann", {"p1": ["pool", "suite"], "p2": []}, AT)
    assert words_by_person(LabelStore(tmp_path, "rooms").history()) == {
        "p1": {"ann": ["pool", "suite"]},
        "p2": {"ann": []},
    }
