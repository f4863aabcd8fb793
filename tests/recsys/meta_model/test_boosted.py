from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from recsys.meta_model import BoostedModel, MetaModelSettings, meta_model_from_json, probability
from recsys.meta_model import boosted as module
from recsys.meta_model.base import BoostedSettings
from recsys.meta_model.training import Examples, evaluate, predict, train
from recsys.testing.closeness import assert_close

SETTINGS = MetaModelSettings(kind="boosted", boosted=BoostedSettings(trees=40, leaves=6, min_examples=20))


def examples(n: int = 3000) -> Examples:
    """Bought if a and b have the same sign, an interaction; c has no influence; a repeat halves the probability."""
    rng = np.random.default_rng(3)
    features = rng.normal([0, 0, 5], 1, (n, 3)).astype(np.float32)
    repeat = rng.random(n) < 0.3
    chance = np.where(features[:, 0] * features[:, 1] > 0, 0.6, 0.1) * np.where(repeat, 0.5, 1)
    bought = rng.random(n) < chance
    return Examples(["a", "b", "c"], features, bought, np.where(bought, 1.0, 0.25), repeat, np.zeros(n, int))


@pytest.fixture(scope="module")
def sample() -> Examples:
    return examples()


@pytest.fixture(scope="module")
def model(sample: Examples) -> BoostedModel:
    found = train(sample, SETTINGS)
    assert isinstance(found, BoostedModel)
    return found


def raw(model: BoostedModel, features: np.ndarray, repeat: np.ndarray) -> np.ndarray:
    return model.booster.predict(np.column_stack([features, repeat]).astype(np.float32), raw_score=True)


def test_log_odds_are_those_of_the_trees_corrected_for_the_sampling(model: BoostedModel, sample: Examples) -> None:
    assert model.correction == pytest.approx(-np.log(4), abs=0.1)  # each negative example stands for four
    found = model.log_odds(sample.features.T, np.nonzero(sample.repeat))
    assert_close(found, raw(model, sample.features, sample.repeat) + model.correction, terms=1)  # rounded to float32
    assert found.dtype == np.float32


def test_trees_learn_an_interaction_that_the_logistic_regression_cannot(sample: Examples) -> None:
    line = train(sample, MetaModelSettings(kind="logistic"))
    boosted = train(sample, SETTINGS)
    assert evaluate(line, sample)["auc"] < 0.65
    assert evaluate(boosted, sample)["auc"] > 0.75


def test_number_of_predicted_purchases_is_the_number_made(model: BoostedModel, sample: Examples) -> None:
    weights = 1 / sample.sampling_rate
    assert predict(model, sample) @ weights == pytest.approx(sample.bought.sum(), rel=1e-5)


def test_repeat_purchase_has_other_odds(model: BoostedModel) -> None:
    cell = np.ones((3, 1, 1), np.float32)
    new, repeat = (model.log_odds(cell, cells) for cells in (None, (np.array([0]), np.array([0]))))
    assert probability(repeat)[0, 0] < 0.8 * probability(new)[0, 0]


def test_trees_are_evaluated_at_the_first_position_of_a_page(sample: Examples) -> None:
    rng = np.random.default_rng(1)
    position = np.where(rng.random(3000) < 0.5, rng.integers(1, 11, 3000), 0)
    shown = train(replace(sample, position=position), SETTINGS)
    assert shown.held == [1.0, 1.0, 1.0]
    columns = np.column_stack([sample.features, sample.repeat, np.ones((3000, 3))]).astype(np.float32)
    found = shown.log_odds(sample.features.T, np.nonzero(sample.repeat))
    assert_close(found, shown.booster.predict(columns, raw_score=True) + shown.correction, terms=1)
    assert predict(shown, sample) @ (1 / sample.sampling_rate) == pytest.approx(sample.bought.sum(), rel=1e-5)


def test_log_odds_do_not_depend_on_the_layout_in_memory(model: BoostedModel) -> None:
    features = np.random.default_rng(3).normal(size=(3, 4, 2)).astype(np.float32)
    side_by_side = np.ascontiguousarray(features.transpose(1, 0, 2)).transpose(1, 0, 2)
    assert_array_equal(model.log_odds(side_by_side), model.log_odds(features))


def test_scores_do_not_depend_on_the_size_of_the_batches(
    model: BoostedModel, sample: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns, repeat = sample.features.T, np.nonzero(sample.repeat)
    at_once = model.log_odds(columns, repeat)
    monkeypatch.setattr(module, "CELLS_AT_ONCE", 701)
    assert_array_equal(model.log_odds(columns, repeat), at_once)


def test_contributions_add_up_to_the_log_odds(model: BoostedModel, sample: Examples) -> None:
    values, repeat = sample.features[:12].T.reshape(3, 4, 3), np.zeros((4, 3), bool)
    added = model.contributions(values, repeat)
    assert added.shape == (3, 4, 3)
    rows = np.column_stack([sample.features[:12], np.zeros(12)])
    bought_before, expected = model.booster.predict(rows, pred_contrib=True)[:, 3:].T.reshape(2, 4, 3)
    log_odds = model.log_odds(values)
    parts = np.concatenate([added, [bought_before, expected, np.full((4, 3), model.correction)]])
    size = np.abs(parts).sum(axis=0)
    assert_close(parts.sum(axis=0), log_odds, terms=len(parts), dtype=np.float32, scale=size)
    assert np.abs(added[:2]).max() > 0.2


def test_model_read_back_from_json_is_the_same(model: BoostedModel, sample: Examples) -> None:
    found = meta_model_from_json(model.to_json())
    assert found == model
    assert_array_equal(predict(found, sample), predict(model, sample))


def test_same_examples_and_seed_make_the_same_trees(model: BoostedModel, sample: Examples) -> None:
    assert train(sample, SETTINGS) == model


def test_model_over_other_features_has_missing_ones_at_their_mean_and_ignores_unknown_ones(
    model: BoostedModel, sample: Examples
) -> None:
    changed = model.over(["new", "b", "a"])
    a, b = sample.features[:50, :2].T
    found = changed.log_odds(np.stack([np.full(50, 9, np.float32), b, a]))
    expected = raw(model, np.column_stack([a, b, np.full(50, sample.features[:, 2].mean())]), np.zeros(50))
    assert_close(found, expected + model.correction, terms=1)
    assert changed.over(["b", "a"]) == model.over(["b", "a"])
    assert changed.coefficients_by_feature["new"] == 0
    values = np.stack([np.full((1, 4), 9, np.float32), b[None, :4], a[None, :4]])
    assert_array_equal(changed.contributions(values, np.zeros((1, 4), bool))[0], np.zeros((1, 4)))


def test_importances_are_shares_of_the_loss_reduction_of_all_splits(model: BoostedModel) -> None:
    coefficients_by_feature = model.coefficients_by_feature
    assert list(coefficients_by_feature) == ["a", "b", "c"]
    assert min(coefficients_by_feature["a"], coefficients_by_feature["b"]) > 2 * coefficients_by_feature["c"] > 0
    assert sum(coefficients_by_feature.values()) < 1  # the indicator of repeat purchases has a share too


@pytest.mark.parametrize("changes", [{"trees": 0}, {"leaves": 1}, {"learning_rate": 0}, {"learning_rate": 1.5}])
def test_settings_of_trees_have_limits(changes: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        BoostedSettings(**changes)
