from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from recsys.errors import EmptyInputError, InputError, ModelError
from recsys.images.lab.head import Head, unit_length
from recsys.images.lab.training import (
    choose_thresholds,
    fit_linear,
    fit_temperature,
    folds_of,
    is_right,
    learnable,
    out_of_fold_probabilities,
    sure_margin,
    train,
    train_head,
)
from tests.helpers.random_dataset import labelled_photos


def test_linear_head_is_that_of_an_independent_implementation():
    photos = labelled_photos()
    peer = LogisticRegression(C=10, tol=1e-8, max_iter=5000).fit(unit_length(photos.embeddings), photos.classes)
    expected = peer.predict_proba(unit_length(photos.embeddings))
    np.testing.assert_allclose(fit_linear(photos, 0.1).probabilities(photos.embeddings), expected, atol=0.01)


def test_multi_label_head_is_one_binary_regression_per_label():
    photos = labelled_photos()
    multi = replace(photos, kind="multi", targets=np.column_stack([photos.targets[:, 0], photos.targets[:, 1:].any(1)]))
    multi = replace(multi, labels=["a", "b"])
    found = fit_linear(multi, 0.1).probabilities(multi.embeddings)
    peer = LogisticRegression(C=10, tol=1e-8, max_iter=5000).fit(unit_length(photos.embeddings), photos.classes == 0)
    np.testing.assert_allclose(found[:, 0], peer.predict_proba(unit_length(photos.embeddings))[:, 1], atol=0.01)


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_heads_recognise_photos_that_they_have_not_learnt(kind):
    photos = labelled_photos(spread=0.2)
    test = photos.part("test")
    assert (train_head(photos, kind).probabilities(test.embeddings).argmax(1) == test.classes).mean() > 0.95


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_same_seed_gives_the_same_head(kind):
    one, other = (train_head(labelled_photos(), kind, seed=3) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(one.weights, other.weights, strict=True))


def test_test_part_is_not_looked_at():
    photos = labelled_photos()
    wrong = replace(
        photos, targets=np.where((photos.parts == "test")[:, None], photos.targets[:, ::-1], photos.targets)
    )
    assert np.array_equal(train_head(photos, "linear").weights[0], train_head(wrong, "linear").weights[0])


def test_best_is_linear_where_the_mlp_is_not_clearly_better():
    assert len(train_head(labelled_photos(spread=0.2), "best").weights) == 1


def test_best_is_the_mlp_where_no_line_separates_the_labels():
    random = np.random.default_rng(0)
    corners = random.choice([0.2, 1.0], (600, 2)).astype(np.float32)
    photos = labelled_photos((300, 300), n_features=3)
    embeddings = np.column_stack([corners + random.normal(0, 0.05, (600, 2)), np.ones(600)]).astype(np.float32)
    targets = (corners[:, 0] == corners[:, 1])[:, None] == [True, False]
    assert len(train_head(replace(photos, embeddings=embeddings, targets=targets), "best").weights) == 2


def test_photos_without_a_label_teach_none_of_these():
    photos = labelled_photos(others=40, spread=0.2)
    head = train_head(photos, "linear")
    assert head.has_other
    assert (head.probabilities(photos.embeddings).argmax(1) == photos.classes).mean() > 0.95


def test_out_of_fold_probabilities_of_random_labels_are_no_better_than_chance():
    photos = labelled_photos((200, 200))
    shuffled = replace(photos, targets=np.random.default_rng(1).permutation(photos.targets))
    found = out_of_fold_probabilities(shuffled)
    assert found.sum(1) == pytest.approx(1, abs=1e-5)
    assert 0.4 < (found.argmax(1) == shuffled.classes).mean() < 0.6


