from dataclasses import replace

import numpy as np
import pytest

from recsys.errors import ConfigurationError, InputError
from recsys.images.lab import distillation
from recsys.images.lab.dataset import Dataset
from recsys.images.lab.distillation import Scores


def answered(n_photos: int = 200, seed: int = 0) -> Dataset:
    """Photos that show each of three things with chance, and a label that only three photos have."""
    random = np.random.default_rng(seed)
    shown = random.random((n_photos, 4)) < [0.5, 0.3, 0.15, 0]
    shown[:3, 3] = True
    embeddings = np.column_stack([shown @ np.eye(4, 12) + random.normal(0, 0.1, (n_photos, 12))]).astype(np.float32)
    embeddings[:, 11] += 1  # a photo that shows nothing has a direction too
    hashes = np.array([f"{number:03}" for number in range(n_photos)])
    parts = np.where(np.arange(n_photos) % 10 < 7, "train", "test")
    return Dataset(list("abcd"), "multi", hashes, hashes, embeddings, shown, np.arange(n_photos), parts)


def test_labels_are_repeated_and_a_rare_one_is_left_out_with_its_reason():
    found = distillation.distil(answered())
    assert found.head.labels == ["a", "b", "c"]
    assert found.left_out == {"d": "on 3 of 140 training photos, must be on at least 5"}
    assert found.micro.f1 > 0.95
    assert found.accuracy > 0.95 > found.always_no
    assert found.training_photos, found.test_photos == (140, 60)


def test_figures_are_of_the_head_on_the_test_part():
    dataset = answered(seed=1)
    found = distillation.distil(dataset)
    test = dataset.part("test")
    said = found.head.probabilities(test.embeddings) >= found.head.thresholds
    true = test.targets[:, :3]
    assert found.accuracy == (said == true).mean()
    assert found.always_no == (~true).mean()
    assert found.micro == distillation.scores_of(said, true)
    assert found.macro.f1 == pytest.approx(np.mean([each.scores.f1 for each in found.by_label]))
    assert [each.test_photos for each in found.by_label] == true.sum(0).tolist()


def test_labels_of_the_test_part_change_nothing_of_the_head():
    dataset = answered()
    targets = dataset.targets.copy()
    targets[dataset.parts == "test"] = False
    before, after = distillation.distil(dataset), distillation.distil(replace(dataset, targets=targets))
    np.testing.assert_array_equal(before.head.thresholds, after.head.thresholds)
    np.testing.assert_array_equal(before.head.weights[0], after.head.weights[0])
    assert before.sure == after.sure


def test_only_labels_of_50_photos_have_a_threshold_of_their_own():
    probabilities = np.full((100, 3), 0.1)
    targets = np.zeros((100, 3), bool)
    targets[:60, 0], targets[:49, 1], targets[:50, 2] = True, True, True
    probabilities[:60, 0], probabilities[60:, 0] = 0.9, 0.7  # its own threshold lies between .7 and .9
    probabilities[:49, 1], probabilities[:50, 2] = 0.3, 0.3  # below .3 all but the first label are right
    own, shared, also_own = distillation.choose_thresholds(probabilities, targets)
    assert 0.7 < own <= 0.9
    assert 0.1 < shared <= 0.3
    assert 0.1 < also_own <= 0.3


def test_scores_by_hand():
    said = np.array([True, True, True, False, False])
    true = np.array([True, False, False, True, False])
    assert distillation.scores_of(said, true) == Scores(1 / 3, 1 / 2, 2 / 5)
    assert distillation.scores_of(~np.ones(5, bool), true) == Scores(0, 0, 0)


def test_a_label_on_all_photos_is_left_out():
    dataset = answered()
    targets = dataset.targets.copy()
    targets[:, 1] = True
    found = distillation.distil(replace(dataset, targets=targets))
    assert found.left_out["b"] == "on all 140 training photos, must be absent from some"


def test_too_few_answers_and_kind_single_are_errors():
    dataset = answered(20)
    with pytest.raises(InputError, match="14 answered photos to learn from and 6 to test"):
        distillation.distil(dataset)
    with pytest.raises(ConfigurationError, match="kind: multi"):
        distillation.distil(replace(dataset, kind="single"))
    with pytest.raises(InputError, match="no label can be learnt: a: on 0 of 140"):
        distillation.distil(replace(answered(), targets=np.zeros((200, 4), bool)))
