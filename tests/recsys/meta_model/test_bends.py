"""Coefficients that change at some values of their feature."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from recsys.meta_model import LogisticModel, MetaModelSettings, Weights, meta_model_from_json, probability
from recsys.meta_model.training import Examples, evaluate, train

BENT = LogisticModel(
    features=["popularity", "activity"],
    means=[1.0, 2.0],
    scales=[2.0, 4.0],
    coefficients=[3.0, -1.0],
    intercept=-2.0,
    repeat=Weights([0.0, 4.0], 1.0, [[], [2.0]], [[], [8.0]]),
    knots=[[0.0, 3.0], []],
    bends=[[-4.0, 2.0], []],
)


def added_by_popularity(value: float) -> float:
    """Return 3/2 below 0, -1/2 from 0 to 3 and 1/2 above it, as slopes; 0 at the mean, 1."""
    return 1.5 * (value - 1) - 2 * (max(value, 0) - 1) + 1 * max(value - 3, 0)


def test_bent_line_has_another_slope_above_each_knot():
    popularity, activity = [-1, 0, 1, 3, 5], [2, 6, -2, 2, 0]
    found = BENT.log_odds(np.array([popularity, activity], np.float32))
    expected = [-2 + added_by_popularity(x) - (y - 2) / 4 for x, y in zip(popularity, activity, strict=True)]
    assert expected[0] == -2 + 1.5 * -2 + 2
    assert_allclose(found, expected, rtol=1e-6)


def test_repeat_purchases_have_bends_of_their_own():
    features = np.array([[[-1, 5]], [[4, 1]]], np.float32)
    found = BENT.log_odds(features, (np.array([0, 0]), np.array([0, 1])))
    assert_allclose(found, [[1 + 4 * (4 - 2) / 4 + 8 * (4 - 2) / 4, 1 + 4 * (1 - 2) / 4]], rtol=1e-6)


def test_contributions_add_up_to_the_log_odds_above_the_intercept():
    values = np.random.default_rng(0).normal(0, 4, (2, 50)).astype(np.float32)
    for is_repeat, intercept in ((False, -2.0), (True, 1.0)):
        cells = np.flatnonzero(np.full(50, is_repeat))
        added = BENT.contributions(values, np.full(50, is_repeat)).sum(axis=0)
        assert_allclose(added + intercept, BENT.log_odds(values, (cells,)), rtol=1e-4, atol=1e-5)
    assert_allclose(BENT.contributions(np.array(BENT.means, np.float32)[:, None], np.array([False])), 0, atol=1e-6)


def test_effects_are_the_difference_of_the_log_odds():
    before, after = np.random.default_rng(1).normal(0, 4, (2, 2, 30)).astype(np.float32)
    everything = (np.arange(30),)
    expected = [
        BENT.log_odds(after, cells) - BENT.log_odds(before, cells) for cells in ((np.array([], int),), everything)
    ]
    assert_allclose(BENT.effects(before, after), expected, atol=1e-4)


def test_coefficient_that_is_shown_is_what_one_deviation_above_the_mean_adds():
    assert BENT.coefficients_by_feature == {"popularity": added_by_popularity(3), "activity": -1}
    assert BENT.repeat_coefficients_by_feature == {"popularity": 0, "activity": 4 + 8}
    assert replace(BENT, repeat=None).repeat_coefficients_by_feature == BENT.coefficients_by_feature


def test_model_over_other_features_keeps_its_bends():
    wider = BENT.over(["new", "activity", "popularity"])
    values = np.random.default_rng(2).normal(0, 4, (3, 20)).astype(np.float32)
    for cells in ((np.array([], int),), (np.arange(20),)):
        assert_allclose(wider.log_odds(values, cells), BENT.log_odds(values[[2, 1]], cells), rtol=1e-4, atol=1e-5)
    narrower = BENT.over(["activity"])
    at_the_mean = np.stack([np.full(20, 1, np.float32), values[1]])
    assert_allclose(narrower.log_odds(values[1:2]), BENT.log_odds(at_the_mean), rtol=1e-5)


def test_model_with_bends_comes_back_from_json():
    assert meta_model_from_json(BENT.to_json()) == BENT


def examples(n_pages: int, n_sales: int, seed: int) -> Examples:
    """Return pages whose sales are bought if a feature is far above its mean; below it, it makes no difference."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n_pages * n_sales, 2)).astype(np.float32)
    score = 4 * np.maximum(features[:, 0] - 0.8, 0) + 0.5 * features[:, 1] - 4
    bought = rng.random(len(score)) < 1 / (1 + np.exp(-score))
    page = np.repeat(np.arange(n_pages), n_sales)
    nothing = np.zeros(len(score), bool)
    return Examples(
        ["bent", "straight"], features, bought, np.ones(len(score)), nothing, nothing.astype(np.int32), page
    )


@pytest.mark.parametrize("kind", ["logistic", "conditional"])
def test_training_finds_where_a_feature_begins_to_matter(kind):
    model, line = (train(examples(2_000, 15, 0), MetaModelSettings(kind=kind, bends=bends)) for bends in (True, False))
    assert isinstance(model, LogisticModel)
    curve = model.contributions(np.array([[-2, -1, 0.5, 2, 3], [0, 0, 0, 0, 0]], np.float32), np.zeros(5, bool))[0]
    rises = np.diff(curve) / [1, 1.5, 1.5, 1]
    assert np.abs(rises[:2]).max() < 0.6
    assert rises[3] == pytest.approx(4, rel=0.25)
    later = examples(1_000, 15, 1)
    assert evaluate(model, later)["log_loss"] < 0.99 * evaluate(line, later)["log_loss"]
    knots = np.array(model.knots)
    assert_allclose(knots[0], np.quantile(examples(2_000, 15, 0).features[:, 0], [0.5, 0.8, 0.95]), atol=1e-5)


@pytest.mark.parametrize("kind", ["logistic", "conditional"])
def test_intercept_makes_the_purchases_predicted_those_made_before_calibration(kind):
    rows = examples(1_000, 15, 2)
    model = replace(train(rows, MetaModelSettings(kind=kind)), calibration=None)
    assert probability(model.log_odds(rows.features.T)).sum() == pytest.approx(rows.bought.sum(), rel=1e-3)


def test_feature_without_two_values_has_no_bends():
    rows = examples(300, 10, 0)
    rows.features[:, 1] = 7
    model = train(rows, MetaModelSettings(kind="logistic"))
    assert isinstance(model, LogisticModel)
    assert model.bends[1] == [0, 0, 0]
    assert np.isfinite(model.log_odds(rows.features[:5].T)).all()