def test_copies_of_a_photo_are_in_one_fold_and_labels_are_spread():
    photos = labelled_photos((20, 30, 50))
    photos = replace(photos, groups=np.arange(100) // 2)
    folds = folds_of(photos, 5)
    assert (folds[::2] == folds[1::2]).all()
    assert np.bincount(folds).tolist() == [20] * 5
    alone = replace(photos, groups=np.arange(100))
    assert photos.targets.shape == (100, 3)
    for label in alone.targets.T:
        counts = np.bincount(folds_of(alone, 5)[label], minlength=5)
        assert counts.max() - counts.min() <= 1


def test_fewer_groups_than_folds_are_refused():
    photos = replace(labelled_photos(), groups=np.arange(120) % 3)
    with pytest.raises(EmptyInputError, match="3 groups of photos, needs 5: label photos of more sales"):
        train_head(photos)


def test_one_class_only_is_refused():
    photos = labelled_photos()
    with pytest.raises(EmptyInputError, match=r"of 1 different labels \(label 1\), needs at least 2"):
        train_head(photos.where(photos.targets[:, 1]))


def test_embeddings_that_are_no_numbers_are_refused():
    photos = labelled_photos()
    photos.embeddings[3, 1] = np.nan
    with pytest.raises(InputError, match="must be finite"):
        train_head(photos)


def test_embeddings_of_another_width_are_refused():
    with pytest.raises(ModelError, match=r"embeddings have 8 features, the head takes 16: .* train the tagger again"):
        fit_linear(labelled_photos()).probabilities(labelled_photos(n_features=8).embeddings)


def test_label_with_fewer_than_5_photos_is_left_out_with_its_photos():
    photos = labelled_photos((40, 3, 50))
    rest, left_out = learnable(photos)
    n_test = int((photos.targets[:, 1] & (photos.parts == "test")).sum())
    assert left_out == {"label 1": 3 - n_test}
    assert rest.labels == ["label 0", "label 2"]
    assert len(rest) == 90
    assert rest.targets.sum(0).tolist() == [40, 50]


def test_label_with_5_photos_is_learnt():
    photos = labelled_photos((40, 5, 50))
    rest, left_out = learnable(replace(photos, parts=np.full(95, "train")))
    assert left_out == {}
    assert rest.labels == photos.labels


def test_too_few_labels_are_refused_with_their_counts():
    with pytest.raises(
        EmptyInputError, match=r"1 label with at least 5 photos outside the test part, needs 2 \('label 0"
    ):
        learnable(labelled_photos((40, 2)))


def test_temperature_undoes_a_scale_of_logits():
    random = np.random.default_rng(0)
    logits = random.normal(size=20_000).astype(np.float32)[:, None]
    targets = (random.random((20_000, 1)) < expit(logits)).astype(np.float32)
    assert fit_temperature(3 * logits, targets, "multi") == pytest.approx(3, rel=0.05)


def test_thresholds_are_of_the_best_f1():
    # halfway between 0.7 and 0.3: all three right, none wrong
    probabilities = np.array([[0.9], [0.8], [0.7], [0.3]], np.float32)
    targets = np.array([[True], [True], [True], [False]])
    assert choose_thresholds(probabilities, targets) == pytest.approx([0.5])


def test_label_with_50_positives_gets_a_threshold_of_its_own():
    common, rare = np.repeat([0.3, 0.1], 50), np.repeat([0.9, 0.6, 0.2], [10, 10, 80])
    targets = np.column_stack([np.arange(100) < 50, np.arange(100) < 10])
    found = choose_thresholds(np.column_stack([common, rare]).astype(np.float32), targets)
    assert found[0] == pytest.approx(0.2)
    # 60 answers of 0.3 or more of which 60 are right, and 10 of 0.6: F1 120 / 130 from 0.3 on
    assert found[1] == pytest.approx(0.25)


def test_sure_photos_are_those_with_margins_from_which_enough_are_right():
    head = Head("single", ["a", "b"], [], [np.zeros(2, np.float32)])
    probabilities = np.array([[0.95, 0.05], [0.1, 0.9], [0.8, 0.2], [0.6, 0.4]], np.float32)
    targets = np.array([[True, False], [False, True], [True, False], [False, True]])  # the last one is wrong
    assert is_right(head, probabilities, targets).tolist() == [True, True, True, False]
    assert sure_margin(head, probabilities, targets, accuracy=0.95) == pytest.approx(0.6)
    assert sure_margin(head, probabilities, targets, accuracy=0.75) == 0.0
    assert sure_margin(head, probabilities, ~targets, accuracy=0.95) == 1.0


def test_predictions_of_training_are_of_held_out_photos_and_calibrated():
    photos = labelled_photos((300, 300, 300), spread=0.9)
    trained = train(photos, "linear")
    assert trained.is_judged.tolist() == (photos.parts != "test").tolist()
    right = trained.probabilities.argmax(1) == photos.classes[trained.is_judged]
    assert trained.probabilities.max(1).mean() == pytest.approx(right.mean(), abs=0.02)
    learnt = (
        trained.head.probabilities(photos.embeddings[trained.is_judged]).argmax(1) == photos.classes[trained.is_judged]
    )
    assert right.mean() < learnt.mean()
