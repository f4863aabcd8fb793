"""Agreement of two people."""

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from recsys.images.lab.agreement import NONE_OF_THESE, Kappa, agreements, kappa_of


def test_kappa_is_that_of_the_worked_example():
    # Cohen 1960, table 1 in counts of 200: kappa (.70 - .41) / (1 - .41) = .492
    kappa = kappa_of(np.array([[88, 14, 18], [10, 40, 10], [2, 6, 12]], float))
    assert kappa.value == pytest.approx((0.70 - 0.41) / (1 - 0.41))


def test_interval_of_kappa_is_that_of_resampling():
    table = np.array([[60, 70, 5], [2, 40, 10], [1, 1, 11]], float)  # one says what the other seldom says
    kappa = kappa_of(table)
    drawn = np.random.default_rng(1).multinomial(200, table.ravel() / 200, 4000).reshape(-1, 3, 3)
    error = np.std([kappa_of(each.astype(float)).value for each in drawn])
    assert (kappa.high - kappa.low) / 2 / 1.96 == pytest.approx(error, rel=0.05)


def test_two_people_are_compared_on_the_photos_that_both_labelled():
    words = {
        "a": {"ann": ["pool"], "bob": ["pool"]},
        "b": {"ann": ["pool"], "bob": ["suite"]},
        "c": {"ann": ["suite"], "bob": ["suite"]},
        "d": {"ann": [], "bob": []},
        "e": {"ann": ["suite"]},
        "f": {"bob": ["suite"], "carl": ["suite"]},
    }
    first, second = agreements(words, ["suite", "pool", "bathroom"])
    assert (first.one, first.other, first.n_photos, first.same) == ("ann", "bob", 4, 0.75)
    one, other = ["pool", "pool", "suite", ""], ["pool", "suite", "suite", ""]
    assert first.kappa.value == pytest.approx(cohen_kappa_score(one, other))
    assert list(first.by_label) == ["suite", "pool", NONE_OF_THESE]  # bathroom was never said
    for label, kappa in first.by_label.items():
        expected = cohen_kappa_score([each == label for each in one], [each == label for each in other])
        assert kappa.value == pytest.approx(expected), label
    assert [(each.image_hash, each.one, each.other) for each in first.differences] == [("b", ["pool"], ["suite"])]
    assert (second.one, second.other) == ("bob", "carl")
    assert second.kappa == Kappa(None, None, None)  # both always say suite


def test_several_labels_of_a_photo_are_compared_label_by_label():
    words = {"a": {"ann": ["x", "y"], "bob": ["y", "x"]}, "b": {"ann": ["x"], "bob": []}}
    (found,) = agreements(words, ["x", "y"])
    assert found.same == 0.5
    assert found.kappa.value == pytest.approx(cohen_kappa_score([1, 1, 0, 1, 0, 0], [1, 1, 0, 0, 0, 1]))
