from dataclasses import replace

import numpy as np
import pytest

from recsys.errors import InputError
from recsys.images.lab.evaluation import (
    NONE_OF_THESE,
    HeldOut,
    calibration_error,
    class_reports,
    compare,
    confusion,
    cross_validated,
    hardest,
    held_out,
    is_in_top,
    learning_curve,
    multi_label_report,
    top_accuracies,
    wilson,
)
from recsys.images.lab.training import train
from tests.helpers.random_dataset import labelled_photos

# two labels, six photos: a a b b b none; predicted a b b b a b
TRUE = np.array([[1, 0], [1, 0], [0, 1], [0, 1], [0, 1], [0, 0]], bool)
SAID = np.array([[1, 0], [0, 1], [0, 1], [0, 1], [1, 0], [0, 1]], bool)


def judged(probabilities=None) -> HeldOut:
    photos = replace(labelled_photos((3, 3)), labels=["a", "b"], targets=TRUE)
    if probabilities is None:
        probabilities = np.column_stack([SAID * 0.8 + 0.1, np.full(6, 0.1)]).astype(np.float32)
    return HeldOut(photos, probabilities, SAID, (SAID == TRUE).all(1), np.ones(6, bool), "test part")


def test_wilson_interval_is_that_of_the_textbook():
    # Wilson 1927: (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n), 9 of 10, z = 1.96
    found = wilson(9, 10)
    assert found == pytest.approx((0.9, 0.5958, 0.9821), abs=1e-3)


def test_no_photo_to_measure_on_is_refused():
    with pytest.raises(InputError, match="0 photos to measure on, needs at least 1"):
        wilson(0, 0)


def test_top_n_counts_the_n_most_probable_classes_with_ties_by_column():
    probabilities = np.array([[0.5, 0.3, 0.2], [0.4, 0.4, 0.2], [0.1, 0.2, 0.7]], np.float32)
    classes = np.array([1, 1, 0])
    assert is_in_top(probabilities, classes, 1).tolist() == [False, False, False]
    assert is_in_top(probabilities, classes, 2).tolist() == [True, True, False]
    assert is_in_top(probabilities, classes, 3).all()


def test_n_above_the_number_of_classes_is_refused_and_not_measured():
    probabilities = np.full((2, 3), 1 / 3, np.float32)
    with pytest.raises(InputError, match=r"n == 5, must be in 1..3: the tagger has 3 labels"):
        is_in_top(probabilities, np.array([0, 1]), 5)
    assert list(top_accuracies(probabilities, np.array([0, 1]))) == [1]


def test_calibration_error_is_the_mean_distance_in_bins_of_equal_mass():
    # bins {.2, .4}: confidence .3, right 1/2; {.8, 1.}: confidence .9, right 1/2
    found = calibration_error(np.array([0.2, 0.8, 0.4, 1.0]), np.array([False, True, True, False]), n_bins=2)
    assert found == pytest.approx((0.2 + 0.4) / 2)


def test_classes_have_precision_recall_and_f1_with_none_of_these():
    a, b, none = class_reports(judged())
    assert (a.label, a.precision, a.recall, a.f1, a.support) == ("a", 1 / 2, 1 / 2, 1 / 2, 2)
    assert (b.precision, b.recall, b.f1) == (2 / 4, 2 / 3, 2 * 2 / (4 + 3))
    assert (none.label, none.precision, none.recall, none.support) == (NONE_OF_THESE, None, 0, 1)


def test_class_that_no_measured_photo_shows_has_no_recall():
    held = judged()
    a, b = class_reports(replace(held, photos=replace(held.photos, targets=np.tile([False, True], (6, 1)))))
    assert (a.support, a.recall, a.f1) == (0, None, None)
    assert a.precision == 0
    assert b.support == 6


def test_confusion_counts_true_by_predicted_class():
    assert confusion(judged()).tolist() == [[1, 1, 0], [1, 2, 0], [0, 1, 0]]


def test_hardest_photos_are_those_with_the_least_probable_own_class():
    probabilities = np.array([[0.9, 0.1, 0], [0.2, 0.7, 0.1], [0, 1, 0], [0, 1, 0], [0.6, 0.4, 0], [0.1, 0.8, 0.1]])
    assert hardest(judged(probabilities), 3).tolist() == [5, 1, 4]


def test_multi_label_averages_over_answers_and_over_labels():
    targets = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [1, 0, 0]], bool)
    said = np.array([[1, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 0]], bool)
    found = multi_label_report(said, targets)
    assert found.micro == pytest.approx((3 / 4, 3 / 5, 6 / 9))
    assert found.macro == pytest.approx(((1 + 1 / 2) / 2, (2 / 3 + 1 / 2) / 2, (4 / 5 + 2 / 4) / 2))
    assert found.accuracy == 9 / 12
    assert found.always_no == pytest.approx(7 / 12)


def test_versions_are_compared_by_photos_that_one_has_right():
    new = np.array([True] * 8 + [False] * 1 + [True] * 11)
    old = np.array([False] * 8 + [True] * 1 + [True] * 11)
    found = compare(new, old)
    assert (found.only_new, found.only_old) == (8, 1)
    # two-sided binomial, 9 photos: 2 · (1 + 9) / 2⁹
    assert found.p_value == pytest.approx(2 * 10 / 512)
    assert found.difference.value == 7 / 20
    # (8.5 - 1.5) / 22 ± 1.96 √(10 - 49/22) / 22
    half = 1.96 * (10 - 49 / 22) ** 0.5 / 22
    assert found.difference[1:] == pytest.approx((7 / 22 - half, 7 / 22 + half), abs=1e-4)


def test_equal_versions_do_not_differ():
    right = np.array([True, False, True])
    assert compare(right, right).p_value == 1
    assert compare(right, right).difference.value == 0


def test_figures_come_from_five_folds_where_the_test_part_is_small():
    photos = labelled_photos(spread=0.2)
    trained = train(photos, "linear")
    found = held_out(photos, trained.head, trained.sure, "linear")
    assert (found.source, len(found.photos)) == ("5 folds", 120)
    assert found.is_right.mean() > 0.95
    large = labelled_photos((800, 800), spread=0.2)
    found = held_out(large, train(large, "linear").head, 0.0, "linear")
    assert (found.source, len(found.photos)) == ("test part", 320)


def test_cross_validation_of_random_labels_is_chance():
    photos = labelled_photos((200, 200))
    shuffled = replace(photos, targets=np.random.default_rng(1).permutation(photos.targets))
    assert 0.4 < cross_validated(shuffled, "linear").is_right.mean() < 0.6


def test_learning_curve_says_how_many_photos_the_target_needs():
    photos = labelled_photos((120, 120, 120), spread=1.2, n_features=32)
    curve = learning_curve(photos, target=0.97)
    sizes, accuracies = zip(*curve.points, strict=True)
    assert sizes == (29, 52, 92, 161, 288)
    assert accuracies[-1].value > accuracies[0].value
    assert curve.needed.low <= curve.needed.value <= curve.needed.high
    assert curve.needed.low > 288
    assert learning_curve(photos, target=0.5).needed is None


def test_learning_curve_of_chance_never_reaches_the_target():
    photos = labelled_photos((200, 200))
    shuffled = replace(photos, targets=np.random.default_rng(1).permutation(photos.targets))
    assert np.isinf(learning_curve(shuffled, target=0.9).needed.high)
